"""A cohort is a folder of films: found, drawn once, and split by patient."""

import itertools

import numpy as np
import pytest
from small_films import write_film, write_volume

from perfnb.data import cohorts
from perfnb.data.cohorts import SPLITS, find_cases, make_phantoms, split_patients
from perfnb.maps import MAPS

SHAPE = (16, 16, 2)


def test_films_are_found_with_what_lies_beside_them(tmp_path):
    write_film(tmp_path, "anna_dsc", maps=(), mask=False)
    write_film(tmp_path / "deep" / "er", "ben", maps=("Tmax", "CBF"))
    write_volume(tmp_path / "anna_mask.nii", np.ones((24, 24, 3), np.uint8))
    anna, ben = find_cases(tmp_path)
    assert (anna.patient, anna.series_path.name) == ("anna", "anna_dsc.nii.gz")
    assert (anna.mask_path.name, anna.map_paths) == ("anna_mask.nii", {})
    assert ben.mask_path.name == "ben_mask.nii.gz"
    assert set(ben.map_paths) == {"Tmax", "CBF"}
    assert {p.name for p in anna.paths} == {"anna_dsc.nii.gz", "anna_dsc.json", "anna_mask.nii"}


def test_what_is_no_film_is_not_taken_for_one(tmp_path):
    write_film(tmp_path, "anna", maps=())
    for name in (".hidden.nii.gz", "anna.nii.gz.bak", "notes.nii.txt", "anna_TTP.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "derivatives").mkdir()
    (tmp_path / "derivatives" / "other.nii.gz").write_bytes(b"")
    assert [case.patient for case in find_cases(tmp_path)] == ["anna"]


def test_folder_without_films_and_patient_with_two_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no film: expected one 4-D NIfTI file"):
        find_cases(tmp_path)
    write_film(tmp_path / "a", "anna_dsc", maps=())
    write_film(tmp_path / "b", "anna_perf", maps=())
    with pytest.raises(ValueError, match="more than one film of .'anna'.: keep one film"):
        find_cases(tmp_path)


def test_simulated_patient_is_complete_and_the_same_whatever_the_count(tmp_path):
    two = make_phantoms(tmp_path / "two", "acute", 2, SHAPE, 3)
    one = make_phantoms(tmp_path / "one", "acute", 1, SHAPE, 3)
    assert [case.patient for case in two] == ["sub-001", "sub-002"]
    assert set(MAPS) | {"tissue"} <= set(two[0].truth_paths)
    assert two[0].mask_path is not None and two[0].map_paths == {}
    a, b = (case.series_path.read_bytes() for case in (two[0], one[0]))
    assert a[10:] == b[10:]  # without the time in the gzip header
    assert two[1].series_path.read_bytes()[10:] != a[10:]


def test_patients_are_drawn_once_and_again_where_the_drawing_was_cut_short(tmp_path, monkeypatch):
    def times(cases):
        return [case.series_path.stat().st_mtime_ns for case in cases]

    first = times(make_phantoms(tmp_path, "acute", 2, SHAPE, 3))
    assert times(make_phantoms(tmp_path, "acute", 2, SHAPE, 3)) == first
    (tmp_path / cohorts.TRUTH / "sub-002" / "done").unlink()
    again = times(make_phantoms(tmp_path, "acute", 2, SHAPE, 3))
    assert again[0] == first[0] and again[1] > first[1]
    assert len(make_phantoms(tmp_path, "acute", 1, SHAPE, 3)) == 1
    monkeypatch.setattr(cohorts, "_phantom_hash", lambda: "a changed phantom")
    assert min(times(make_phantoms(tmp_path, "acute", 2, SHAPE, 3))) > max(again)


def test_another_seed_or_shape_replaces_the_patients(tmp_path):
    make_phantoms(tmp_path, "acute", 2, SHAPE, 3)
    cases = make_phantoms(tmp_path, "acute", 1, SHAPE, 4)
    assert [case.patient for case in find_cases(tmp_path)] == ["sub-001"]
    seeds = {
        cohorts.patient_seed(c, s, i)
        for c, s, i in itertools.product(("acute", "chronic"), (3, 4), range(50))
    }
    assert len(seeds) == 200
    assert cases[0].series_path.is_file()


@pytest.mark.parametrize("sizes", [[5, 2, 3], [0.5, 0.25, 0.25]])
def test_every_patient_is_in_exactly_one_split(sizes):
    patients = [f"p{i}" for i in range(10)]
    split = split_patients(patients, sizes, seed=1)
    assert sorted(itertools.chain(*split.values())) == patients
    assert list(split) == list(SPLITS)
    if sizes[0] == 5:
        assert [len(split[name]) for name in SPLITS] == sizes
    assert split == split_patients(patients, sizes, seed=1)
    assert split != split_patients(patients, sizes, seed=2)


@pytest.mark.parametrize("count", range(3, 12))
def test_fractions_leave_at_least_one_patient_for_each(count):
    split = split_patients([f"p{i}" for i in range(count)], [0.7, 0.1, 0.2], seed=0)
    assert min(map(len, split.values())) >= 1
    assert len(split["train"]) >= len(split["test"]) or count < 5


@pytest.mark.parametrize("count", [0, 1, 2])
def test_cohort_too_small_to_split_is_refused_with_what_to_do(count):
    with pytest.raises(ValueError, match=rf"{count} patient.*at least 3.*trained_on='acute'"):
        split_patients([f"p{i}" for i in range(count)], [0.5, 0.25, 0.25], seed=0)


@pytest.mark.parametrize("sizes", [[5, 2, 2], [10, 0, 0], [0.1, 0.5, 0.5]])
def test_numbers_that_do_not_divide_the_patients_are_refused(sizes):
    with pytest.raises(ValueError, match="does not divide 10 patients"):
        split_patients([f"p{i}" for i in range(10)], sizes, seed=0)
