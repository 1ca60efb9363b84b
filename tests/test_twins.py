"""The same patients, still and moved: only the motion differs."""

import numpy as np
import pytest

from perfnb.classical.rigid import displacement
from perfnb.data import cohorts, phantom, truths, twins
from perfnb.data.preparation import prepare_patient
from perfnb.study import start

SHAPE = (32, 32, 8)


@pytest.fixture(scope="module")
def settings():
    return {**start("04_prepare", "tiny", "acute").settings, "matrix": 32, "film_slices": 8}


@pytest.fixture(scope="module")
def patient():
    return phantom.draw_patient("acute", 3, SHAPE)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, settings):
    """One new patient, still and nodding in the bolus."""
    folder = tmp_path_factory.mktemp("twins")
    found = twins.draw_twins(folder, settings, "acute", 5, 1, ["none", "bolus"])
    return folder, list(found)


def test_no_motion_leaves_the_film_as_it_is(patient):
    again = twins.move_again(patient, np.zeros_like(patient.motion))
    np.testing.assert_array_equal(again.series, patient.series)


def test_motion_changes_the_frames_in_which_the_head_is_away_and_keeps_their_noise(patient):
    path = twins.nod(patient, 4.0, "at its peak")
    moved, away = twins.move_again(patient, path), path.any(axis=1)
    assert away.sum() == twins.AWAY
    np.testing.assert_array_equal(moved.series[..., ~away], patient.series[..., ~away])
    noise = patient.series - patient.noise_free
    still_air = ~patient.noise_free.any(axis=-1) & ~(moved.series - noise).any(axis=-1)
    change = np.abs(moved.series - patient.series)[patient.mask][:, away].mean()
    assert change > np.abs(noise[patient.mask]).mean() or still_air.any()


@pytest.mark.parametrize("amplitude_mm", [1.0, 6.0])
@pytest.mark.parametrize("moment", twins.MOMENTS)
def test_nod_goes_as_far_as_asked_for(patient, amplitude_mm, moment):
    path = twins.nod(patient, amplitude_mm, moment)
    far = displacement(path, patient.mask, patient.affine)
    assert far.max() == pytest.approx(amplitude_mm, rel=0.05)
    assert (far > 0).sum() == twins.AWAY and not path[-1].any()


def test_nods_come_before_at_and_after_the_peak_of_the_bolus(patient):
    frames = [np.flatnonzero(twins.nod(patient, 1.0, m).any(axis=1)) for m in twins.MOMENTS]
    darkest = patient.noise_free[patient.mask].mean(axis=0).argmin()
    arrival = patient.facts["bolus_arrival_s"] / patient.repetition_time_s
    assert frames[0].max() < arrival < darkest < frames[2].min()
    assert darkest in frames[1]


def test_unknown_moments_and_patients_who_move_already_are_refused(patient):
    with pytest.raises(ValueError, match="before the bolus, at its peak, after it"):
        twins.nod(patient, 1.0, "often")
    moving = phantom.draw_patient("acute", 3, SHAPE, motion="considerable")
    with pytest.raises(ValueError, match="draw motion='none'"):
        twins.move_again(moving, moving.motion)


def test_preparing_only_the_moved_frames_gives_the_same_series(patient, settings):
    rest = twins.prepare_series(patient, settings)
    moved = twins.move_again(patient, twins.nod(patient, 5.0, "before the bolus"))
    whole, quick = (twins.prepare_series(moved, settings, still) for still in (None, rest))
    np.testing.assert_allclose(quick[0], whole[0], atol=1e-5)
    assert quick[2] == pytest.approx(whole[2]) and quick[3] == whole[3]


def test_series_of_a_drawn_patient_is_that_of_its_written_film(tmp_path, patient, settings):
    phantom.write_patient(patient, tmp_path, "sub-001")
    written = prepare_patient(cohorts.find_cases(tmp_path)[0], {**settings, "maps": []})
    series, mask, _, arrival = twins.prepare_series(patient, settings)
    assert arrival == written.facts["arrival"]
    np.testing.assert_array_equal(mask, written.mask)
    np.testing.assert_allclose(series, written.series, atol=1e-3)  # the file holds 16-bit numbers


def test_twins_share_their_truth_and_differ_in_motion(drawn):
    still, moved = drawn[1]
    assert (still.motion, moved.motion) == ("none", "bolus") and still.patient == moved.patient
    for name in still.prepared.truth:
        np.testing.assert_array_equal(still.prepared.truth[name], moved.prepared.truth[name])
    assert still.facts["moved_mm"] == still.facts["at_bolus_mm"] == 0
    assert moved.facts["moved_mm"] > 1 and moved.facts["at_bolus_mm"] > 1
    assert still.facts["snr"] == moved.facts["snr"]


def test_facts_are_those_that_were_drawn(drawn):
    folder, (still, _) = drawn
    facts = truths.read_facts(folder / "none", "sub-001")
    seed = cohorts.patient_seed("acute", 5, 0)
    again = phantom.draw_patient("acute", seed, SHAPE)
    assert facts == still.facts
    assert facts["lesion_ml"] == again.facts["core_ml"] + again.facts["penumbra_ml"]
    assert facts["bolus_width_s"] == again.facts["bolus_fwhm_s"]


def test_patients_passed_over_are_not_prepared(drawn, settings):
    folder = drawn[0]
    assert not list(twins.draw_twins(folder, settings, "acute", 5, 1, ["none"], first=1))


def test_seed_of_the_prepared_cohort_is_refused(tmp_path, settings):
    with pytest.raises(ValueError, match="may have learnt from"):
        next(twins.draw_twins(tmp_path, settings, "acute", settings["seed"], 1))
