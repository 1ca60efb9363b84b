"""What the verdict on an arterial input rests on."""

import numpy as np
import pytest
from synthetic_curves import arterial_input, sampled, small_series, tissue_curve

from perfnb.classical.aif import find_aif
from perfnb.classical.aif_verdict import FIRST_PASS_S, first_pass_ratio
from perfnb.classical.partial_volume import BLOOD_TO_TISSUE
from perfnb.classical.signal import delta_r2star, find_baseline, usable_voxels

TR, TE, ARRIVAL, FRAMES = 1.5, 0.03, 12, 70


def blood_and_tissue(cbv=3.0):
    """Arterial input of relaxivity 1/7 and tissue whose peak is 12/s at a CBV of 3 ml/100 g."""
    fine = arterial_input(TR, FRAMES, ARRIVAL * TR)
    gain = 12 / 7 / tissue_curve(fine, 3, 4, 1).max()
    tissue = 7 * gain * tissue_curve(fine, cbv, 4, 1)
    return sampled(gain * fine, TR, FRAMES), sampled(tissue, TR, FRAMES)


def verdict_on(curve, tissue, **options):
    """Verdict on a film whose arterial voxels show `curve` and whose others show `tissue`."""
    _, truth = small_series()
    change = np.zeros((*truth["mask"].shape, FRAMES))
    change[truth["mask"]], change[truth["artery"]] = tissue, curve
    noise = np.random.default_rng(3).normal(0, 8, (2, *change.shape))
    level = 800 * truth["mask"][..., None]
    series = np.hypot(level * np.exp(-TE * change) + noise[0], noise[1])
    baseline = find_baseline(series, truth["mask"])
    usable = usable_voxels(series, truth["mask"], baseline)
    change = delta_r2star(series, TE, baseline)
    return find_aif(change, usable, TR, baseline.arrival, **options)


def moved_after_the_bolus(curve, tissue, rise):
    """Add what remains of a motion once the first pass is over."""
    past = int(tissue.argmax()) + int(round(FIRST_PASS_S / TR))
    return curve + rise * (np.arange(FRAMES) >= past)


def test_first_pass_tells_how_much_blood_tissue_holds_whatever_the_dose():
    curve, tissue = blood_and_tissue(3.0)
    ratio = first_pass_ratio(curve, tissue, TR, ARRIVAL)
    assert ratio == pytest.approx(3.35, rel=0.03)
    assert first_pass_ratio(2 * curve, 2 * tissue, TR, ARRIVAL) == pytest.approx(ratio)
    assert first_pass_ratio(0.6 * curve, tissue, TR, ARRIVAL) == pytest.approx(0.6 * ratio)
    richer = first_pass_ratio(curve, blood_and_tissue(4.0)[1], TR, ARRIVAL)
    assert richer == pytest.approx(0.75 * ratio)
    assert first_pass_ratio(curve, np.zeros(FRAMES), TR, ARRIVAL) == 0


@pytest.mark.parametrize("rise", [-3.0, 3.0])
def test_what_a_motion_leaves_after_the_bolus_is_no_blood(rise):
    curve, tissue = blood_and_tissue()
    ratio = first_pass_ratio(curve, tissue, TR, ARRIVAL)
    risen = moved_after_the_bolus(tissue, tissue, rise)
    assert first_pass_ratio(curve, risen, TR, ARRIVAL) == pytest.approx(ratio)
    over_all = curve[ARRIVAL:].sum() / risen[ARRIVAL:].sum()
    assert abs(over_all / ratio - 1) > 0.3  # all frames would be far off


@pytest.mark.parametrize(("share", "passes"), [(1.0, True), (0.8, True), (0.55, False)])
def test_curve_that_lost_a_third_is_refused_for_the_tissue_in_it(share, passes):
    curve, tissue = blood_and_tissue()
    aif = verdict_on(share * curve, tissue)
    assert aif.ok == passes
    assert passes or any("tissue in the voxels" in reason for reason in aif.reasons)


def test_restless_baseline_is_refused_in_words():
    curve, tissue = blood_and_tissue()
    wave = 8 * np.sin(np.arange(FRAMES)) * (np.arange(FRAMES) < ARRIVAL - 2)
    restless = verdict_on(curve + wave, tissue)
    assert not restless.ok and "baseline noise" in restless.reasons[0]
    quiet = verdict_on(curve, tissue)
    assert quiet.ok and quiet.measures["noise"] < 0.02 * quiet.measures["height"]


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_tissue_is_taken_out_of_the_arteries_of_a_resampled_film(share):
    curve, tissue = blood_and_tissue()
    mixed = share * curve + (1 - share) * tissue
    plain, mended = (verdict_on(mixed, tissue, resampled=one) for one in (False, True))
    assert mended.ok and not mended.reasons
    assert mended.measures["arterial_share"] == pytest.approx(share, abs=0.04)
    assert plain.measures["arterial_share"] == 1
    away = [np.abs(aif.curve - curve).sum() / curve.sum() for aif in (plain, mended)]
    assert away[1] < 0.15 and away[1] < 0.5 * away[0]
    assert mended.measures["area_ratio"] == pytest.approx(BLOOD_TO_TISSUE, rel=0.01)
    assert mended.measures["partial_volume"] == 1  # what was taken out is not added on top


def test_voxels_with_hardly_any_artery_are_refused_and_left_as_they_are():
    curve, tissue = blood_and_tissue()
    mixed = 0.2 * curve + 0.8 * tissue
    plain, refused = (verdict_on(mixed, tissue, resampled=one) for one in (False, True))
    assert not refused.ok
    assert any(r.startswith("only 2") and "is artery (expected 25%)" in r for r in refused.reasons)
    np.testing.assert_array_equal(refused.curve, plain.curve)


def test_pure_artery_of_a_resampled_film_is_left_as_it_is():
    curve, tissue = blood_and_tissue(2.5)
    plain, same = (verdict_on(curve, tissue, resampled=one) for one in (False, True))
    assert same.measures["arterial_share"] == 1
    np.testing.assert_array_equal(same.curve, plain.curve)
