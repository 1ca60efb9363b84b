"""Trained models on films without an AIF: maps, scores and what motion changed."""

import numpy as np
import pandas as pd
import pytest
import torch
from small_films import preparation, prepare, write_folder

from perfnb.data import cohorts
from perfnb.data.preparation import prepare_patient
from perfnb.data.scaling import Scaling
from perfnb.data.slices import Slices
from perfnb.models import moved

SHAPE = (3, 8, 8)
MASK = np.zeros(SHAPE, bool)
MASK[:, 2:6, 2:6] = True


class Same(torch.nn.Module):
    """A network that draws one value everywhere, on [-1, 1]."""

    def __init__(self, value):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(float(value)))

    def forward(self, series, mask):
        return self.value.expand(len(series), 1, *series.shape[2:])


def film(motion="none", patient="new 001", error=1.0):
    """A film whose network is off by `error` seconds; slice 1 holds a late voxel."""
    truth = np.full(SHAPE, 3.0)
    truth[1, 3, 3] = 8.0
    facts = {"motion": motion, "has_aif": True, "moved_mm": 0.0, "at_bolus_mm": 0.0}
    drawn = {("Tmax", "pix2pix"): truth + error}
    return moved.Film(patient, facts, truth, MASK, MASK, {"Tmax": truth}, drawn)


def test_maps_are_drawn_in_the_unit_of_the_map_and_only_in_the_brain():
    scaling = Scaling({"series": (0.0, 2.0), "Tmax": (0.0, 20.0)})
    seen = {"Tmax": np.zeros((3, 4, 8, 8), np.float32)}
    generators = {("Tmax", "pix2pix"): Same(0.5)}
    drawn = moved.draw_maps(generators, seen, MASK, scaling)["Tmax", "pix2pix"]
    np.testing.assert_allclose(drawn, np.where(MASK, 15.0, 0.0))


def test_networks_see_a_new_film_exactly_as_a_prepared_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    run = prepare(write_folder(tmp_path / "films"))
    tests = {name: Slices(run.data_dir, "test", name) for name in ("Tmax", "TTP")}
    test = tests["Tmax"]
    case = {c.patient: c for c in cohorts.find_cases(tmp_path / "films")}[test.patients[0]]
    made = prepare_patient(case, preparation(tmp_path / "films").settings)
    arrival = made.facts["arrival"]
    seen = moved.scale_series(made.series, made.mask, arrival, test.scaling, list(tests))
    for name, slices in tests.items():
        np.testing.assert_array_equal(seen[name], slices.patient(case.patient).series)


def test_film_is_scored_against_the_truth_with_the_constant_beside():
    table = pd.DataFrame(moved.score_film(film(error=-2.0), {"Tmax": 3.0})).set_index("model")
    assert table.loc["pix2pix", "error"] == pytest.approx(2)
    assert table.loc["pix2pix", "bias"] == pytest.approx(-2)
    assert table.loc["pix2pix", "r"] == pytest.approx(1)
    assert table.loc["constant", "error"] == pytest.approx(5 / MASK.sum())


def test_change_is_paired_by_patient_and_unknown_without_a_still_film():
    films = [film(), film("bolus", error=1.5), film("bolus", "sub-009", error=9.0)]
    table = moved.add_change(pd.DataFrame(r for f in films for r in moved.score_film(f, {})))
    assert table["change_error"].iloc[:2].to_list() == pytest.approx([0, 0.5])
    assert table["change_r"].iloc[:2].to_list() == pytest.approx([0, 0])
    assert table[["change_error", "change_r"]].iloc[2].isna().all()


def test_latest_slice_holds_the_late_tissue():
    assert film().latest_slice() == 1


def test_darkest_frame_is_that_of_the_brain_and_not_of_its_surroundings():
    series = np.ones((3, 4, 8, 8), np.float32)
    series[:, 2][MASK] = 0.2
    series[:, 1][~MASK] = -9
    np.testing.assert_array_equal(moved.darkest(series, MASK), series[:, 2])
