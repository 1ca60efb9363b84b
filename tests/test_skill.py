import numpy as np
import pandas as pd
import pytest

from perfnb.metrics import skill, tables


def table(score, floor, ceiling, measure="MAE_physical"):
    head = dict(study="s", cohort="acute", map="Tmax", against="truth", region="tissue", unit="s")
    values = {"pix2pix": score, "constant": floor, "noise-free teacher": ceiling}
    return pd.DataFrame(
        [
            {**head, "measure": measure, "model": m, "patient": f"{p}", "value": v}
            for m, column in values.items()
            for p, v in enumerate(column)
        ]
    )[list(tables.COLUMNS)]


def test_skill_is_none_at_the_floor_whole_at_the_ceiling_and_linear_between():
    rng = np.random.default_rng(0)
    floor = rng.uniform(4, 5, 9)
    ceiling = floor - rng.uniform(1, 2, 9)
    for share in (0.0, 0.3, 1.0, 1.2):
        value, low, high = skill.skill(floor + share * (ceiling - floor), floor, ceiling, seed=0)
        np.testing.assert_allclose([value, low, high], share, atol=1e-12)
    value, low, high = skill.skill(floor - rng.uniform(0, 1, 9), floor, ceiling, seed=0)
    assert low < value < high


def test_a_teacher_no_better_than_the_constant_makes_no_skill():
    rng = np.random.default_rng(1)
    floor = rng.uniform(1, 2, 8)
    same = floor + rng.normal(0, 0.3, 8)
    assert np.isnan(skill.skill(floor, floor, same - (same - floor).mean(), seed=0)).all()
    worse = skill.skill_table(table(floor, floor, floor + 1), seed=0).iloc[0]
    assert np.isnan(worse["skill"]) and worse["note"].startswith("the teacher is not shown")


@pytest.mark.parametrize(("measure", "sign"), [("MAE_physical", -1), ("SSIM", 1)])
def test_a_better_score_has_more_skill_in_either_direction(measure, sign):
    floor = np.linspace(0.3, 0.4, 6)
    row = skill.skill_table(table(floor + sign * 0.1, floor, floor + sign * 0.2, measure), 0).iloc[
        0
    ]
    assert row["skill"] == pytest.approx(0.5) and row["n"] == 6 and row["note"] == ""


def test_the_correlation_counts_from_nothing():
    nothing = np.full(5, np.nan)
    found = skill.skill_table(table(np.full(5, 0.45), nothing, np.full(5, 0.9), "r"), 0).iloc[0]
    assert found["skill"] == pytest.approx(0.5) and found["floor"] == 0


def test_patients_without_a_ceiling_do_not_count():
    floor = np.linspace(3, 4, 5)
    full = table(floor - 1, floor, floor - 2)
    lost = full[~((full["model"] == "noise-free teacher") & (full["patient"] == "0"))]
    assert skill.skill_table(lost, 0)["n"].tolist() == [4]
    none = skill.skill_table(full[full["model"] != "noise-free teacher"], 0).iloc[0]
    assert none["note"] == "no patient has a ceiling" and np.isnan(none["skill"])
    text = skill.as_text(skill.skill_table(full, 0))
    assert text.loc[("acute", "Tmax", "pix2pix"), "MAE, truth"] == "0.50 [0.50,\u00a00.50]"
    assert skill.as_text(skill.skill_table(full[:0], 0)).empty
