"""The paper's findings F1 to F9 as questions, and what a study measured about each.

First edition: the numbers stand side by side. Rules that turn them into verdicts come later.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from perfnb import maps
from perfnb.metrics import tables

ALL = tuple(maps.MAPS)


@dataclass(frozen=True)
class Finding:
    """One finding of Kossen et al. 2023, and what a study must hold to speak about it."""

    name: str
    claim: str
    cohort: str | None = None
    maps: Sequence[str] = ()
    kind: str | None = None  # which numbers speak about it; None: no chapter measures them yet
    whole: bool = True  # False: the numbers speak about a part of the claim only


FINDINGS = (
    Finding(
        "F1",
        "acute, temp-pix2pix: SSIM 0.92 (Tmax), 0.95 (TTP), 0.986 (CBV), up to 0.99",
        "acute",
        ALL,
        "temp-pix2pix",
    ),
    Finding(
        "F2",
        "acute, pix2pix: SSIM 0.86 (Tmax), 0.91 (TTP), up to 0.98",
        "acute",
        ALL,
        "pix2pix",
    ),
    Finding(
        "F3",
        "acute: temp-pix2pix is better (p < 0.05) in every measure and map but the MAE of CBV",
        "acute",
        ALL,
        "tests",
    ),
    Finding(
        "F4",
        "acute: the gap between the two models is largest for Tmax and TTP",
        "acute",
        ALL,
        "gap",
    ),
    Finding(
        "F5",
        "chronic: MTT and TTP are the worst maps "
        "(SSIM of temp-pix2pix and pix2pix 0.84 and 0.78, 0.86 and 0.82)",
        "chronic",
        ALL,
        "both",
    ),
    Finding(
        "F6",
        "chronic: temp-pix2pix better for most measures, but not PSNR and NRMSE of Tmax; "
        "the gap is smaller than in the acute cohort",
        "chronic",
        ALL,
        "tests",
        whole=False,
    ),
    Finding(
        "F7",
        "acute Tmax of temp-pix2pix has an NRMSE of 0.095; in the worst maps the high values are "
        "not reached",
        "acute",
        ("Tmax",),
        "NRMSE",
        whole=False,
    ),
    Finding("F8", "without an AIF both models still give a map, and pix2pix the better one"),
    Finding("F9", "the shape of the AIF has no striking influence on the quality of the map"),
)


def overview(table: pd.DataFrame, tests: pd.DataFrame) -> pd.DataFrame:
    """Put what the paper says and what this study measured side by side, whole slices.

    Parameters
    ----------
    table : DataFrame
        Tidy rows of a study, columns as in `tables.COLUMNS`.
    tests : DataFrame
        From `comparisons.compare_models`, temp-pix2pix first, pix2pix second.

    Returns
    -------
    DataFrame of str
        Index finding; columns "the paper", "this study", "covered" (yes, in part, not yet).
    """
    table = tables.pick(table, against="reference", region="slice")
    tests = tables.pick(tests, against="reference", region="slice") if len(tests) else tests
    rows = [_row(finding, table, tests) for finding in FINDINGS]
    return pd.DataFrame(rows).set_index("finding")


def _row(finding: Finding, table: pd.DataFrame, tests: pd.DataFrame) -> dict[str, str]:
    """One finding beside the numbers at hand."""
    part = tables.pick(table, map=finding.maps)
    part = part[part["cohort"] == finding.cohort]
    names = [name for name in finding.maps if name in set(part["map"])]
    covered = "in part" if names else "not yet"
    if finding.whole and names and len(names) == len(finding.maps):
        covered = "yes"
    measured = _measured(finding, part, tests) if names else "–"
    row = {"finding": finding.name, "the paper": finding.claim, "this study": measured}
    return {**row, "covered": covered}


def _measured(finding: Finding, part: pd.DataFrame, tests: pd.DataFrame) -> str:
    """The numbers that speak about a finding, as text."""
    if finding.kind == "tests":
        return _counts(tests[tests["cohort"] == finding.cohort]) if len(tests) else "–"
    measure = "NRMSE" if finding.kind == "NRMSE" else "SSIM"
    rows = tables.ordered(tables.pick(part, measure=measure))
    means = rows.groupby(["map", "model"], sort=False)["value"].mean().unstack("model")
    means = means.reindex(columns=["temp-pix2pix", "pix2pix"])
    if finding.kind == "gap":
        gap = means["temp-pix2pix"] - means["pix2pix"]
        return "SSIM gap: " + ", ".join(f"{name} {value:+.3f}" for name, value in gap.items())
    models = [finding.kind] if finding.kind in means else list(means)
    cells = (
        f"{name} " + " and ".join(f"{values[model]:.3f}" for model in models)
        for name, values in means.iterrows()
    )
    return f"{measure} of {' and '.join(models)}: " + ", ".join(cells)


def _counts(tests: pd.DataFrame) -> str:
    """In how many of the paper's measures and maps the first model is better."""
    tests = tables.pick(tests, measure=tables.PAPER)
    if tests["p"].isna().all():
        return f"{len(tests)} comparisons, too few patients to test"
    higher = tests["measure"].map(lambda name: tables.MEASURES[name].better == "higher")
    favoured = (tests["effect_size"] > 0) == higher
    raw, corrected = (int((favoured & (tests[p] < 0.05)).sum()) for p in ("p", "p_holm"))
    other = int((~favoured & (tests["p"] < 0.05)).sum())
    return (
        f"temp-pix2pix better in {raw} of {len(tests)} comparisons at p < 0.05 "
        f"({corrected} after Holm), pix2pix in {other}"
    )
