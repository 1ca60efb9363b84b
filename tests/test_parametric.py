from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import gammaincc

from perfnb.classical import gamma_dictionary
from perfnb.classical.deconvolution import deconvolve
from perfnb.classical.disturbances import TR_S, disturb
from perfnb.classical.gamma_curves import peak_time, read, residue_weights, tabulate
from perfnb.classical.reference_object import reference_object, score
from perfnb.metrics.lesions import late_threshold

ECHO_TIME_S = 0.029


def fitted(made, **settings):
    settings = {"echo_time_s": ECHO_TIME_S} | settings
    return deconvolve(
        made.tissue, made.aif, made.repetition_time_s, "parametric", made.arrival, **settings
    )


@pytest.fixture(scope="module")
def table():
    made = reference_object(snr=None, repeats=1)
    return tabulate(made.aif, 1.4, torch.float64)


@pytest.mark.parametrize(("alpha", "mtt"), [(1.0, 4.0), (3.0, 2.0), (60.0, 12.0), (0.5, 20.0)])
def test_residue_weights_are_the_integral_of_the_residue(alpha, mtt):
    weights = residue_weights(np.array([alpha]), np.array([mtt]), 0.2, 200)[0]
    fine = (np.arange(40 * 5000) + 0.5) / 5000
    hat = np.clip(1 - np.abs(fine[:, None] / 0.2 - np.array([0, 7, 50])), 0, None)
    expected = (gammaincc(alpha, alpha * fine / mtt)[:, None] * hat).sum(axis=0) / 5000
    np.testing.assert_allclose(weights[[0, 7, 50]], expected, atol=2e-4)


def test_curves_of_the_table_are_those_of_a_plain_convolution(table):
    made = reference_object(snr=None, repeats=1, residue="gamma", delays_s=(1.4,))
    chosen = (made.truth["CBV"] == 4) & (made.truth["MTT"] == 8)
    place = torch.tensor([[np.log(3.0), np.log(8.0), 1.4]], dtype=torch.float64)
    curve = read(table, place)[0][0].numpy() * 4 / (100 * 0.73 / 1.04)
    np.testing.assert_allclose(curve, made.tissue[chosen][0], atol=0.01 * curve.max())


def test_derivatives_of_the_table_are_those_of_its_curves(table):
    place = torch.tensor([[0.9, 1.7, 2.13], [3.0, 2.9, -1.13]], dtype=torch.float64)
    peak, peak_by = peak_time(table, place)
    curves, by = read(table, place)
    assert (curves.argmax(dim=1) * 1.4 - peak).abs().max() < 1.0
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-6
        numeric = (read(table, place + step)[0] - curves) / 1e-6
        torch.testing.assert_close(by[:, axis], numeric, rtol=1e-4, atol=1e-4)
        peak_change = (peak_time(table, place + step)[0] - peak) / 1e-6
        torch.testing.assert_close(peak_by[:, axis], peak_change, rtol=1e-4, atol=1e-4)


def test_noise_free_curves_are_recovered():
    made = reference_object(residue="gamma", snr=None, repeats=1)
    found = fitted(made, dtype="float64")
    slow = made.truth["MTT"] >= 6  # faster than the frames show otherwise
    for name, tolerance in {"CBF": 0.05, "CBV": 0.02, "MTT": 0.05}.items():
        np.testing.assert_allclose(
            found.maps[name][slow], made.truth[name][slow], rtol=tolerance, err_msg=name
        )
    np.testing.assert_allclose(found.delay_s[slow], made.truth["Tmax"][slow], atol=0.15)
    np.testing.assert_allclose(found.shape[slow], 3, rtol=0.15)
    assert found.residual.max() < 0.02 * made.tissue.max()


@pytest.mark.parametrize("repetition_time_s", [1.4, 2.2])
def test_accuracy_on_the_reference_object(repetition_time_s):
    made = reference_object(repetition_time_s, repeats=2)
    scores = score(fitted(made).maps, made.truth)
    assert scores["CBF"].rmse < 11.5 and abs(scores["CBF"].bias) < 5
    assert scores["MTT"].rmse < 4.5 and scores["CBV"].rmse < 0.35
    assert scores["Tmax"].rmse < (1.1 if repetition_time_s == 1.4 else 1.3)
    assert scores["TTP"].rmse < 1.4


