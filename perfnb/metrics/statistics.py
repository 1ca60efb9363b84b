"""Is one model better than another? Paired tests and intervals; patients are the unit.

The slices of one patient are not independent, so every value here belongs to a patient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from perfnb.metrics import tables

MIN_PAIRS = 6  # with fewer, an exact two-sided Wilcoxon test cannot fall below 0.05


@dataclass(frozen=True)
class PairedTest:
    """Wilcoxon signed-rank test of a minus b over patients."""

    n: int
    median_difference: float
    p: float
    effect_size: float  # matched-pairs rank-biserial correlation, -1 (a lower) to 1 (a higher)


def paired_wilcoxon(a: np.ndarray, b: np.ndarray, min_pairs: int = MIN_PAIRS) -> PairedTest:
    """Two-sided Wilcoxon signed-rank test of paired values, as in the paper.

    Parameters
    ----------
    a, b : float arrays, shape (patients,)
        One value per patient, in the same order.
    min_pairs : int
        Fewest pairs for which a test is made.

    Returns
    -------
    PairedTest
        Differences are a minus b. Where all are zero, p is 1 and the effect size 0.
        The effect size is (W+ - W-) / (W+ + W-) of the rank sums of non-zero differences
        (Kerby 2014).

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, fewer than `min_pairs` pairs.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"a and b have shapes {a.shape} and {b.shape}, expected equal 1-D shapes")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a or b has NaN or infinite values: leave these patients out of both")
    if len(a) < min_pairs:
        raise ValueError(
            f"too few patients: {len(a)} pairs, expected at least {min_pairs}: "
            "test more patients, or show the values without a test"
        )
    difference = a - b
    median = float(np.median(difference))
    moved = difference[difference != 0]
    if not moved.size:
        return PairedTest(len(a), median, 1.0, 0.0)
    ranks = stats.rankdata(np.abs(moved))
    effect = float((ranks * np.sign(moved)).sum() / ranks.sum())
    return PairedTest(len(a), median, float(stats.wilcoxon(a, b).pvalue), effect)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's correction for many tests of one family; NaN (no test made) stays NaN.

    Parameters
    ----------
    p_values : floats, shape (tests,)
        Raw p values.

    Returns
    -------
    float array, shape (tests,)
        Corrected p values, never below the raw ones.

    Raises
    ------
    ValueError
        A value outside [0, 1].
    """
    p_values = np.asarray(p_values, float)
    made = np.isfinite(p_values)
    if ((p_values[made] < 0) | (p_values[made] > 1)).any():
        raise ValueError(f"p_values has values outside [0, 1]: {p_values[made]}")
    corrected = np.full(p_values.shape, np.nan)
    if made.any():
        corrected[made] = multipletests(p_values[made], method="holm")[1]
    return corrected


def bootstrap_interval(
    values: np.ndarray,
    seed: int,
    statistic: Callable = np.mean,
    level: float = 0.95,
    repeats: int = 2000,
) -> tuple[float, float]:
    """Interval of a statistic from patients drawn again with replacement (percentile method).

    Parameters
    ----------
    values : float array, shape (patients,)
        One value per patient.
    seed : int
        The same seed gives the same interval.
    statistic : function with an `axis` argument
        What the interval is of; the mean unless told.
    level : float
        Coverage, between 0 and 1.
    repeats : int
        How many times patients are drawn.

    Returns
    -------
    tuple of two floats
        Lower and upper end.

    Raises
    ------
    ValueError
        Fewer than two values, values that are not finite, a level outside (0, 1).
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"values has shape {values.shape}, expected at least 2 patients, all finite"
        )
    if not 0 < level < 1:
        raise ValueError(f"level={level}, expected a number between 0 and 1, such as 0.95")
    drawn = np.random.default_rng(seed).integers(len(values), size=(repeats, len(values)))
    tail = (1 - level) / 2
    low, high = np.quantile(statistic(values[drawn], axis=1), [tail, 1 - tail])
    return float(low), float(high)


