"""What the patients of a study say about one statement: it holds, it fails, or it stays open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from perfnb.metrics import statistics, tables

HOLDS, FAILS, OPEN = "holds", "fails", "open"
LEVEL, ALPHA = 0.95, 0.05


@dataclass(frozen=True)
class Evidence:
    """One part of a finding: `status` is holds, fails or open, `text` the numbers behind it."""

    status: str
    text: str


@dataclass(frozen=True)
class Study:
    """What the rules may look at: tidy scores, and tests of temp-pix2pix against pix2pix."""

    table: pd.DataFrame
    tests: pd.DataFrame

    def scores(self, cohort: str, measure: str = "SSIM") -> pd.DataFrame:
        """Whole-slice scores of one cohort: patients by (map, model)."""
        return values(tables.pick(self.table, cohort=cohort), measure)

    def rivals(self, cohort: str) -> pd.DataFrame:
        """Tests of the paper's measures over whole slices, those that had enough patients."""
        if not len(self.tests):
            return self.tests
        chosen = dict(cohort=cohort, against="reference", region="slice", measure=tables.PAPER)
        return tables.pick(self.tests, **chosen).dropna(subset="p")


def verdict(parts: Sequence[Evidence]) -> str:
    """Refuted where one part fails, confirmed where all hold, undecided otherwise."""
    found = {part.status for part in parts}
    if FAILS in found:
        return "refuted"
    return "confirmed" if found == {HOLDS} else "undecided"


def values(table: pd.DataFrame, measure: str, region: str = "slice") -> pd.DataFrame:
    """Scores against the reference: a row per patient, a column per (map, model).

    A patient who lacks a value for a network or the constant in some map is left out of nothing
    here: a difference of two columns drops the patients that either lacks.
    """
    part = tables.pick(table, against="reference", region=region, measure=measure)
    return part.pivot_table(index="patient", columns=["map", "model"], values="value")


def all_above(
    differences: Mapping[str, np.ndarray | None], claim: str = "", level: float = LEVEL
) -> Evidence:
    """Test a claim that several mean differences are all above zero.

    It holds where every interval (`statistics.t_interval`) lies above zero: all must, so none needs
    a correction. It fails where one of them lies below zero at the level corrected for their number
    (Bonferroni), since any of them may do that by chance. A difference that is missing, or has too
    few patients, keeps the claim from holding, not from failing.

    Parameters
    ----------
    differences : mapping of str to float array, shape (patients,), or None
        One value a patient, of each difference; None where a map or model is missing.
    claim : str
        What is claimed, for the text.
    level : float
        Coverage of the intervals.

    Returns
    -------
    Evidence
    """
    cells, lost, holds, fails = [], 0, [], []
    strict = 1 - (1 - level) / max(len(differences), 1)
    for name, array in differences.items():
        if array is None or len(array) < statistics.MIN_PAIRS:
            lost += 1
            holds.append(False)
            continue
        low, high = statistics.t_interval(array, level=level)
        holds.append(low > 0)
        fails.append(statistics.t_interval(array, level=strict)[1] < 0)
        cells.append(f"{name} {np.mean(array):+.3f} [{low:+.3f}, {high:+.3f}]")
    status = FAILS if any(fails) else HOLDS if holds and all(holds) else OPEN
    cells += [f"{lost} of {len(differences)} missing"] if lost else []
    head = f"{claim}: " if claim else ""
    return Evidence(status, head + ", ".join(cells))


def difference(scores: pd.DataFrame, first: tuple, second: tuple) -> np.ndarray | None:
    """First minus second column of `values`, of the patients who have both; None if one is not."""
    if first not in scores or second not in scores:
        return None
    return (scores[first] - scores[second]).dropna().to_numpy()


def gap(scores: pd.DataFrame, map_name: str) -> pd.Series | None:
    """Score of temp-pix2pix minus that of pix2pix, a value per patient; None without both."""
    pair = [(map_name, model) for model in ("temp-pix2pix", "pix2pix")]
    if any(name not in scores for name in pair):
        return None
    return (scores[pair[0]] - scores[pair[1]]).dropna()


def beside_the_paper(scores: pd.DataFrame, model: str, told: Mapping[str, float]) -> str:
    """Write means with their intervals, and whether the paper's number lies inside.

    Parameters
    ----------
    scores : DataFrame
        From `values`.
    model : str
        Name of a model.
    told : mapping of map name to float
        The paper's numbers.
    """
    cells = []
    for name, number in told.items():
        column = scores[name, model].dropna() if (name, model) in scores else ()
        if len(column) < 2:
            cells.append(f"{name} – (paper {number:g})")
            continue
        low, high = statistics.t_interval(column.to_numpy())
        same = "the same within the interval" if low <= number <= high else "different"
        ends = f"[{low:.3f}, {high:.3f}]"
        cells.append(f"{name} {column.mean():.3f} {ends} (paper {number:g}: {same})")
    return f"{model}: " + ", ".join(cells)


def pairs(tests: pd.DataFrame) -> list[tuple]:
    """(map, measure) of each test."""
    return list(zip(tests["map"], tests["measure"], strict=True)) if len(tests) else []


def counts(tests: pd.DataFrame) -> dict[str, int]:
    """How many tests favour temp-pix2pix (raw p, as in the paper) and pix2pix (Holm over maps)."""
    if not len(tests):
        return {"made": 0, "better": 0, "worse": 0}
    higher = tests["measure"].map(lambda name: tables.MEASURES[name].better == "higher")
    favours = ((tests["effect_size"] > 0) == higher) & (tests["effect_size"] != 0)
    return {
        "made": len(tests),
        "better": int((favours & (tests["p"] < ALPHA)).sum()),
        "worse": int((~favours & (tests["p_holm"] < ALPHA)).sum()),
    }


def count_text(found: dict[str, int], every: int) -> str:
    """Write what `counts` found as text, beside the number of comparisons that a study may hold."""
    return (
        f"{found['made']} of {every} comparisons made, temp-pix2pix better in {found['better']}, "
        f"pix2pix in {found['worse']}"
    )


def minus(first: pd.Series | None, second: pd.Series | None) -> np.ndarray | None:
    """Difference patient by patient; None if one is missing."""
    return None if first is None or second is None else (first - second).dropna().to_numpy()
