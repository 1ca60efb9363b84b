"""Findings are judged by rules: each can be confirmed, refuted, and left undecided."""

import numpy as np
import pandas as pd
import pytest

from perfnb import maps
from perfnb.metrics import comparisons, evidence, findings

PAPERLIKE = {  # errors of (temp-pix2pix, pix2pix): as the paper found them
    "acute": dict(CBF=(2, 3), CBV=(1, 2), MTT=(2, 3), Tmax=(8, 14), TTP=(5, 9)),
    "chronic": dict(CBF=(2, 2.2), CBV=(1, 1.2), MTT=(16, 16.3), Tmax=(3, 3.2), TTP=(14, 14.3)),
}


def study(errors=PAPERLIKE, n=8, spread=0.3, high=(-3.0, -2.0, -1.0)):
    """Return scores in which every measure of a map follows from one error in per cent."""
    rng, rows = np.random.default_rng(0), []

    def add(cohort, name, model, measure, region, value, patient):
        head = dict(study="s", cohort=cohort, patient=patient, map=name, model=model)
        more = dict(against="reference", region=region, measure=measure, unit="1", value=value)
        rows.append(head | more)

    for cohort, of_maps in errors.items():
        for name, pair in of_maps.items():
            known = zip(("temp-pix2pix", "pix2pix", "constant"), (*pair, 30), strict=True)
            for model, error in known:
                for p in range(n):
                    e = (error + spread * rng.standard_normal()) / 100
                    for measure in ("MAE", "NRMSE", "SSIM", "PSNR"):
                        value = 1 - e if measure in ("SSIM", "PSNR") else e
                        add(cohort, name, model, measure, "slice", value, f"{p}")
        for model, bias in zip(("temp-pix2pix", "pix2pix", "second noise draw"), high, strict=True):
            for p in range(n):
                noisy = bias + 0.1 * rng.standard_normal()
                add(cohort, "Tmax", model, "high_bias", "tissue", noisy, f"{p}")
    return pd.DataFrame(rows)


def judged(table):
    tests = comparisons.compare_models(table, "temp-pix2pix", "pix2pix", seed=0)
    return findings.judge(table, tests).set_index("finding")


def changed(cohort, **of_maps):
    return PAPERLIKE | {cohort: PAPERLIKE[cohort] | of_maps}


def test_a_study_like_the_paper_confirms_every_finding_and_tells_its_rule():
    found = judged(study(spread=0.1))
    assert found.index.tolist() == [f"F{k}" for k in range(1, 8)]
    assert (found["verdict"] == "confirmed").all(), found[["measured", "verdict"]].to_string()
    assert (found["rule"].str.len() > 60).all() and (found["claim"].str.len() > 20).all()
    assert "Tmax 0.920" in found.loc["F1", "measured"]
    assert "paper 0.92: the same within the interval" in found.loc["F1", "measured"]
    assert "paper 0.91: the same" in found.loc["F2", "measured"]
    assert "19 of 19 comparisons made, temp-pix2pix better in 19" in found.loc["F3", "measured"]


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        ("F1", changed("acute", Tmax=(1, 14), CBV=(8, 9))),  # the order turned round
        ("F2", changed("acute", Tmax=(1, 1.5))),
        ("F3", changed("acute", MTT=(5, 3))),
        ("F4", changed("acute", CBF=(2, 20))),
        ("F5", changed("chronic", CBF=(30, 30))),
        ("F6", changed("chronic", CBF=(2, 30))),  # the gap is wider than the acute one
        ("F6", {k: {m: v[::-1] for m, v in e.items()} for k, e in PAPERLIKE.items()}),
        ("F7", changed("acute", CBF=(25, 26))),
    ],
)
def test_each_finding_can_be_refuted(name, errors):
    assert judged(study(errors))["verdict"][name] == "refuted"


def test_high_values_that_are_reached_refute_f7():
    assert judged(study(high=(-0.5, -2.0, -1.0)))["verdict"]["F7"] == "refuted"


def test_no_difference_confirms_nothing():
    same = {cohort: dict.fromkeys(maps.MAPS, (5, 5)) for cohort in PAPERLIKE}
    found = judged(study(same, spread=2))["verdict"]
    assert set(found) <= {"undecided: the intervals allow both", "refuted"}
    assert found[["F1", "F2", "F4", "F5"]].eq("undecided: the intervals allow both").all()


def test_what_is_missing_leaves_findings_undecided():
    two = {"acute": {name: PAPERLIKE["acute"][name] for name in ("CBF", "Tmax")}}
    found = judged(study(two))["verdict"]
    assert found["F1"] == found["F4"] == "undecided: only CBF and Tmax trained"
    assert found["F5"] == "undecided: the chronic cohort is not in the study"
    alone = study()
    alone = alone[alone["model"] != "pix2pix"]
    found = findings.judge(alone, pd.DataFrame()).set_index("finding")["verdict"]
    assert found["F3"] == "undecided: only temp-pix2pix is in the study"


@pytest.mark.parametrize("n", [1, 5])
def test_too_few_patients_decide_nothing(n):
    found = judged(study(n=n))["verdict"]
    assert found.str.startswith("undecided").all()
    assert found["F3"] == f"undecided: {n} patients, at least 6 needed"


def test_a_missing_map_does_not_save_a_claim_that_fails():
    two = {"acute": {"CBF": (14, 20), "Tmax": (2, 3)}}
    assert judged(study(two))["verdict"]["F2"] == "refuted"


def test_one_of_many_intervals_below_zero_by_chance_refutes_nothing():
    rng = np.random.default_rng(1)
    slightly = rng.standard_normal(8)
    slightly -= slightly.mean() + 1.0 * slightly.std()
    alone = evidence.all_above({"a": slightly})
    among = evidence.all_above({"a": slightly} | {f"b{k}": None for k in range(19)})
    assert (alone.status, among.status) == ("fails", "open")
