from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from synthetic_curves import small_series

from perfnb.classical import motion, registration, rigid
from perfnb.classical.signal import find_baseline
from perfnb.data import acquisition, phantom

SHAPE, SEED, FRAMES = (64, 64, 10), 103, 28


@pytest.fixture(scope="module")
def patients():
    return {
        kind: phantom.draw_patient("acute", SEED, SHAPE, FRAMES, motion=kind)
        for kind in acquisition.MOTIONS
    }


@pytest.fixture(scope="module")
def found(patients):
    return {k: motion.correct_motion(p.series, p.mask, p.affine) for k, p in patients.items()}


def bolus_frames(patient):
    first = int(patient.facts["bolus_arrival_s"] / patient.repetition_time_s)
    return slice(first, first + int(np.ceil(20 / patient.repetition_time_s)))


def left_over(patient, result):
    """Displacement [mm] that the correction leaves, per frame."""
    return rigid.displacement_between(
        result.parameters, patient.motion, patient.mask, patient.affine
    )


def error_in_brain(patient, series):
    return np.sqrt(np.mean((series - patient.noise_free)[patient.mask] ** 2))


def poses(seed, n=5):
    return np.random.default_rng(seed).normal(0, 3, (n, 6))


def test_a_still_film_stays_as_it_is_also_while_the_bolus_passes(patients, found):
    patient, result = patients["none"], found["none"]
    assert result.displacement_mm[bolus_frames(patient)].mean() < 0.2
    assert (result.moved, result.ok, result.reasons) == ("none", True, ())
    np.testing.assert_array_equal(result.series, patient.series)


def test_mild_motion_is_found_within_a_third_of_a_millimetre(patients, found):
    patient, result = patients["mild"], found["mild"]
    error = left_over(patient, result)
    assert result.moved == "mild" and result.ok
    assert error.mean() < 0.3 and error[bolus_frames(patient)].mean() < 0.3


def test_considerable_motion_shrinks_to_a_fraction(patients, found):
    patient, result = patients["considerable"], found["considerable"]
    before = rigid.displacement(patient.motion, patient.mask, patient.affine)
    error, bolus = left_over(patient, result), bolus_frames(patient)
    assert result.moved == "considerable"
    assert error.mean() < 0.25 * before.mean() and error[bolus].mean() < 0.25 * before[bolus].mean()


@pytest.mark.parametrize("kind", ["mild", "considerable"])
def test_the_corrected_film_is_nearer_to_the_truth_than_a_resampled_one(patients, found, kind):
    patient, result = patients[kind], found[kind]
    size_mm = rigid.voxel_size(patient.affine)
    resampled = motion.resample(patient.series, patient.motion, size_mm)
    corrected = error_in_brain(patient, result.series)
    assert corrected < 0.7 * error_in_brain(patient, patient.series)
    assert corrected < 0.7 * error_in_brain(patient, resampled)
    assert result.series.dtype == np.float32 and result.series.shape == patient.series.shape


def test_the_same_film_gives_the_same_correction(patients, found):
    patient = patients["mild"]
    size_mm = rigid.voxel_size(patient.affine)
    again = motion.correct_motion(patient.series, patient.mask, size_mm)
    np.testing.assert_array_equal(again.parameters, found["mild"].parameters)
    np.testing.assert_array_equal(again.series, found["mild"].series)
    assert not again.parameters[0].any()


def test_poses_move_points_as_the_phantom_moves_its_film():
    affine = np.diag([3.0, 3.0, 6.0, 1.0])
    path = np.array([[0, 0, 0, 0, 0, 0], [4.0, -3.0, 5.0, 6.0, -4.0, 8.0]])
    points = rigid.grid_points((21, 21, 11), np.array([3.0, 3.0, 6.0]))
    blob = np.exp(-0.5 * ((points - np.array([[9.0], [-6.0], [6.0]])) ** 2).sum(0) / 8.0**2)
    series = np.repeat(blob.reshape(21, 21, 11, 1), 2, axis=-1)
    moved = acquisition.move(series, path, affine)[..., 1].ravel()
    centre = (points * moved).sum(axis=1) / moved.sum()
    expected = rigid.move_points(path[1], np.array([[9.0], [-6.0], [6.0]]))[:, 0]
    np.testing.assert_allclose(centre, expected, atol=0.3)


