import numpy as np
import pytest

from perfnb.metrics import lesions


def test_hypoperfusion_is_late_tissue_only():
    tmax = np.array([2.0, 6.0, 6.1, 12.0])
    tissue = np.array([True, True, True, False])
    np.testing.assert_array_equal(lesions.hypoperfusion(tmax, tissue), [False, False, True, False])
    np.testing.assert_array_equal(
        lesions.hypoperfusion(tmax, tissue, threshold_s=4.0), [False, True, True, False]
    )


def test_volume_counts_voxels_in_millilitres():
    mask = np.zeros((4, 5, 6), bool)
    mask[:2, :5, :2] = True
    assert lesions.volume_ml(mask, 1.8 * 1.8 * 5 / 1000) == pytest.approx(20 * 0.0162)


def test_dice_of_equal_disjoint_half_and_empty_masks():
    a = np.array([1, 1, 0, 0], bool)
    assert lesions.dice(a, a) == 1
    assert lesions.dice(a, ~a) == 0
    assert lesions.dice(a, np.array([1, 0, 0, 0], bool)) == pytest.approx(2 / 3)
    assert lesions.dice(np.zeros(4, bool), np.zeros(4, bool)) == 1
    assert lesions.dice(a, np.zeros(4, bool)) == 0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="voxel_ml=0"):
        lesions.volume_ml(np.ones(3, bool), 0)
    with pytest.raises(ValueError, match=r"second has shape \(4,\), expected that of first"):
        lesions.dice(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match="tissue has shape"):
        lesions.hypoperfusion(np.ones(3), np.ones(4, bool))
