import numpy as np
import pandas as pd
import pytest

from perfnb.classical.deconvolution import METHODS
from perfnb.metrics import lesions


def test_hypoperfusion_is_late_tissue_only():
    tmax = np.array([2.0, 6.0, 6.1, 12.0])
    tissue = np.array([True, True, True, False])
    np.testing.assert_array_equal(lesions.hypoperfusion(tmax, tissue), [False, False, True, False])
    np.testing.assert_array_equal(
        lesions.hypoperfusion(tmax, tissue, threshold_s=4.0), [False, True, True, False]
    )


def test_only_maps_of_delay_have_a_threshold_of_their_own():
    assert lesions.late_threshold("parametric") < lesions.late_threshold("SVD")
    assert lesions.late_threshold("") == lesions.late_threshold("block-circulant SVD") == 6
    assert set(lesions.LATE_DELAY_S) <= set(METHODS)


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


def test_late_tissue_is_late_against_the_brains_own_median():
    ttp = np.array([20.0, 21.0, 22.0, 23.4, 23.6, 40.0])
    tissue = np.array([1, 1, 1, 1, 1, 0], bool)
    np.testing.assert_array_equal(
        lesions.late_tissue(ttp, tissue), lesions.late_tissue(ttp + 9, tissue)
    )
    assert lesions.late_tissue(ttp, tissue, 1.5).tolist() == [False] * 4 + [True, False]
    with pytest.raises(ValueError, match="tissue is empty"):
        lesions.late_tissue(ttp, ~np.ones(6, bool))


def test_agreement_counts_volumes_of_all_and_overlaps_of_large_lesions():
    truth, half = np.ones(10, bool), np.arange(10) < 5
    rows = []
    for patient, voxel_ml in (("a", 1.0), ("b", 1.0), ("c", 0.1)):
        for row in lesions.read_outs(truth, {"half": half, "all": truth}, voxel_ml):
            rows.append({"cohort": "acute", "patient": patient, **row})
    found = lesions.agreement(pd.DataFrame(rows), 0, ["all", "half", "never"]).set_index("method")
    assert found.index.tolist() == ["all", "half"] and (found["n"] == 3).all()
    assert found.loc["all", ["difference_ml", "limits_low", "dice"]].tolist() == [0, 0, 1]
    assert found.loc["half", "large"] == 2  # 1 ml is too small to overlap
    assert found.loc["half", "dice"] == pytest.approx(2 / 3)
    assert found.loc["half", "difference_ml"] == pytest.approx(-(5 + 5 + 0.5) / 3)
    assert "rule" not in found
    told = lesions.agreement(pd.DataFrame(rows).assign(rule="Tmax > 3 s"), 0, ["all"])
    assert list(told["rule"]) == ["Tmax > 3 s"]
    shown = lesions.as_text(told).loc[("acute", "all")]
    assert shown["rule"] == "Tmax > 3 s" and shown["Dice"] == "1.00 [1.00,\u00a01.00]"
    assert lesions.as_text(told[:0]).empty
    assert found.loc["half", "limits_low"] < found.loc["half", "difference_ml"]
