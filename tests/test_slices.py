"""Prepared slices are scaled by the training patients only, exactly, and written whole."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from small_films import preparation, prepare, write_film, write_folder
from torch.utils.data import DataLoader

from perfnb import files
from perfnb.data import slices
from perfnb.data.cohorts import NO_AIF, SPLITS, find_cases
from perfnb.data.scaling import begun
from perfnb.data.slices import Scaling, Slices
from perfnb.maps import MAPS
from perfnb.study import require


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Return the run of a prepared folder of four films."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERFNB_HOME", str(home))
        yield prepare(write_folder(home / "films"))


@pytest.mark.parametrize("limits", [(0.0, 20.0), (-3.0, 0.07), (1e-4, 2e4)])
def test_scaling_goes_there_and_back(limits):
    scaling = Scaling({"Tmax": limits})
    low, high = limits
    values = np.linspace(low - (high - low), 2 * high, 1001).astype(np.float32)
    scaled = scaling.forward("Tmax", values)
    step = np.spacing(np.float32(np.abs(values).max()))
    assert np.abs(scaling.backward("Tmax", scaled) - values).max() <= 4 * step
    np.testing.assert_allclose(scaling.forward("Tmax", np.array(limits)), [-1, 1], atol=1e-6)
    assert scaled.dtype == np.float32
    assert scaled.max() > 1 and scaled.min() < -1  # nothing is clipped


def test_split_file_holds_every_patient_once(cohort):
    members = json.loads((cohort.data_dir / "split.json").read_text())
    assert list(members) == [*SPLITS, NO_AIF]
    assert sorted(sum(members.values(), [])) == ["p0", "p1", "p2", "p3"]
    table = pd.read_csv(cohort.data_dir / "patients.csv", dtype={"patient": str})
    assert table.set_index("patient").split.to_dict() == {
        patient: split for split, patients in members.items() for patient in patients
    }


def test_training_patients_fill_the_range_from_minus_one_to_one(cohort):
    for name in MAPS:
        train = Slices(cohort.data_dir, "train", name)
        slabs = [train.patient(p) for p in train.patients]
        values = np.concatenate([s.reference[s.mask] for s in slabs])
        np.testing.assert_allclose([values.min(), values.max()], [-1, 1], atol=1e-5)
        series = np.concatenate([s.series.transpose(0, 2, 3, 1)[s.mask] for s in slabs])
        assert np.abs(series).max() <= 1.002
        if MAPS[name].counts_from_start:  # other films have lost a frame at one end
            np.testing.assert_allclose([series.min(), series.max()], [-1, 1], atol=2e-3)


def test_slices_are_what_the_patient_is_made_of(cohort):
    test = Slices(cohort.data_dir, "test", "CBF")
    assert len(test) == 3 and test.frames == 64
    slab = test.patient(test.patients[0])
    for z, item in enumerate(test[i] for i in range(3)):
        np.testing.assert_array_equal(item["series"], slab.series[z])
        np.testing.assert_array_equal(item["reference"][0], slab.reference[z])
        np.testing.assert_array_equal(item["mask"], slab.mask[z])
        assert item["patient"] == slab.patient
    outside = ~slab.mask
    assert (slab.reference[outside] == -1).all()
    assert (slab.series.transpose(0, 2, 3, 1)[outside] == -1).all()
    back = test.scaling.backward("CBF", slab.reference)
    np.testing.assert_allclose(back[slab.mask], slab.reference_physical[slab.mask], rtol=1e-4)
    assert slab.truth is None


def test_batches_have_the_shapes_of_the_networks(cohort):
    batch = next(iter(DataLoader(Slices(cohort.data_dir, "train", "Tmax"), 4)))
    assert batch["series"].shape == (4, 64, 64, 64)
    assert batch["reference"].shape == (4, 1, 64, 64)
    assert batch["mask"].shape == (4, 64, 64)
    assert str(batch["series"].dtype) == str(batch["reference"].dtype) == "torch.float32"


@pytest.mark.parametrize("later", [-4, 0, 3])
def test_when_the_injector_was_started_changes_no_film_but_that_of_ttp(cohort, later):
    whole = Slices(cohort.data_dir, "test", "TTP")
    scaling, slab = whole.scaling, whole.patient(whole.patients[0])
    film = scaling.backward("series", slab.series)
    table = pd.read_csv(cohort.data_dir / "patients.csv").set_index("patient")
    arrival = int(table.arrival[slab.patient])
    seen, other = (
        scaling.film("Tmax", begun(film, by), slab.mask, arrival + by) for by in (0, later)
    )
    lead = scaling.arrival_frame - arrival
    held = slice(max(lead + max(-later, 0), 0), 64 + min(lead - max(later, 0), 0))
    np.testing.assert_array_equal(other[:, held], seen[:, held])
    raw = slab.series[:, held.start - lead : held.stop - lead]
    np.testing.assert_allclose(seen[:, held], raw, atol=1e-5)
    ttp = scaling.film("TTP", begun(film, later), slab.mask, arrival + later)
    assert np.allclose(ttp, slab.series, atol=1e-5) is (later == 0)


def test_bolus_arrives_in_the_frame_that_the_study_asks_for(cohort):
    told = pd.read_csv(cohort.data_dir / "patients.csv").set_index("patient").arrival
    for name in ("Tmax", "TTP"):
        train = Slices(cohort.data_dir, "train", name)
        for patient in train.patients:
            slab = train.patient(patient)
            curve = slab.series.transpose(0, 2, 3, 1)[slab.mask].mean(axis=0)
            fallen = np.flatnonzero(curve < curve[2:6].mean() - 0.05 * np.ptp(curve))
            expected = told[patient] if name == "TTP" else train.scaling.arrival_frame
            assert abs(fallen[0] - expected) <= 3 and slab.lead == expected - told[patient]


def test_as_in_the_paper_films_may_begin_as_they_come():
    film = np.random.default_rng(1).random((2, 20, 4, 4), np.float32)
    scaling = Scaling({"series": (0.0, 1.0)}, arrival_frame=None)
    mask = np.ones((2, 4, 4), bool)
    plain = scaling.inside("series", film, mask)
    np.testing.assert_array_equal(scaling.film("Tmax", film, mask, 3), plain)


def test_a_patient_whose_name_reads_as_missing_is_one_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path / "home"))
    names = ["007", "NA", "null", "None"]
    for seed, name in enumerate(names):
        write_film(tmp_path / "films", name, seed=seed)
    folder = prepare(tmp_path / "films").data_dir
    parts = [Slices(folder, split, "Tmax") for split in SPLITS]
    assert sorted(p for part in parts for p in part.patients) == sorted(names)
    assert all(len(part.patient(p).series) for part in parts for p in part.patients)
    table = files.read_table(folder / "patients.csv", aif_reasons=str).set_index("patient")
    assert sorted(table.index) == sorted(names) and table.aif_reasons.isna().all()


def test_tables_are_read_in_one_way_so_that_no_name_is_lost():
    package = Path(files.__file__).parent
    assert [p.name for p in package.rglob("*.py") if "read_csv" in p.read_text()] == ["files.py"]


def test_unknown_map_is_refused(cohort):
    with pytest.raises(ValueError, match="holds no map Tmaxx: add it to 04_prepare's maps"):
        Slices(cohort.data_dir, "train", "Tmaxx")


def test_a_test_patients_film_and_maps_change_no_range(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    before = json.loads((cohort.data_dir / "scaling.json").read_text())
    members = json.loads((cohort.data_dir / "split.json").read_text())
    folder = write_folder(tmp_path / "films")
    for split, same in (("test", True), ("validation", True), ("train", False)):
        paths = [folder / f"{members[split][0]}{e}.nii.gz" for e in ("", *(f"_{m}" for m in MAPS))]
        for path in paths:
            image = nib.load(path)
            louder = image.get_fdata(dtype=np.float32)
            louder[12, 12, 1] *= 3
            nib.save(nib.Nifti1Image(louder, image.affine), path)
        after = json.loads((prepare(folder).data_dir / "scaling.json").read_text())
        assert (after == before) is same
        ranges = [told["ranges"] for told in (before, after)]
        assert all((ranges[1][name] == ranges[0][name]) is same for name in ranges[0])


def test_the_same_films_give_the_same_fingerprint_and_others_another(tmp_path, monkeypatch, cohort):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    folder = write_folder(tmp_path / "films")
    first = Slices(prepare(folder).data_dir, "train", "Tmax").fingerprint
    assert first == Slices(cohort.data_dir, "train", "Tmax").fingerprint
    for change in ({"seed": 13}, {"arrival_frame": 14}, {"arrival_frame": None}):
        assert first != Slices(prepare(folder, **change).data_dir, "train", "Tmax").fingerprint


@pytest.mark.parametrize("frame", [0, 2, 32, 90])
def test_a_frame_of_arrival_that_leaves_no_baseline_or_no_bolus_is_refused(tmp_path, frame):
    with pytest.raises(
        ValueError, match=f"arrival_frame={frame}: expected null, or a frame from 3"
    ):
        slices.write_cohort(preparation(tmp_path, arrival_frame=frame), [])


def test_patients_without_an_artery_wait_in_a_group_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    folder = write_folder(tmp_path / "films", count=5)
    original = slices.prepare_patient

    def refuse_one(case, settings):
        prepared = original(case, settings)
        if case.patient == "p3":
            prepared.references = {}
        return prepared

    monkeypatch.setattr(slices, "prepare_patient", refuse_one)
    run = prepare(folder, split=[3, 1, 1])
    members = json.loads((run.data_dir / "split.json").read_text())
    assert members[NO_AIF] == ["p3"]
    assert "p3" not in sum((members[name] for name in SPLITS), [])
    waiting = Slices(run.data_dir, NO_AIF, "Tmax")
    assert np.isnan(waiting.patient("p3").reference_physical).all()
    assert np.isfinite(waiting.patient("p3").series).all()


def test_split_that_loses_all_its_patients_is_refused_and_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    folder = write_folder(tmp_path / "films")
    original = slices.prepare_patient

    def refuse_all(case, settings):
        prepared = original(case, settings)
        prepared.references = {}
        return prepared

    run = prepare(folder)
    monkeypatch.setattr(slices, "prepare_patient", refuse_all)
    with pytest.raises(ValueError, match=r"no patient is left for train, .*4 have no AIF \(p0"):
        prepare(folder)
    assert_not_trusted(run)


def assert_not_trusted(run) -> None:
    with pytest.raises(FileNotFoundError, match="left unfinished. Chapter 04_prepare makes it"):
        require(run.data_dir, "04_prepare")
    assert not (run.data_dir / "slices.partial").exists()


@pytest.mark.parametrize("place", ["os.posix_fallocate", "shutil.rmtree", "os.replace"])
def test_full_disk_ends_in_one_message_and_nothing_to_trust(tmp_path, monkeypatch, place):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    run = prepare(write_folder(tmp_path / "films", count=4))

    def full(*arguments, **options):
        raise OSError(28, os.strerror(28))

    if place != "shutil.rmtree":
        monkeypatch.setattr(place, full)
    else:
        monkeypatch.setattr(slices, "_store", full)
    with pytest.raises(OSError, match="could not be written .No space left on device.*PERFNB_HOME"):
        slices.write_cohort(run, find_cases(tmp_path / "films"))
    monkeypatch.undo()
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    assert_not_trusted(run)
    slices.write_cohort(run, find_cases(tmp_path / "films"))  # works again with space


def test_bad_film_among_good_ones_is_named_and_nothing_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    folder = write_folder(tmp_path / "films")
    run = prepare(folder)
    (folder / "p2.nii.gz").write_bytes(b"half a film")
    with pytest.raises(ValueError, match="p2.nii.gz cannot be read as NIfTI"):
        prepare(folder)
    assert_not_trusted(run)


def test_map_that_is_the_same_everywhere_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    folder = write_folder(tmp_path / "films")
    for path in folder.glob("*_Tmax.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.full(image.shape, 5, np.float32), image.affine), path)
    with pytest.raises(ValueError, match="Tmax is 5.0 everywhere in the training patients"):
        prepare(folder)


def test_another_cohorts_scaling_puts_all_patients_into_the_test(tmp_path, monkeypatch, cohort):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    write_film(tmp_path / "one", "only", maps=())
    run = preparation(tmp_path / "one")
    scaling = slices.read_scaling(cohort.data_dir)
    slices.write_cohort(run, find_cases(tmp_path / "one"), scaling)
    members = json.loads((run.data_dir / "split.json").read_text())
    assert members == {"train": [], "validation": [], "test": ["only"], NO_AIF: []}
    assert slices.read_scaling(run.data_dir) == scaling
    written = sorted(p.name for p in (run.data_dir / "references").iterdir())
    assert written == sorted(f"only_{name}.nii.gz" for name in MAPS)


def test_reserved_file_takes_its_place_on_the_disk(tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(1_000_000)
    files.reserve(path)
    assert path.stat().st_size == 1_000_000
    assert path.stat().st_blocks * 512 >= 1_000_000
