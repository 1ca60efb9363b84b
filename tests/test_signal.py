from pathlib import Path

import numpy as np
import pytest
from synthetic_curves import small_series

from perfnb.classical.signal import (
    Baseline,
    check_echo_time,
    check_repetition_time,
    correct_slice_times,
    delta_r2star,
    find_baseline,
    saturated_voxels,
    usable_voxels,
)
from perfnb.times import TIME_LIMITS, film_times

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


def test_files_and_curves_share_one_definition_of_possible_times():
    film = Path("no sidecar.nii")
    for name, check in (
        ("repetition_time_s", check_repetition_time),
        ("echo_time_s", check_echo_time),
    ):
        low, high = TIME_LIMITS[name]
        assert check(low) == low and check(high) == high
        assert film_times(film, **{name: low}) == [low] and film_times(film, **{name: high})
        for bad in (0.9 * low, 1.1 * high, -low, np.nan):
            for refused in (check, lambda value, name=name: film_times(film, **{name: value})):
                with pytest.raises(ValueError, match=name):
                    refused(bad)


def test_two_boluses_are_refused_and_recirculation_is_not():
    series, truth = small_series()
    level = series[..., 4:8].mean(axis=-1, keepdims=True)
    drop = level - series
    again = np.zeros_like(drop)
    again[..., 30:] = drop[..., 5:35]
    with pytest.raises(ValueError, match="two boluses, at frames 1[0-9] and 4[0-9]"):
        find_baseline(series - 0.8 * again, truth["mask"])
    weaker = find_baseline(series - 0.25 * again, truth["mask"])
    assert weaker == find_baseline(series, truth["mask"])


@pytest.mark.parametrize("lost", [[20], [0, 1], [58, 59]])
def test_frames_without_a_number_are_named(lost):
    series, truth = small_series()
    series[..., lost] = np.nan
    with pytest.raises(ValueError, match=f"frames {lost[0]}.*hold no number"):
        find_baseline(series, truth["mask"])


def test_voxels_with_a_lost_frame_are_left_out_and_the_rest_is_used():
    series, truth = small_series()
    broken = series.copy()
    broken[10:12, :, :, 20] = np.nan
    baseline = find_baseline(broken, truth["mask"])
    assert baseline == find_baseline(series, truth["mask"])
    usable = usable_voxels(broken, truth["mask"], baseline)
    assert not usable[10:12].any() and usable[truth["mask"]].mean() > 0.8


def test_a_series_of_one_voxel_has_a_baseline():
    series, truth = small_series(200)
    alone = np.zeros_like(truth["mask"])
    alone[6, 12, 1] = True
    assert 11 <= find_baseline(series, alone).arrival <= 15


def test_a_bolus_in_the_first_frames_is_refused():
    series, truth = small_series()
    with pytest.raises(ValueError, match="baseline frames|no bolus"):
        find_baseline(series[..., 16:], truth["mask"])


@pytest.mark.parametrize("step", [6, 9, 11])
def test_arrival_is_not_taken_from_a_head_that_moves(step):
    series, truth = small_series()
    moved = series.copy()
    moved[1:, :, :, step:] = series[:-1, :, :, step:]
    still = find_baseline(series, truth["mask"])
    assert abs(find_baseline(moved, truth["mask"]).arrival - still.arrival) <= 1


def test_arteries_at_the_noise_floor_are_marked_and_others_are_not():
    rng = np.random.default_rng(0)
    rate = np.zeros((40, 1, 1, 40))
    bolus = np.exp(-0.5 * ((np.arange(40) - 15) / 3.0) ** 2)
    rate[:10] = 170 * bolus  # down to 0.6 % of the baseline, a fifth of the noise
    rate[10:] = 45 * bolus
    noise = rng.normal(0, 1000 / 30, (2, *rate.shape))
    signal = np.hypot(1000 * np.exp(-TE * rate) + noise[0], noise[1])
    mask, frames = np.ones(rate.shape[:3], bool), Baseline(0, 6, 7, 15)
    saturated = saturated_voxels(signal, mask, frames)
    assert saturated[:10].all() and not saturated[10:].any()
    assert not usable_voxels(signal, mask, frames)[:10].any()
    curve = delta_r2star(signal, TE, frames)
    assert curve[:10].max(axis=-1).mean() < 0.9 * 170  # what marking guards against


def test_slice_times_are_taken_out():
    times = np.arange(40) * 1.5
    curve = np.exp(-0.5 * ((times - 25) / 4.0) ** 2)
    taken = np.array([0.0, 0.4, 1.4])
    seen = np.stack([np.exp(-0.5 * ((times + late - 25) / 4.0) ** 2) for late in taken])
    np.testing.assert_allclose(correct_slice_times(seen, taken, 1.5), [curve] * 3, atol=2e-3)
    assert np.abs(seen[2] - curve).max() > 0.1
    with pytest.raises(ValueError, match="in milliseconds"):
        correct_slice_times(seen, 1000 * taken, 1.5)
    with pytest.raises(ValueError, match="expected one each"):
        correct_slice_times(seen, taken[:2], 1.5)
