"""Floors and ceilings: the floor sees no bolus, and the ceilings are the teacher made again."""

import numpy as np
import pytest
from small_films import prepare, write_folder

from perfnb.data import cohorts, controls, prebolus
from perfnb.study import start

NAMES = ["CBF", "Tmax"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return the run of chapter 04 for a folder of four films."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERFNB_HOME", str(home))
        patch.setattr(prebolus, "STEPS", 120)
        folder = write_folder(home / "films")
        yield prepare(folder, maps=NAMES), cohorts.find_cases(folder)


def drawn(run):
    return prebolus.draw_before_bolus(run.data_dir, NAMES, ["p0", "p3"], seed=1)


def test_a_user_has_the_floor_on_disk_and_no_ceiling(prepared):
    run, cases = prepared
    made = controls.write_controls(run, cases)
    assert made.columns.tolist() == [prebolus.NAME] and made.all(axis=None)
    (patient,) = made.index
    found = controls.read_controls(run.data_dir, patient, "Tmax")
    assert list(found) == [prebolus.NAME]
    assert found[prebolus.NAME].shape == (3, 64, 64)
    assert controls.read_controls(run.data_dir, patient, "MTT") == {}
    assert controls.read_controls(run.data_dir, "nobody", "Tmax") == {}


def test_the_floor_sees_nothing_after_the_baseline(prepared):
    run, _ = prepared
    before = drawn(run)
    series = np.load(run.data_dir / "slices" / "series.npy", mmap_mode="r+")
    kept = series.copy()
    series[:, 18:] = 0.123  # the latest bolus of these films comes in frame 17
    after = drawn(run)
    series[:, 2:8] *= 1.5
    other = drawn(run)
    series[:] = kept
    for patient, maps in before.items():
        for name, values in maps.items():
            np.testing.assert_array_equal(values, after[patient][name])
    assert any((before["p0"][n] != other["p0"][n]).any() for n in NAMES)


def test_the_floor_learns_from_training_patients_and_stays_in_the_brain(prepared):
    run, _ = prepared
    slices = prebolus.Slices(run.data_dir, "train", "CBF")
    slab = slices.patient(slices.patients[0])
    maps = prebolus.draw_before_bolus(run.data_dir, NAMES, slices.patients, seed=1)
    error = np.abs(maps[slab.patient]["CBF"] - slab.reference_physical)[slab.mask].mean()
    values = slab.reference_physical[slab.mask]
    assert error <= np.abs(values - np.median(values)).mean() * 1.2
    assert (maps[slab.patient]["CBF"][~slab.mask] == 0).all()
    assert drawn(run)["p0"]["CBF"].tobytes() == drawn(run)["p0"]["CBF"].tobytes()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Return one simulated patient on disk."""
    folder = tmp_path_factory.mktemp("phantoms")
    return cohorts.make_phantoms(folder, "acute", 1, (48, 48, 6), 3, motion="none")[0]


def test_a_patient_scanned_again_differs_in_noise_only(simulated):
    first, second = (cohorts.scan_again(simulated, noise_draw=k) for k in (0, 1))
    np.testing.assert_array_equal(first.noise_free, second.noise_free)
    np.testing.assert_array_equal(first.truth["CBF"], second.truth["CBF"])
    assert (first.series != second.series).mean() > 0.5
    film = cohorts.find_cases(simulated.series_path.parents[2])[0]
    assert film == simulated
    with pytest.raises(ValueError, match="is no simulated film"):
        lost = simulated.series_path.parents[2] / "x" / "perf" / "x_dsc.nii.gz"
        cohorts.scan_again(cohorts.Case("x", lost))


def test_the_teacher_without_noise_follows_the_truth(simulated):
    settings = dict(start("04_prepare", "tiny", "acute").settings) | {"matrix": 64, "slices": 6}
    patient = cohorts.scan_again(simulated)
    curve = {"aif_curve": patient.aif, "rescale_by_vein": False, "corrects_motion": False}
    made = controls._reference_maps(patient.noise_free, patient, settings, **curve)
    assert set(made) == set(settings["maps"])
    grid = controls.Grid.of(patient.affine, patient.mask.shape, 64, 6)
    truth, tissue = grid.forward(patient.truth["CBF"]), grid.forward(patient.tissue, order=0)
    inside = np.isin(tissue, (2, 3))
    assert np.corrcoef(made["CBF"][inside], truth[inside])[0, 1] > 0.8
    own = abs(np.linalg.det(patient.affine[:3, :3])) / 1000
    assert grid.voxel_ml == pytest.approx(own * (48 / 64) ** 2)