def test_resampling_undoes_a_motion():
    affine = np.diag([3.0, 3.0, 5.0, 1.0])
    x, y, z = rigid.grid_points((30, 30, 12), np.array([3.0, 3.0, 5.0])).reshape(3, 30, 30, 12)
    still = np.exp(-(x**2 + (y - 6) ** 2 + (z + 4) ** 2) / (2 * 20**2)).astype(np.float32)
    path = np.vstack([np.zeros(6), poses(1, 4)])
    series = np.repeat(still[..., None], 5, axis=-1)
    moved = acquisition.move(series, path, affine)
    back = motion.resample(moved, path, np.array([3.0, 3.0, 5.0]))
    inner = (slice(4, -4), slice(4, -4), slice(2, -2))
    np.testing.assert_array_equal(back[..., 0], still)
    assert np.abs(back - series)[inner].max() < 0.4 * np.abs(moved - series)[inner].max()


def test_a_window_before_the_bolus_can_be_given(patients):
    patient = patients["none"]
    window = find_baseline(patient.series, patient.mask)
    result = motion.correct_motion(patient.series, patient.mask, patient.affine, window)
    assert result.moved == "none"
    with pytest.raises(ValueError, match="does not fit"):
        motion.correct_motion(
            patient.series, patient.mask, patient.affine, replace(window, last=FRAMES + 1)
        )


def test_a_pose_and_its_inverse_cancel():
    for pose, other in zip(poses(2), poses(3), strict=True):
        np.testing.assert_allclose(rigid.compose(rigid.invert(pose), pose), 0, atol=1e-9)
        points = np.random.default_rng(4).normal(0, 50, (3, 9))
        twice = rigid.move_points(other, rigid.move_points(pose, points))
        np.testing.assert_allclose(
            rigid.move_points(rigid.compose(other, pose), points), twice, atol=1e-9
        )


def test_displacement_is_the_mean_way_of_the_brains_voxels():
    mask = np.zeros((9, 9, 3), bool)
    mask[8, 4, 1] = mask[4, 4, 1] = True
    path = np.array([[3.0, 4.0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 60.0], [np.nan] * 6])
    far = rigid.displacement(path, mask, np.diag([2.0, 2.0, 5.0, 1.0]))
    np.testing.assert_allclose(far, [5.0, 4.0, np.nan])  # a turn by 60 degrees, 8 mm from the axis


def test_broken_frames_are_marked_and_left_alone(patients, found):
    patient = patients["mild"]
    series = patient.series.copy()
    series[..., 20] = np.nan
    series[..., 25] = 0
    series[patient.mask.nonzero()[0][0], :, 4, 15] = np.nan
    result = motion.correct_motion(series, patient.mask, patient.affine)
    assert np.flatnonzero(~result.usable).tolist() == [20, 25]
    assert np.isnan(result.parameters[~result.usable]).all() and result.ok
    np.testing.assert_array_equal(result.series[..., ~result.usable], series[..., ~result.usable])
    assert np.nanmean(left_over(patient, result)) < 0.3


def test_a_film_that_cannot_be_trusted_says_why(patients):
    patient = patients["none"]
    series = patient.series.copy()
    series[..., 22:] = np.nan
    series[..., 20] = np.random.default_rng(0).permutation(series[..., 20].ravel()).reshape(SHAPE)
    result = motion.correct_motion(series, patient.mask, patient.affine)
    assert not result.ok
    assert any(f"6 of {FRAMES} frames" in reason for reason in result.reasons)
    assert any("frames 20" in reason for reason in result.reasons)


def test_brain_out_of_view_is_named(patients):
    patient = patients["mild"]
    usable, path = np.ones(2, bool), np.array([[0.0] * 6, [0, 0, 40.0, 0, 0, 0]])
    in_view = motion._share_in_view(path, patient.mask, rigid.voxel_size(patient.affine))
    assert in_view[0] == 1 and in_view[1] < 0.8
    (reason,) = motion._reasons(usable, np.array([], int), in_view)
    assert "left the field of view in frame 1" in reason


