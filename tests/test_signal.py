import numpy as np
import pytest
from synthetic_curves import small_series

from perfnb.classical.signal import (
    Baseline,
    check_echo_time,
    check_repetition_time,
    delta_r2star,
    find_baseline,
    usable_voxels,
)

TE = 0.03
FRAMES = Baseline(0, 5, 6, 9)


def test_delta_r2star_inverts_the_signal_equation():
    truth = np.zeros((3, 20))
    truth[:, 6:] = np.random.default_rng(0).uniform(0, 60, (3, 14))
    signal = np.array([[500.0], [1.0], [3e4]]) * np.exp(-TE * truth)
    np.testing.assert_allclose(delta_r2star(signal, TE, FRAMES), truth, atol=1e-9)


def test_delta_r2star_of_constant_signal_is_zero():
    signal = np.full((4, 20), 137.0)
    np.testing.assert_allclose(delta_r2star(signal, TE, FRAMES), 0.0, atol=1e-12)


@pytest.mark.parametrize("bad", [0.0, -3.0, np.nan, np.inf])
def test_bad_values_never_come_out_as_nan(bad):
    signal = np.full((3, 20), 100.0, np.float32)
    signal[0] = bad
    signal[1, 8] = bad
    signal[2, 2] = bad
    assert np.isfinite(delta_r2star(signal, TE, FRAMES)).all()


def test_frames_before_steady_state_count_for_nothing():
    signal = np.full((1, 20), 100.0)
    signal[:, :2] = 140
    curve = delta_r2star(signal, TE, Baseline(2, 6, 6, 9))
    np.testing.assert_allclose(curve, 0, atol=1e-12)


def test_usable_voxels_leave_out_what_holds_no_curve():
    signal = np.random.default_rng(0).normal(100, 2, (7, 1, 1, 20))
    signal[0] = 0
    signal[1] = np.nan
    signal[2] = 100
    signal[3] = -signal[3]
    signal[4] = 0.5
    mask = np.ones((7, 1, 1), bool)
    mask[6] = False
    usable = usable_voxels(signal, mask, FRAMES)
    assert usable.ravel().tolist() == [False] * 5 + [True, False]


@pytest.mark.parametrize("snr", [20, 50, 100])
def test_baseline_ends_before_the_bolus_and_drops_bright_frames(snr):
    series, truth = small_series(snr)
    baseline = find_baseline(series, truth["mask"])
    assert baseline.first == 2
    assert truth["bolus_frame"] - 2 <= baseline.last <= truth["bolus_frame"]
    assert truth["bolus_frame"] <= baseline.arrival <= truth["bolus_frame"] + 1


def test_baseline_does_not_depend_on_the_scanners_gain():
    series, truth = small_series()
    assert find_baseline(series * 1e-3, truth["mask"]) == find_baseline(series, truth["mask"])


def test_a_series_without_a_bolus_is_refused():
    rng = np.random.default_rng(0)
    mask = np.ones((8, 8, 2), bool)
    flat = rng.normal(800, 16, (8, 8, 2, 40))
    with pytest.raises(ValueError, match="no bolus"):
        find_baseline(flat, mask)
    with pytest.raises(ValueError, match="no bolus"):
        find_baseline(flat * np.linspace(1, 0.8, 40), mask)


def test_a_bolus_without_baseline_is_refused():
    series, truth = small_series()
    with pytest.raises(ValueError, match="baseline frames"):
        find_baseline(series[..., 12:], truth["mask"])


def test_bad_shapes_are_named():
    series, truth = small_series()
    with pytest.raises(ValueError, match="at least 10 time points"):
        find_baseline(series[..., :9], truth["mask"])
    with pytest.raises(ValueError, match="mask has shape"):
        find_baseline(series, truth["mask"][1:])
    with pytest.raises(ValueError, match="mask is empty"):
        find_baseline(series, np.zeros_like(truth["mask"]))
    with pytest.raises(ValueError, match="finite and above zero"):
        find_baseline(series * np.nan, truth["mask"])


def test_times_in_milliseconds_are_refused():
    with pytest.raises(ValueError, match="0.030 for 30 ms"):
        check_echo_time(30)
    with pytest.raises(ValueError, match="1.5 for 1500 ms"):
        check_repetition_time(1500)
