import numpy as np
import pytest
from synthetic_curves import arterial_input, reference_object, sampled, tissue_curve

from perfnb.classical.deconvolution import (
    METHODS,
    block_circulant_svd,
    deconvolve,
    interpolated_maximum,
    maps_from_residue,
    time_to_peak,
    truncated_inverse,
)
from perfnb.classical.reference_object import reference_object as kudo_object
from perfnb.classical.reference_object import score
from perfnb.classical.singular_values import LEVELS, frequencies, operator

TR, FRAMES = 1.4, 80
SVD_METHODS = [method for method in METHODS if method != "parametric"]


def maps(tissue, aif, repetition_time_s=TR):
    residue = block_circulant_svd(tissue, aif, repetition_time_s)
    return maps_from_residue(residue, tissue, aif, repetition_time_s)


def delayed_tissue(delays, repetition_time_s=TR, n_frames=FRAMES, mtt=4):
    fine = arterial_input(repetition_time_s, n_frames, arrival_s=20)
    curves = np.array([tissue_curve(fine, 4, mtt, delay) for delay in delays])
    return sampled(curves, repetition_time_s, n_frames), sampled(fine, repetition_time_s, n_frames)


def test_truncated_inverse_is_that_of_the_circulant_matrix_by_svd():
    _, aif = delayed_tissue([0], n_frames=24)
    padded = np.concatenate([aif, np.zeros(24)])
    circulant = TR * np.array([np.roll(padded, k) for k in range(48)]).T
    u, s, vt = np.linalg.svd(circulant)
    inverse = vt.T @ np.diag(np.where(s >= 0.1 * s[0], 1 / s, 0)) @ u.T
    expected = inverse[:, :24].T
    np.testing.assert_allclose(
        truncated_inverse(aif, TR, 0.1), expected, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("delay", [-4.2, -2.8, 2.8, 5.6, 8.4])
def test_flow_does_not_depend_on_delay(delay):
    tissue, aif = delayed_tissue([0, delay])
    flow = maps(tissue, aif)["CBF"]
    assert flow[1] == pytest.approx(flow[0], rel=0.01)


def test_tmax_grows_with_delay_second_by_second():
    delays = np.arange(0, 12.5, 0.5)
    tissue, aif = delayed_tissue(delays)
    tmax = maps(tissue, aif)["Tmax"]
    np.testing.assert_allclose(tmax - tmax[0], delays, atol=0.5)
    assert np.unique(tmax.round(3)).size == len(delays)


def test_mtt_is_volume_over_flow():
    tissue, aif, _ = reference_object(snr=50)
    m = maps(tissue, aif)
    flowing = m["CBF"] > 1
    np.testing.assert_allclose(
        m["MTT"][flowing], 60 * m["CBV"][flowing] / m["CBF"][flowing], rtol=1e-5
    )


def test_maps_do_not_depend_on_the_repetition_time():
    coarse, fine = (maps(*delayed_tissue([3.0], tr, n), tr) for tr, n in ((2.0, 56), (1.0, 112)))
    assert coarse["CBV"] == pytest.approx(fine["CBV"], rel=0.02)
    assert coarse["CBF"] == pytest.approx(fine["CBF"], rel=0.15)
    assert coarse["Tmax"] == pytest.approx(fine["Tmax"], abs=0.6)
    assert coarse["TTP"] == pytest.approx(fine["TTP"], abs=0.3)


def test_scale_of_tissue_is_that_of_flow_and_volume():
    tissue, aif = delayed_tissue([2.0])
    one, two = maps(tissue, aif), maps(2 * tissue, aif)
    for name, factor in {"CBF": 2, "CBV": 2, "MTT": 1, "Tmax": 1, "TTP": 1}.items():
        assert two[name] == pytest.approx(factor * one[name], rel=1e-5)


def test_accuracy_on_the_digital_reference_object():
    tissue, aif, truth = reference_object(snr=50, repeats=16)
    m = maps(tissue, aif)
    r = {name: np.corrcoef(m[name], truth[name])[0, 1] for name in truth}
    assert r["CBF"] > 0.93
    assert r["CBV"] > 0.90
    assert abs(np.mean(m["CBV"] - truth["CBV"])) < 0.1
    assert r["Tmax"] > 0.5  # 0.2 where the residue's tail may catch the maximum


def test_noise_free_reference_object_is_recovered():
    tissue, aif, truth = reference_object()
    m = maps(tissue, aif)
    for name in ("CBV", "MTT", "Tmax"):
        assert np.corrcoef(m[name], truth[name])[0, 1] > 0.98
    np.testing.assert_allclose(m["CBV"], truth["CBV"], rtol=0.05)


def test_time_to_peak_lies_between_frames():
    t = np.arange(40) * 1.5
    curves = np.exp(-0.5 * ((t - np.array([[20.3], [31.1]])) / 4) ** 2)
    np.testing.assert_allclose(time_to_peak(curves, 1.5, 5), [20.3, 31.1], atol=0.05)


def test_parabola_finds_its_own_peak():
    x = np.arange(10)
    curves = 5 - (x - np.array([[3.3], [0.0], [9.0]])) ** 2
    index, height = interpolated_maximum(curves)
    np.testing.assert_allclose(index, [3.3, 0, 9])
    np.testing.assert_allclose(height, 5)


def test_empty_curves_give_zero_maps():
    _, aif = delayed_tissue([0])
    for name, values in maps(np.zeros((3, FRAMES)), aif).items():
        assert np.isfinite(values).all()
        if name in ("CBF", "CBV", "MTT"):
            assert (values == 0).all()


def test_bad_input_is_named():
    tissue, aif = delayed_tissue([0])
    with pytest.raises(ValueError, match="shape"):
        block_circulant_svd(tissue[:, 1:], aif, TR)
    with pytest.raises(ValueError, match="threshold=2"):
        block_circulant_svd(tissue, aif, TR, threshold=2)
    with pytest.raises(ValueError, match="no area"):
        block_circulant_svd(tissue, 0 * aif, TR)
    with pytest.raises(ValueError, match="repetition_time_s"):
        block_circulant_svd(tissue, aif, 1400)


def called(made, method="block-circulant SVD", **settings):
    tr, arrival = made.repetition_time_s, made.arrival
    return deconvolve(made.tissue, made.aif, tr, method, arrival, **settings)


@pytest.mark.parametrize("repetition_time_s", [1.4, 2.2])
def test_block_circulant_svd_is_as_accurate_as_it_can_be(repetition_time_s):
    made = kudo_object(repetition_time_s, repeats=4)
    found = score(called(made).maps, made.truth)
    assert found["CBF"].r > 0.92 and found["CBF"].rmse < 19
    assert found["CBF"].missing == 0 and abs(found["CBV"].bias) < 0.1


@pytest.mark.parametrize("method", SVD_METHODS)
def test_noise_in_the_tail_is_not_taken_for_the_maximum(method):
    made = kudo_object(repeats=4)
    found = score(called(made, method).maps, made.truth)
    assert found["Tmax"].rmse < 5 and found["TTP"].rmse < 3  # plain maximum: 14 and more
    assert np.nanmax(called(made, method).maps["Tmax"]) < 25.1


@pytest.mark.parametrize("circulant", [True, False])
def test_operator_explains_what_it_keeps(circulant):
    made = kudo_object(snr=None, repeats=1, delays_s=(1.4, 4.0))
    whole = operator(made.aif, TR, 0.0, circulant)
    np.testing.assert_allclose(made.tissue @ whole.projection, made.tissue, atol=1e-2)
    cut = operator(made.aif, TR, 0.2, circulant)
    np.testing.assert_allclose(cut.projection @ cut.projection, cut.projection, atol=2e-1)
    assert np.trace(cut.projection) < 0.9 * FRAMES


def test_frequencies_add_up_to_the_block_circulant_inverse():
    made = kudo_object(repeats=1)
    parts = frequencies(made.aif, TR)
    for level, kept in zip(LEVELS, parts.kept, strict=True):
        residue = (made.tissue[:9] @ parts.analysis * kept) @ parts.synthesis
        expected = block_circulant_svd(made.tissue[:9], made.aif, TR, level - 1e-9)
        np.testing.assert_allclose(residue, expected, atol=1e-4 * np.abs(expected).max())


def test_oscillation_index_bounds_the_oscillation():
    made = kudo_object(repeats=2)
    calm, wild = (called(made, "oscillation-index SVD", threshold=t) for t in (0.04, 0.3))
    assert np.median(calm.residual) > np.median(wild.residual)
    assert np.median(calm.maps["CBF"]) < np.median(wild.maps["CBF"])


@pytest.mark.parametrize("method", SVD_METHODS)
def test_standard_error_of_volume_covers_its_error(method):
    made = kudo_object(repeats=4)
    found = called(made, method)
    assert set(found.standard_error) == {"CBF", "CBV", "MTT"}
    within = np.abs(found.maps["CBV"] - made.truth["CBV"]) < found.standard_error["CBV"]
    assert 0.55 < within.mean() < 0.8
    assert np.median(found.residual) == pytest.approx(1 / 50 / 0.029, rel=0.35)


def test_standard_error_of_flow_is_its_spread_over_noise_draws():
    made = kudo_object(residue="box", repeats=16)
    found = called(made)
    flow = found.maps["CBF"].reshape(-1, 16)
    spread = np.median(flow.std(axis=1, ddof=1))
    assert np.median(found.standard_error["CBF"]) == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize("method", METHODS)
def test_voxels_that_cannot_be_fitted_are_marked(method):
    made = kudo_object(repeats=1)
    tissue = made.tissue[:40].copy()
    tissue[3, 20], tissue[5], tissue[7], tissue[9, 1] = np.nan, 0, 4.2, np.inf
    found = deconvolve(tissue, made.aif, TR, method, made.arrival)
    assert not found.fitted[[3, 5, 7, 9]].any() and found.fitted.sum() >= 34
    others = deconvolve(made.tissue[:40], made.aif, TR, method, made.arrival)
    for name, values in found.maps.items():
        assert np.isnan(values[~found.fitted]).all()
        known = found.fitted & np.isfinite(values)
        np.testing.assert_allclose(values[known], others.maps[name][known], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_precision_is_as_asked_for(method):
    made = kudo_object(repeats=1)
    for dtype in ("float32", "float64"):
        found = called(made, method, dtype=dtype)
        assert {values.dtype for values in found.maps.values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_gives_the_same_maps(method):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    made = kudo_object(repeats=1)
    here, there = (called(made, method, device=d).maps for d in ("cpu", "cuda"))
    for name, values in here.items():
        close = np.isclose(values, there[name], rtol=0.02, atol=0.05, equal_nan=True)
        assert close.mean() > 0.97, name


def changed(aif, **frames):
    return np.concatenate([frames.get("before", []), aif, frames.get("after", [])])


BAD_AIFS = {
    "aif has 79 frames": lambda aif: aif[1:],
    "aif has 81 frames": lambda aif: changed(aif, after=[0.0]),
    "aif is constant": lambda aif: np.full_like(aif, 3.0),
    "no area above zero": lambda aif: -aif,
    "peaks in the first frame": lambda aif: np.roll(aif, -int(aif.argmax())),
    "aif is not finite in frame 4": lambda aif: np.where(np.arange(80) == 4, np.nan, aif),
}


@pytest.mark.parametrize("message", BAD_AIFS)
@pytest.mark.parametrize("method", ["block-circulant SVD", "parametric"])
def test_a_bad_aif_is_refused(message, method):
    made = kudo_object(snr=None, repeats=1)
    with pytest.raises(ValueError, match=message):
        deconvolve(made.tissue, BAD_AIFS[message](made.aif), TR, method, made.arrival)


def test_other_bad_input_is_named():
    made = kudo_object(snr=None, repeats=1)
    lost = made.tissue.copy()
    lost[:, 12] = np.nan
    for settings, message in (
        ({"tissue": lost}, "frame 12 of tissue"),
        ({"tissue": made.tissue[0]}, "expected"),
        ({"method": "Fourier"}, "known methods"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"method": "parametric", "threshold": 0.1}, "has none"),
        ({"arrival": 79}, "arriving in frame 79"),
        ({"dtype": "float16"}, "float16"),
        ({"repetition_time_s": 1400}, "repetition_time_s"),
        ({"echo_time_s": 29}, "echo_time_s"),
        ({"device": "tpu9"}, "device='tpu9'"),
        ({"tissue": 0 * made.tissue}, "none of the 147"),
    ):
        given = {"tissue": made.tissue, "aif": made.aif, "repetition_time_s": TR} | settings
        with pytest.raises(ValueError, match=message):
            deconvolve(**given)
