"""Films that moved, as tables and figures' rows."""

import numpy as np
import pandas as pd
import pytest

from perfnb.data.twins import MOMENTS
from perfnb.models import moved, shown

SHAPE = (2, 8, 8)
TISSUE = np.ones(SHAPE, bool)
MOTIONS = {"none": "still", "bolus": "in the bolus", "mild": "mild"}


def film(patient, motion, moved_mm, has_aif=True):
    """A film whose network draws the true Tmax; the lesion is a corner of slice 1."""
    truth = np.full(SHAPE, 3.0)
    truth[1, :4, :4] = 9.0
    facts = {"motion": motion, "has_aif": has_aif, "moved_mm": moved_mm, "lesion": "trunk"}
    drawn = {("Tmax", "pix2pix"): truth}
    drawn |= {("Tmax", route): truth for route in moved.ROUTES[: 1 + has_aif]}
    return moved.Film(patient, facts, truth, TISSUE, TISSUE, {"Tmax": truth}, drawn)


def test_arteries_are_counted_by_motion_and_route():
    films = {("a", "none"): film("a", "none", 0), ("b", "none"): film("b", "none", 0, False)}
    films["a", "bolus"] = film("a", "bolus", 4)
    table = shown.count_arteries(films, MOTIONS).set_index("motion")
    assert list(table.index) == ["still", "in the bolus"]
    assert list(table.loc["still", ["AIF found, corrected", "AIF found, as it is"]]) == [2, 1]


def test_each_patient_without_aif_is_taken_once_most_motion_first():
    films = [film("a", "mild", 1, False), film("a", "bolus", 5, False), film("b", "bolus", 9)]
    films.append(film("c", "bolus", 7, False))
    found = shown.most_moved(films)
    assert list(found) == ["c", "a"] and found["a"].facts["moved_mm"] == 5


def test_film_that_correction_cannot_mend_is_shown_before_one_that_it_can():
    mended, lost = film("a", "bolus", 9), film("b", "mild", 1, False)
    del mended.drawn["Tmax", moved.ROUTES[1]]
    assert shown.is_lost(mended) and not shown.is_lost(film("a", "bolus", 9))
    assert list(shown.most_moved([mended, lost])) == ["b", "a"]


def test_lesion_is_outlined_and_a_perfect_map_overlaps_whole():
    one = film("a", "bolus", 5.2)
    rows = shown.lesion_rows([one], "Tmax", ["pix2pix"])
    (label, columns), outline = rows["rows"][0], rows["outline"][0]
    assert label == "a\n5 mm" and list(columns) == ["input", "pix2pix", "truth"]
    np.testing.assert_array_equal(outline, one.truth["Tmax"][1] > 6)
    table = shown.lesion_table([one], ["pix2pix"])
    assert table.loc[0, "pix2pix, Dice"] == "1.00" and table.loc[0, "truth, late [%]"] == "12.5"


@pytest.fixture
def table():
    """Errors of four patients: 1 s still, 1.5 s when they nod."""
    rows = [
        {"patient": f"p{i}", "motion": motion, "map": "Tmax", "model": "pix2pix",
         "error": error + 0.02 * i, "r": 0.5, "far": far}
        for i in range(4)
        for motion, error, far in (("none", 1.0, 0), ("mild", 1.2, 1), ("bolus", 1.5, 4),
                                   ("considerable", 1.9, 6))
    ]  # fmt: skip
    return moved.add_change(pd.DataFrame(rows))


def test_changes_and_their_intervals_stand_by_motion_and_route(table):
    values = shown.changes(table, "Tmax", "error", ["pix2pix", "classical"], {"bolus": "nod"})
    np.testing.assert_allclose(values["nod"]["pix2pix"], 0.5)
    assert not len(values["nod"]["classical"])
    same = shown.changes(table, "Tmax", "r", ["pix2pix"], {"bolus": "nod"})
    np.testing.assert_allclose(same["nod"]["pix2pix"], 0)
    ends = shown.intervals(values, seed=1)
    assert ends["nod"]["pix2pix"] == pytest.approx((0.5, 0.5)) and "classical" not in ends["nod"]


def test_levels_tell_error_correlation_and_films_or_a_dash(table):
    found = shown.levels(table, ["pix2pix", "constant"])
    assert found.loc[("Tmax", "none"), "pix2pix"] == "1.03, r 0.50 (4)"
    assert (found["constant"] == "–").all()


def test_motion_that_goes_with_the_error_in_every_patient_is_found(table):
    found = shown.motion_correlations(table, {"far": "motion [mm]"}, seed=1)
    assert found.loc[0, "ρ"] == "+1.00" and float(found.loc[0, "p"]) < 0.01
    few = shown.motion_correlations(table[table["motion"] == "none"], {"far": "x"}, seed=1)
    assert few.loc[0, "ρ"] == "–"


def test_bands_of_nods_hold_the_change_within_each_patient():
    nods = pd.DataFrame(
        {"patient": f"p{i}", "moment": m, "amplitude_mm": a, "map": "Tmax", "model": "pix2pix",
         "error": 9 * i + a * (1 + i)}
        for i in range(3) for m in MOMENTS for a in (0.0, 6.0)
    )  # fmt: skip
    low, mean, high = shown.nod_bands(nods, "Tmax", ["pix2pix"], seed=1)[MOMENTS[0]]["pix2pix"]
    np.testing.assert_allclose(mean, [0, 12])
    assert low[0] == high[0] == 0 and low[1] < mean[1] < high[1]
