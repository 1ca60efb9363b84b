"""Is one model better than another? Paired tests and intervals; patients are the unit.

The slices of one patient are not independent, so every value here belongs to a patient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

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

    The same numbers as statsmodels' `multipletests`, which spends a tenth of a second a call on
    collecting garbage.

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
    order = np.flatnonzero(made)[np.argsort(p_values[made], kind="stable")]
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    corrected = np.full(p_values.shape, np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
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
    _check_values(values, level)
    drawn = np.random.default_rng(seed).integers(len(values), size=(repeats, len(values)))
    tail = (1 - level) / 2
    low, high = np.quantile(statistic(values[drawn], axis=1), [tail, 1 - tail])
    return float(low), float(high)


def t_interval(
    values: np.ndarray, others: np.ndarray | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a mean, or of the difference of two groups' means, by Student's t.

    The bootstrap's percentiles are too narrow for fewer than about fifteen patients: of ten drawn
    again, too many are the same. Where something is decided, this interval is used.

    Parameters
    ----------
    values : float array, shape (patients,)
        One value per patient.
    others : float array, shape (other patients,), optional
        A second group, not paired with the first, of another variance (Welch's test).
    level : float
        Coverage, between 0 and 1.

    Returns
    -------
    tuple of two floats
        Lower and upper end of mean(values), or of mean(values) - mean(others).

    Raises
    ------
    ValueError
        As `bootstrap_interval`.
    """
    groups = [np.asarray(group, float) for group in (values, others) if group is not None]
    for group in groups:
        _check_values(group, level)
    middle = groups[0].mean() - sum(group.mean() for group in groups[1:])
    errors = np.array([group.var(ddof=1) / len(group) for group in groups])  # of each mean, squared
    if not errors.sum() > 0:
        return float(middle), float(middle)
    freedom = errors.sum() ** 2 / sum(errors**2 / [len(group) - 1 for group in groups])  # Welch's
    half = float(stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(errors.sum()))
    return float(middle) - half, float(middle) + half


def _check_values(values: np.ndarray, level: float) -> None:
    """Stop where there is nothing to draw again, or a level that is none."""
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"values has shape {values.shape}, expected at least 2 patients, all finite"
        )
    if not 0 < level < 1:
        raise ValueError(f"level={level}, expected a number between 0 and 1, such as 0.95")


def interval_text(value: float, low: float, high: float, digits: int = 2) -> str:
    """Write a value with its interval, as in "0.50 [0.31, 0.72]"; "–" where there is no value.

    The interval's ends stay on one line. Without finite ends the value stands alone.
    """
    if not np.isfinite(value):
        return "–"
    ends = f" [{low:.{digits}f},\u00a0{high:.{digits}f}]" if np.isfinite(low + high) else ""
    return f"{value:.{digits}f}{ends}"
