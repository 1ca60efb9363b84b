import numpy as np
import pytest
from synthetic_curves import arterial_input, reference_object, sampled, tissue_curve

from perfnb.classical.deconvolution import (
    block_circulant_svd,
    interpolated_maximum,
    maps_from_residue,
    time_to_peak,
    truncated_inverse,
)

TR, FRAMES = 1.4, 80


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
