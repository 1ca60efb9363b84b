from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import affine_transform

from perfnb.data import acquisition, movement
from perfnb.data.anatomy import draw_anatomy
from perfnb.data.warp import rotation


@pytest.fixture(scope="module")
def brain():
    return draw_anatomy(np.random.default_rng(0))


def test_slices_share_out_the_repetition_time():
    offsets = acquisition.slice_offsets(12, 2.22)
    assert offsets.min() == 0 and offsets.max() < 2.22
    np.testing.assert_allclose(np.diff(np.sort(offsets)), 2.22 / 12)
    assert abs(offsets[1] - offsets[0]) > 1.0  # interleaved
    assert (np.diff(acquisition.slice_offsets(12, 2.22, "ascending")) > 0).all()


def test_first_frames_lie_above_steady_state():
    t1 = np.array([0.85, 4.0])
    start = acquisition.approach_to_steady_state(t1, 2.22, 20, dummies=0)
    assert start[1, 0] > start[0, 0] > 1.02
    np.testing.assert_allclose(start[:, 6:], 1.0, atol=1e-3)
    later = acquisition.approach_to_steady_state(t1, 2.22, 20, dummies=2)
    np.testing.assert_allclose(later[:, 0], start[:, 2])


def test_baseline_shows_tissue_by_its_relaxation(brain):
    protocol = acquisition.PROTOCOLS["acute"]
    signal, t1 = acquisition.draw_baseline(np.random.default_rng(1), brain, protocol)
    assert signal.shape == (5, brain.mask.sum()) and (signal > 0).all()
    gm, wm, csf = np.median(signal[:3], axis=1)
    assert csf > gm > wm
    assert t1[2] > t1[0] > t1[1]


def test_drop_out_lies_above_the_sinuses(brain):
    protocol = acquisition.PROTOCOLS["acute"]
    signal, _ = acquisition.draw_baseline(np.random.default_rng(1), brain, protocol)
    x, y, z = brain.template_mm
    near = (np.abs(x) < 10) & (np.abs(y - 40) < 12) & (z < -15)
    assert np.median(signal[0][near]) < 0.7 * np.median(signal[0])


def test_noise_is_rician_with_the_size_asked_for():
    series = np.zeros((20, 20, 10, 30), np.float32)
    series[10:] = 1000.0
    noisy = acquisition.add_noise(np.random.default_rng(2), series, 50.0, 1000.0, 2.0)
    assert noisy[:10].mean() == pytest.approx(20.0 * np.sqrt(np.pi / 2), rel=0.02)
    assert noisy[10:].std(axis=(0, 1, 2)).mean() == pytest.approx(20.0, rel=0.02)
    assert noisy.dtype == np.float32


def test_breathing_is_shared_and_the_heart_beats_where_blood_is():
    series = np.full((20, 20, 10, 60), 1000.0, np.float32)
    pulsatile = np.zeros(series.shape[:3], np.float32)
    pulsatile[:10] = 1.0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        noisy = acquisition.add_noise(rng, series, 1e4, 1000.0, 2.0, pulsatile)
        still, beating = noisy[10:].mean((0, 1, 2)), noisy[:10].mean((0, 1, 2))
        assert 0.001 < np.diff(still).std() / 1000 / np.sqrt(2) < 0.02
        assert (beating - still).std() > 2.0
        apart = noisy[10:] - still
        assert apart.std() == pytest.approx(0.1, rel=0.05)  # nothing but thermal noise is left


def test_scarred_white_matter_is_bright(brain):
    protocol = acquisition.PROTOCOLS["acute"]
    both = [
        acquisition.draw_baseline(np.random.default_rng(1), b, protocol)[0]
        for b in (brain, replace(brain, gliosis=np.ones_like(brain.gliosis)))
    ]
    np.testing.assert_array_equal(both[0][0], both[1][0])
    ratio = np.median(both[1][1] / both[0][1][brain.gliosis.argmin()])
    assert 1.05 < ratio < 1.6


@pytest.mark.parametrize("motion", acquisition.MOTIONS)
def test_motion_has_its_size_and_starts_at_rest(motion):
    paths = [acquisition.draw_motion(np.random.default_rng(s), motion, 60) for s in range(20)]
    assert all(not path[0].any() for path in paths)
    largest = np.median([np.abs(path).max() for path in paths])
    assert largest == 0 if motion == "none" else largest > acquisition.MOTIONS[motion][0]


def test_nod_comes_while_the_bolus_passes():
    for seed in range(10):
        path = acquisition.draw_motion(np.random.default_rng(seed), "bolus", 60, (15.0, 20.0))
        steps = np.abs(np.diff(path, axis=0)) / movement.NODDING
        assert 15 <= steps.max(1).argmax() + 1 <= 27
        assert np.abs(path[:15]).max() < np.abs(path[15:27]).max() > 1.0


def test_drawn_motion_has_the_shares_of_patients_and_leaves_the_numbers_alone():
    rng = np.random.default_rng(0)
    drawn = [movement.draw_class(rng, "drawn") for _ in range(1500)]
    shares = [drawn.count(name) / 1500 for name in ("none", "mild", "considerable")]
    np.testing.assert_allclose(shares, (0.58, 0.24, 0.19), atol=0.04)
    assert rng.random() == np.random.default_rng(0).random()


def test_moving_agrees_with_a_rotation_by_scipy():
    rng = np.random.default_rng(0)
    affine = np.diag([3.0, 3.0, 6.0, 1.0])
    frame = np.zeros((30, 28, 9), np.float32)
    frame[8:22, 8:20, 2:7] = rng.uniform(0.5, 1.0, (14, 12, 5))
    path = np.array([[0.0] * 6, [2.0, -3.0, 1.0, 4.0, -2.0, 3.0]])
    moved = acquisition.move(np.repeat(frame[..., None], 2, -1), path, affine)
    size, centre = np.array([3.0, 3.0, 6.0]), (np.array(frame.shape) - 1) / 2
    matrix = rotation(path[1, 3:]).T * size[None, :] / size[:, None]
    offset = centre - matrix @ (centre + path[1, :3] / size)
    expected = affine_transform(frame, matrix, offset, order=1, mode="nearest")
    np.testing.assert_allclose(moved[..., 1], expected, atol=1e-4)
    np.testing.assert_array_equal(moved[..., 0], frame)


def test_moving_shifts_by_millimetres():
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    series = np.zeros((16, 16, 6, 2), np.float32)
    series[5, 8, 3] = 1.0
    path = np.zeros((2, 6))
    path[1, 0] = 4.0
    moved = acquisition.move(series, path, affine)
    assert moved[5, 8, 3, 0] == 1.0
    assert moved[7, 8, 3, 1] == pytest.approx(1.0)
    assert acquisition.move(series, np.zeros((2, 6)), affine) is series