def test_a_film_cut_out_by_a_mask_hides_no_motion(patients, found):
    patient = patients["considerable"]
    cut = np.where(patient.mask[..., None], patient.series, 0)
    result = motion.correct_motion(cut, patient.mask, patient.affine)
    before = rigid.displacement(patient.motion, patient.mask, patient.affine)
    assert left_over(patient, result).mean() < 0.4 * before.mean()


def test_a_single_slice_is_corrected_in_plane(patients):
    patient = patients["none"]
    path = np.zeros((patient.series.shape[-1], 6))
    path[20:, [0, 1, 5]] = [2.0, -1.0, 1.5]
    series, mask = patient.series[:, :, 5:6], patient.mask[:, :, 5:6]
    moved = acquisition.move(series, path, patient.affine)
    result = motion.correct_motion(moved, mask, patient.affine)
    assert not result.parameters[:, 2:5].any()
    error = rigid.displacement_between(result.parameters, path, mask, patient.affine)
    assert error.mean() < 0.3


def test_a_film_without_a_bolus_is_corrected_too():
    series, truth = small_series(snr=50)
    quiet = np.repeat(series[..., 4:5], 20, axis=-1)
    quiet = quiet * np.random.default_rng(0).normal(1, 0.01, quiet.shape)
    path = np.zeros((20, 6))
    path[8:, 1] = 3.0
    moved = acquisition.move(quiet, path, np.diag([3.0, 3.0, 5.0, 1.0]))
    result = motion.correct_motion(moved, truth["mask"], np.array([3.0, 3.0, 5.0]))
    np.testing.assert_allclose(result.parameters[8:, 1], 3.0, atol=0.3)


def test_threads_of_others_are_left_alone(patients):
    patient = patients["none"]
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    motion.resample(patient.series[..., :2], poses(5, 2) / 9, rigid.voxel_size(patient.affine))
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(series=np.ones((8, 8, 20))), "expected \\(X, Y, Z, T\\)"),
        (dict(series=np.full((12, 12, 4, 20), np.nan)), "frames in which the brain is finite"),
        (dict(series=np.ones((12, 12, 4, 20))), "frames in which the brain is finite"),
        (dict(series=np.eye(12)[:, :, None, None] * np.ones((4, 20))), "have a signal"),
        (dict(series=np.ones((12, 12, 4, 5))), "at least 10 time points"),
        (dict(mask=np.zeros((12, 12, 4))), "mask is empty"),
        (dict(mask=np.ones((12, 12, 3))), "mask has shape"),
        (dict(mask=np.eye(12)[..., None] * np.ones(4)), "at least 100"),
        (dict(affine=np.diag([2.0, 2.0, 0.0, 1.0])), "sizes above 0"),
        (dict(affine=(2.0, 2.0)), "three voxel sizes"),
        (dict(affine=(2.0, np.nan, 5.0)), "sizes above 0"),
    ],
)
def test_bad_input_is_one_clear_error(change, message):
    rng = np.random.default_rng(0)
    good = dict(
        series=rng.normal(100, 5, (12, 12, 4, 20)),
        mask=np.ones((12, 12, 4), bool),
        affine=np.diag([2.0, 2.0, 5.0, 1.0]),
    )
    with pytest.raises(ValueError, match=message):
        motion.correct_motion(**(good | change))


def test_the_model_of_a_frame_at_rest_moves_into_the_frame(patients):
    patient = patients["mild"]
    size_mm = rigid.voxel_size(patient.affine)
    found = registration.align(patient.series, patient.mask, size_mm, np.arange(3, 9))
    still, moved = found.models()
    brain = patient.mask[found.head.box]
    rest = (np.moveaxis(found.frames, 0, -1) - moved)[brain]
    before = rest[:, 3:9].std() / moved[brain][:, 3:9].mean()
    assert before < 1.5 / patient.facts["snr"]
    shaken = (still - moved)[brain].std(axis=0)
    assert shaken[0] < 1e-3 * shaken.max()