def test_the_shape_of_the_residue_is_free():
    shapes = {}
    for residue in ("exponential", "box"):
        made = reference_object(residue=residue, snr=200.0, repeats=1)
        found = fitted(made)
        shapes[residue] = np.median(found.shape)
        assert abs(score(found.maps, made.truth)["CBF"].bias) < 8  # an exponential fit: +38
    assert shapes["exponential"] < 1.5 and shapes["box"] > 20


@pytest.mark.parametrize(("dispersion_s", "is_late"), [(0.0, False), (3.0, True)])
def test_dispersed_tissue_is_late_by_the_rule_of_its_method(dispersion_s, is_late):
    made, frames = disturb("dispersion [s]", dispersion_s), 2
    tissue = np.pad(made.tissue, [(0, 0), (frames, 0)])[:, :-frames]  # 2.8 s late
    ratio = 4 / dispersion_s if is_late else np.inf  # residue and dispersion are exponential
    true_s = frames * TR_S + (4 * np.log(ratio) / (ratio - 1) if is_late else 0)
    found = {
        method: deconvolve(tissue, made.aif, TR_S, method, made.arrival).maps["Tmax"].item()
        for method in ("parametric", "block-circulant SVD")
    }
    assert (true_s > late_threshold("")) == is_late
    for method, tmax in found.items():
        assert (tmax > late_threshold(method)) == is_late, method
    assert found["parametric"] < late_threshold("block-circulant SVD")


def test_standard_errors_cover_the_errors():
    made = reference_object(residue="gamma", repeats=2)
    found = fitted(made)
    assert set(found.standard_error) == set(found.maps)
    for name, values in found.maps.items():
        within = np.abs(values - made.truth[name]) < found.standard_error[name]
        assert 0.5 < within.mean() < 0.92, name  # 0.68 of a normal distribution


def test_knowing_the_baseline_pays():
    made = reference_object(residue="gamma", repeats=2)
    known = score(fitted(made).maps, made.truth)["CBV"].rmse
    made = type(made)(**{**vars(made), "arrival": 0})
    assert known < 0.8 * score(fitted(made).maps, made.truth)["CBV"].rmse


def test_single_and_double_precision_agree():
    made = reference_object(repeats=1)
    single, double = fitted(made), fitted(made, dtype="float64")
    assert single.maps["CBF"].dtype == np.float32 and double.maps["CBF"].dtype == np.float64
    for name in single.maps:
        difference = np.abs(single.maps[name] - double.maps[name])
        assert np.quantile(difference / double.standard_error[name], 0.99) < 0.1, name


def test_voxels_do_not_depend_on_their_neighbours():
    made = reference_object(repeats=1)
    alone = deconvolve(made.tissue[5:8], made.aif, 1.4, "parametric", made.arrival).maps
    among = deconvolve(made.tissue, made.aif, 1.4, "parametric", made.arrival).maps
    for name in alone:
        np.testing.assert_allclose(alone[name], among[name][5:8], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("prior", ["flat", "vascular"])
def test_what_the_dictionary_leaves_out_is_not_missed(prior, monkeypatch):
    made = reference_object(repeats=1)
    tissue = made.tissue[np.argsort(made.truth["Tmax"], kind="stable")]  # neighbours are alike
    tissue[-10:] = np.random.default_rng(1).normal(0, 1, tissue[-10:].shape)  # without a bolus
    made = replace(made, tissue=tissue)
    found = fitted(made, prior=prior, dtype="float64")
    monkeypatch.setattr(gamma_dictionary, "NEGLIGIBLE", np.inf)
    monkeypatch.setattr(gamma_dictionary, "FEW", 0.0)
    whole = fitted(made, prior=prior, dtype="float64")
    for name in found.maps:
        np.testing.assert_allclose(found.maps[name], whole.maps[name], 1e-6, 1e-6, err_msg=name)
        errors = found.standard_error[name], whole.standard_error[name]
        np.testing.assert_allclose(*errors, 1e-6, 1e-9, err_msg=name)


def test_priors_are_by_name():
    made = reference_object(residue="box", repeats=1)
    flat, other = fitted(made), fitted(made, prior="exponential")
    assert np.median(other.shape) < np.median(flat.shape)
    with pytest.raises(ValueError, match="known priors"):
        fitted(made, prior="tight")
