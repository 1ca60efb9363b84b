"""Rank correlations over patients, and the rules of F8 and F9."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from perfnb.metrics import causes, robustness


def rng():
    return np.random.default_rng(0)


def films(shift, motion="considerable", has_aif=False, patients=8):
    """Errors of eight patients: the constant 4 s, pix2pix 2 s, temp-pix2pix `shift` more."""
    noise = 0.01 * rng().standard_normal((patients, 3))
    means = {"constant": 4.0, "pix2pix": 2.0, "temp-pix2pix": 2.0 + shift}
    return pd.DataFrame(
        {"patient": f"p{i}", "motion": motion, "has_aif": has_aif, "model": name,
         "error": mean + noise[i, k]}
        for i in range(patients) for k, (name, mean) in enumerate(means.items())
    )  # fmt: skip


def shapes(strength, patients=40):
    """Patients of two cohorts whose quality follows the height of the AIF."""
    drawn = rng().permuted(np.tile(np.arange(patients), (5, 1)), axis=1) / patients
    table = pd.DataFrame(dict(zip(robustness.AIF_SHAPE, drawn, strict=False)))
    table["SSIM"] = strength * table["aif_height"] + drawn[4]
    table["cohort"] = np.where(np.arange(patients) % 2, "acute", "chronic")
    return table.assign(map="Tmax", model="temp-pix2pix")


def test_rank_correlation_of_one_group_is_spearmans():
    a, b = rng().standard_normal((2, 30))
    found = causes.rank_correlation(a, b + a, ["acute"] * 30, seed=1)
    expected = stats.spearmanr(a, b + a)
    assert found["rho"] == pytest.approx(expected.statistic)
    assert found["p"] == pytest.approx(expected.pvalue, abs=0.005)
    assert found["low"] < found["rho"] < found["high"]


def test_difference_between_groups_is_no_correlation():
    a, b = rng().standard_normal((2, 40))
    groups = np.repeat(["acute", "chronic"], 20)
    shift = np.where(groups == "acute", 0, 10)
    found = causes.rank_correlation(a + shift, b + shift, groups, seed=1)
    assert found["rho"] == pytest.approx(causes.rank_correlation(a, b, groups, 1)["rho"])
    assert abs(found["rho"]) < 0.4 < stats.spearmanr(a + shift, b + shift).statistic


def test_permutation_p_is_right_as_often_as_it_says():
    draws = rng().standard_normal((200, 2, 12))
    groups = ["acute"] * 6 + ["chronic"] * 6
    p = [causes.rank_correlation(a, b, groups, 1, repeats=400)["p"] for a, b in draws]
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.1


@pytest.mark.parametrize("cause", [[np.nan] * 8, [1.0] * 8], ids=["unknown", "constant"])
def test_cause_that_tells_nothing_has_no_correlation(cause):
    found = causes.rank_correlation(cause, np.arange(8.0), ["acute"] * 8, seed=1)
    assert np.isnan(found["rho"]) and np.isnan(found["p"])


def test_group_in_which_a_cause_does_not_vary_is_left_out():
    a, b = rng().standard_normal((2, 20))
    own = causes.rank_correlation(a[:10], (a + b)[:10], ["acute"] * 10, seed=1)
    groups = ["acute"] * 10 + ["chronic"] * 10
    both = causes.rank_correlation(np.where(np.arange(20) < 10, a, 0), a + b, groups, seed=1)
    assert both["n"] == 10 and both["rho"] == pytest.approx(own["rho"])


def test_correction_is_for_all_rows():
    table = pd.concat([shapes(3.0), shapes(0.0).assign(map="CBF")])
    found = causes.search(table, list(robustness.AIF_SHAPE), "SSIM", seed=1, repeats=500)
    assert len(found) == 2 * len(robustness.AIF_SHAPE)
    assert found["p_holm"].min() == pytest.approx(len(found) * found["p"].min())


def test_search_names_the_cause_and_no_other():
    table = shapes(3.0)
    found = causes.search(table, list(robustness.AIF_SHAPE), "SSIM", seed=1)
    assert list(found.loc[found["p_holm"] < 0.05, "cause"]) == ["aif_height"]
    assert "aif_height" in causes.tell(found) and "aif_width_s" not in causes.tell(found)
    nothing = causes.search(shapes(0.0), list(robustness.AIF_SHAPE), "SSIM", seed=1)
    assert "Nothing found" in causes.tell(nothing)


def test_correlations_need_their_columns_and_one_value_a_patient():
    with pytest.raises(ValueError, match="no columns"):
        causes.search(shapes(0.0), ["age"], "SSIM", seed=1)
    with pytest.raises(ValueError, match="one value a patient"):
        causes.rank_correlation([1, 2], [1, 2, 3], ["acute"] * 3, seed=1)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.5, "confirmed"), (-0.5, "refuted"), (0.0, "undecided")]
)
def test_f8_follows_the_better_network_where_both_give_a_map(shift, verdict):
    judged = robustness.judge_f8(films(shift))
    assert judged["verdict"] == verdict
    assert set(judged) == {"finding", "claim", "rule", "measured", "verdict"}


def test_f8_is_refuted_where_a_network_is_worse_than_the_constant():
    assert robustness.judge_f8(films(3.0))["verdict"] == "refuted"


def test_f8_says_nothing_of_few_patients_or_of_films_with_an_aif_only():
    assert robustness.judge_f8(films(0.5, patients=5))["verdict"] == "undecided"
    judged = robustness.judge_f8(films(0.5, has_aif=True))
    assert judged["verdict"] == "undecided" and "has no patient" in judged["measured"]


def test_f8_asks_moved_films_with_an_aif_where_few_have_none():
    still, moved = films(-0.5, "none"), films(0.5, has_aif=True)
    judged = robustness.judge_f8(pd.concat([still, moved]))
    assert judged["verdict"] == "confirmed" and "with or without AIF" in judged["measured"]


@pytest.mark.parametrize(
    ("strength", "patients", "verdict"),
    [(3.0, 40, "refuted"), (0.0, 400, "confirmed"), (0.0, 12, "undecided")],
)
def test_f9_is_confirmed_only_where_enough_patients_exclude_a_striking_one(
    strength, patients, verdict
):
    assert robustness.judge_f9(shapes(strength, patients), seed=1)["verdict"] == verdict


def test_f9_without_patients_is_undecided():
    assert robustness.judge_f9(shapes(0.0).iloc[:0], seed=1)["verdict"] == "undecided"
