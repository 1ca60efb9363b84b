import numpy as np
import pytest

from perfnb.data import acquisition
from perfnb.data.anatomy import draw_anatomy


@pytest.fixture(scope="module")
def brain():
    return draw_anatomy(np.random.default_rng(0))


def test_slices_share_out_the_repetition_time():
    offsets = acquisition.slice_offsets(12, 2.22)
    assert offsets.min() == 0 and offsets.max() < 2.22
    np.testing.assert_allclose(np.diff(np.sort(offsets)), 2.22 / 12)
    assert abs(offsets[1] - offsets[0]) > 1.0  # interleaved


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
    assert np.diff(noisy[10:], axis=-1).std() / np.sqrt(2) == pytest.approx(20.0, rel=0.08)
    assert noisy.dtype == np.float32


@pytest.mark.parametrize("motion", acquisition.MOTIONS)
def test_motion_has_its_size_and_starts_at_rest(motion):
    paths = [acquisition.draw_motion(np.random.default_rng(s), motion, 60) for s in range(20)]
    assert all(not path[0].any() for path in paths)
    largest = np.median([np.abs(path).max() for path in paths])
    assert largest == 0 if motion == "none" else largest > acquisition.MOTIONS[motion][0]


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