def pairs(table: pd.DataFrame, first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of two models, patient by patient.

    Parameters
    ----------
    table : DataFrame
        Tidy rows of one cohort, map, `against`, region and measure.
    first, second : str
        Names of two models.

    Returns
    -------
    two float arrays, shape (patients,), sorted by patient

    Raises
    ------
    ValueError
        A patient that only one of the two models has.
    """
    wide = tables.pick(table, model=(first, second)).pivot(
        index="patient", columns="model", values="value"
    )
    wide = wide.reindex(columns=[first, second])
    alone = wide.index[wide.isna().sum(axis=1) == 1]
    if len(alone):
        raise ValueError(
            f"patients {list(alone)} have a value for only one of {first} and {second}: "
            "run chapter 07_evaluate for both models"
        )
    wide = wide.dropna()
    return wide[first].to_numpy(), wide[second].to_numpy()


def compare_models(
    table: pd.DataFrame, first: str, second: str, seed: int, min_pairs: int = MIN_PAIRS
) -> pd.DataFrame:
    """Test two models against each other, for every cohort, map, region and measure.

    Parameters
    ----------
    table : DataFrame
        Tidy rows, columns as in `tables.COLUMNS`.
    first, second : str
        Names of the models; differences are first minus second.
    seed : int
        Seed of the bootstrap.
    min_pairs : int
        With fewer patients no test is made; the row says so in `note`.

    Returns
    -------
    DataFrame
        cohort, map, against, region, measure, unit, first, second, n, mean_difference and its
        bootstrap interval low..high, median_difference, effect_size, p, p_holm, better, note.
        `better` names the model that the median difference favours. Holm's families are the
        tests of one cohort, `against` and `region`. The bias has no order and is left out.
    """
    keys = ["cohort", "map", "against", "region", "measure", "unit"]
    graded = [name for name, measure in tables.MEASURES.items() if measure.better != "zero"]
    rows = []
    for key, part in tables.ordered(tables.pick(table, measure=graded)).groupby(keys, sort=False):
        part = _finite_patients(tables.pick(part, model=(first, second)))
        a, b = pairs(part, first, second)
        if len(a):
            head = {**dict(zip(keys, key, strict=True)), "first": first, "second": second}
            rows.append({**head, **_one_comparison(a, b, head, seed, min_pairs)})
    found = pd.DataFrame(rows)
    if len(found):
        family = found.groupby(["cohort", "against", "region"])["p"]
        found.insert(found.columns.get_loc("p") + 1, "p_holm", family.transform(holm))
    return found


def _finite_patients(part: pd.DataFrame) -> pd.DataFrame:
    """Rows without the patients for whom a model has no finite value (r of a constant map)."""
    lost = part.loc[~np.isfinite(part["value"]), ["model", "patient"]]
    return part[~part["patient"].isin(lost["patient"])] if len(lost) else part


def _one_comparison(a, b, head, seed, min_pairs) -> dict:
    """Differences, test and verdict of direction of one row."""
    difference = a - b
    many = len(a) > 1
    low, high = bootstrap_interval(difference, seed) if many else (np.nan, np.nan)
    enough = len(a) >= min_pairs
    test = paired_wilcoxon(a, b, min_pairs) if enough else None
    median = float(np.median(difference))
    gain = median if tables.MEASURES[head["measure"]].better == "higher" else -median
    return {
        "n": len(a),
        "mean_difference": float(difference.mean()),
        "low": low,
        "high": high,
        "median_difference": median,
        "effect_size": test.effect_size if enough else np.nan,
        "p": test.p if enough else np.nan,
        "better": head["first"] if gain > 0 else head["second"] if gain < 0 else "equal",
        "note": "" if enough else f"too few patients ({len(a)} of {min_pairs})",
    }
