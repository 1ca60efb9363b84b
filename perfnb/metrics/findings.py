"""The paper's findings F1 to F7, each with the rule that confirms or refutes it.

The rules were fixed before any result of the study was looked at, and are applied by code. Numbers
of other scanners, patients and network widths cannot be met: what is judged is what they say, an
order of maps or models, and the numbers are told beside it. The unit is the patient; intervals
are Student's, since those of the bootstrap are too narrow for ten patients. "Not
significant" confirms nothing. Fewer than six test patients, or a map that was not trained, leave a
finding undecided, unless what is there refutes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from perfnb import maps
from perfnb.metrics import statistics, tables
from perfnb.metrics.evidence import (
    FAILS,
    HOLDS,
    LEVEL,
    OPEN,
    Evidence,
    Study,
    all_above,
    beside_the_paper,
    count_text,
    counts,
    difference,
    gap,
    minus,
    pairs,
    values,
    verdict,
)

ALL = tuple(maps.MAPS)
ORDERED, OTHERS = ("Tmax", "TTP"), ("CBF", "CBV", "MTT")  # depend on the frames' order, or not
NETWORKS = ("temp-pix2pix", "pix2pix")
MAE_OF_CBV = ("CBV", "MAE")  # the paper's own exception
COLUMNS = ("finding", "claim", "rule", "measured", "verdict")


@dataclass(frozen=True)
class Finding:
    """One finding of Kossen et al. 2023, its rule in words and as a function of a `Study`."""

    name: str
    claim: str
    rule: str
    cohorts: Sequence[str]
    maps: Sequence[str]
    judge: Callable[[Study], tuple[list[Evidence], str]]


def judge(table: pd.DataFrame, tests: pd.DataFrame) -> pd.DataFrame:
    """Apply every rule to a study.

    Parameters
    ----------
    table : DataFrame
        Tidy rows, columns as in `tables.COLUMNS`.
    tests : DataFrame
        From `comparisons.compare_models`, temp-pix2pix first, pix2pix second.

    Returns
    -------
    DataFrame of str
        A row per finding, columns `COLUMNS`; the verdict is confirmed, refuted, or undecided with
        the reason.
    """
    study = Study(table, tests)
    return pd.DataFrame([_row(finding, study) for finding in FINDINGS], columns=list(COLUMNS))


def _row(finding: Finding, study: Study) -> dict[str, str]:
    """Judge one finding."""
    parts, told = finding.judge(study)
    decided = verdict(parts)
    if decided == "undecided":
        decided += f": {_reason(finding, study)}"
    measured = "; ".join(
        text for text in (told, *(f"{p.text} ({p.status})" for p in parts)) if text
    )
    words = (finding.name, finding.claim, finding.rule, measured, decided)
    return dict(zip(COLUMNS, words, strict=True))


def _reason(finding: Finding, study: Study) -> str:
    """Why a finding is undecided: a cohort, maps or patients are missing, or the data leave it."""
    for cohort in finding.cohorts:
        part = tables.pick(study.table, cohort=cohort, model=NETWORKS)
        trained = [name for name in ALL if name in set(part["map"])]
        if not trained:
            return f"the {cohort} cohort is not in the study"
        models = set(part["model"])
        if len(models) < len(NETWORKS):
            return f"only {', '.join(sorted(models))} is in the study"
        if not set(finding.maps) <= set(trained):
            return f"only {' and '.join(trained)} trained"
        if part["patient"].nunique() < statistics.MIN_PAIRS:
            return f"{part['patient'].nunique()} patients, at least {statistics.MIN_PAIRS} needed"
    return "the intervals allow both"


def _ranked(scores: pd.DataFrame, model: str, known: Sequence[str], order) -> list[Evidence]:
    """Whether a model beats the constant in some maps, and in each pair draws the first better."""
    better = {n: difference(scores, (n, model), (n, "constant")) for n in known}
    ranks = {f"{a} − {b}": difference(scores, (a, model), (b, model)) for a, b in order}
    return [all_above(better, "gain over the constant"), all_above(ranks, "order of the maps")]


def _f1(study: Study) -> tuple[list[Evidence], str]:
    scores, model = study.scores("acute"), "temp-pix2pix"
    told = {"Tmax": 0.92, "TTP": 0.95, "CBV": 0.986}
    parts = _ranked(scores, model, tuple(told), (("TTP", "Tmax"), ("CBV", "TTP")))
    return parts, beside_the_paper(scores, model, told)


def _f2(study: Study) -> tuple[list[Evidence], str]:
    scores, model = study.scores("acute"), "pix2pix"
    parts = _ranked(scores, model, OTHERS, [(a, b) for a in OTHERS for b in ORDERED])
    return parts, beside_the_paper(scores, model, {"Tmax": 0.86, "TTP": 0.91})


def _f3(study: Study) -> tuple[list[Evidence], str]:
    tests = study.rivals("acute")
    exempt = [pair == MAE_OF_CBV for pair in pairs(tests)]
    found = counts(tests[~np.array(exempt, bool)])
    every = len(ALL) * len(tables.PAPER) - 1
    status = FAILS if found["worse"] else HOLDS if found["better"] == every else OPEN
    return [Evidence(status, count_text(found, every))], ""


def _f4(study: Study) -> tuple[list[Evidence], str]:
    scores = study.scores("acute")
    gaps = {name: gap(scores, name) for name in ALL}
    wider = {f"{a} − {b}": minus(gaps[a], gaps[b]) for a in ORDERED for b in OTHERS}
    told = ", ".join(f"{n} {g.mean():+.3f}" for n, g in gaps.items() if g is not None)
    return [all_above(wider, "difference of gaps")], f"SSIM gap: {told or '–'}"


def _f5(study: Study) -> tuple[list[Evidence], str]:
    scores = study.scores("chronic")
    told = {"temp-pix2pix": {"MTT": 0.84, "TTP": 0.86}, "pix2pix": {"MTT": 0.78, "TTP": 0.82}}
    worst = {
        f"{model}, {a} − {b}": difference(scores, (a, model), (b, model))
        for model in NETWORKS
        for a in ("CBF", "CBV", "Tmax")
        for b in ("MTT", "TTP")
    }
    texts = [beside_the_paper(scores, m, numbers) for m, numbers in told.items()]
    return [all_above(worst, "order of the maps")], "; ".join(texts)


def _f6(study: Study) -> tuple[list[Evidence], str]:
    tests = study.rivals("chronic")
    found, every = counts(tests), len(ALL) * len(tables.PAPER)
    lost = found["worse"] and found["worse"] >= found["better"]
    status = FAILS if lost else HOLDS if found["better"] > every / 2 else OPEN
    parts = [Evidence(status, count_text(found, every)), _narrower_gap(study)]
    tmax = zip(pairs(tests), tests["p"], strict=True) if len(tests) else ()
    cells = (f"{n[1]} p = {p:.2g}" for n, p in tmax if n in (("Tmax", "PSNR"), ("Tmax", "NRMSE")))
    return parts, "Tmax: " + (", ".join(cells) or "–")


def _f7(study: Study) -> tuple[list[Evidence], str]:
    acute = study.scores("acute", "NRMSE")
    told = beside_the_paper(acute, "temp-pix2pix", {"Tmax": 0.095})
    parts = [_worst(study, "acute", "Tmax"), _high_values(study), _worst(study, "chronic", "MTT")]
    return parts, f"NRMSE of {told}"


def _narrower_gap(study: Study) -> Evidence:
    """The mean SSIM gap of acute patients is wider than that of the chronic: two samples."""
    means = []
    for cohort in ("acute", "chronic"):
        scores = study.scores(cohort)
        gaps = [gap(scores, name) for name in ALL]
        if any(g is None for g in gaps) or min(map(len, gaps)) < statistics.MIN_PAIRS:
            return Evidence(OPEN, "gap of both cohorts – (missing)")
        means.append(pd.concat(gaps, axis=1).mean(axis=1).to_numpy())
    low, high = statistics.t_interval(*means, level=LEVEL)
    text = f"acute gap − chronic gap {means[0].mean() - means[1].mean():+.3f}"
    status = HOLDS if low > 0 else FAILS if high < 0 else OPEN
    return Evidence(status, f"{text} [{low:+.3f}, {high:+.3f}]")


def _worst(study: Study, cohort: str, map_name: str) -> Evidence:
    """Of which map the two lowest SSIM of temp-pix2pix are, over patients and maps."""
    where = dict(cohort=cohort, against="reference", region="slice", measure="SSIM")
    part = tables.pick(study.table, **where, model="temp-pix2pix")
    enough = part["patient"].nunique() >= statistics.MIN_PAIRS
    complete = enough and set(ALL) <= set(part["map"])
    worst = part.nsmallest(2, "value")
    found = (worst["map"] == map_name).sum()
    status = {2: HOLDS, 0: FAILS}.get(found, OPEN) if complete else OPEN
    names = ", ".join(f"{r['map']} of {r['patient']}" for _, r in worst.iterrows())
    return Evidence(status, f"worst two, {cohort}: {names or '–'}")


def _high_values(study: Study) -> Evidence:
    """Whether Tmax falls short where the reference is highest, by more than noise would."""
    part = tables.pick(study.table, cohort="acute")
    scores = values(part, "high_bias", "tissue")
    noise = ("Tmax", "second noise draw")
    if noise in scores:
        short = difference(scores, noise, ("Tmax", "temp-pix2pix"))
        claim = "missed by temp-pix2pix more than by a second noise draw [s]"
    else:
        column = scores.get(("Tmax", "temp-pix2pix"))
        short = None if column is None else -column.dropna().to_numpy()
        claim = "missed by temp-pix2pix [s]"
    return all_above({"highest Tmax": short}, claim)


ORDER = (
    "every named difference of whole-slice SSIM, patient by patient, has a 95 % "
    "interval above zero; refuted where one lies below zero, corrected for their number"
)
FINDINGS = (
    Finding(
        "F1",
        "acute, temp-pix2pix: SSIM 0.92 (Tmax), 0.95 (TTP), 0.986 (CBV), up to 0.99",
        "temp-pix2pix beats the constant in these maps, and SSIM rises from Tmax to TTP to CBV: "
        + ORDER,
        ("acute",),
        ("Tmax", "TTP", "CBV"),
        _f1,
    ),
    Finding(
        "F2",
        "acute, pix2pix: SSIM 0.86 (Tmax), 0.91 (TTP), up to 0.98; only CBF, CBV and MTT are of "
        "sufficient quality",
        "pix2pix beats the constant in CBF, CBV and MTT, and each of them has a higher SSIM than "
        "Tmax and TTP: " + ORDER,
        ("acute",),
        ALL,
        _f2,
    ),
    Finding(
        "F3",
        "acute: temp-pix2pix is better (p < 0.05) in every measure and map but the MAE of CBV",
        "p < 0.05 in favour of temp-pix2pix in all 19 comparisons over whole slices (all must, so "
        "p is raw, as in the paper); refuted where pix2pix is better in one at p < 0.05 after "
        "Holm's correction over the maps",
        ("acute",),
        ALL,
        _f3,
    ),
    Finding(
        "F4",
        "acute: the gap between the two models is largest for Tmax and TTP",
        "the SSIM gap of Tmax and of TTP is wider than that of CBF, CBV and MTT: " + ORDER,
        ("acute",),
        ALL,
        _f4,
    ),
    Finding(
        "F5",
        "chronic: MTT and TTP are the worst maps "
        "(SSIM of temp-pix2pix and pix2pix 0.84 and 0.78, 0.86 and 0.82)",
        "with both models MTT and TTP have a lower SSIM than CBF, CBV and Tmax: " + ORDER,
        ("chronic",),
        ALL,
        _f5,
    ),
    Finding(
        "F6",
        "chronic: temp-pix2pix better for most measures, but not PSNR and NRMSE of Tmax; "
        "the gap is smaller than in the acute cohort",
        "p < 0.05 in favour of temp-pix2pix in more than half of the 20 comparisons (refuted where "
        "pix2pix is better as often, after Holm), and the mean SSIM gap over maps is wider in the "
        "acute cohort (95 % interval of the difference); that a test shows nothing for "
        "PSNR and NRMSE of Tmax would confirm nothing, so their p is told, not judged",
        ("acute", "chronic"),
        ALL,
        _f6,
    ),
    Finding(
        "F7",
        "acute Tmax of temp-pix2pix has an NRMSE of 0.095; the worst acute maps are of Tmax, whose "
        "high values are not reached; the worst chronic maps are of MTT",
        "the two lowest SSIM of temp-pix2pix belong to Tmax (acute) and to MTT (chronic; refuted "
        "where neither does); and in the tenth of tissue where the reference Tmax is highest, "
        "temp-pix2pix falls short of it by more than the reference of a second noise draw does, "
        "or than zero where there is none (95 % interval)",
        ("acute", "chronic"),
        ALL,
        _f7,
    ),
)
