"""Does one quantity of the patients go with another? Rank correlations over patients."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from perfnb.metrics import statistics

MIN_PATIENTS = 4  # of a group: with fewer, its ranks say nothing
FIELLER = 1.06  # variance of Fisher's z of a rank correlation, times n - 3 (Fieller et al. 1957)


def rank_correlation(
    cause: np.ndarray, outcome: np.ndarray, groups: Sequence[str], seed: int, repeats: int = 5000
) -> dict[str, float]:
    """Spearman's rank correlation within groups, and its permutation test.

    Ranks are taken, centred and scaled in each group, so that a difference between the groups
    makes no correlation; with one group it is Spearman's.

    Parameters
    ----------
    cause, outcome : float arrays, shape (patients,)
        Patients with a NaN in either are left out, and with them groups of fewer than four and
        groups in which one of the two does not vary.
    groups : strings, shape (patients,)
        Such as the cohort.
    seed : int
        Of the permutations, which shuffle the outcome within its group.
    repeats : int
        How many permutations.

    Returns
    -------
    dict
        n of the groups that are left, rho, its 95 % interval low..high (Fisher's z), and the
        two-sided p. All but n are NaN where no group is left.
    """
    cause, outcome = np.asarray(cause, float), np.asarray(outcome, float)
    groups = np.asarray(groups)
    if not cause.shape == outcome.shape == groups.shape or cause.ndim != 1:
        raise ValueError(
            f"cause, outcome and groups have shapes {cause.shape}, {outcome.shape} and "
            f"{groups.shape}; expected one value a patient in each"
        )
    known = np.isfinite(cause) & np.isfinite(outcome)
    parts = [known & (groups == name) for name in np.unique(groups)]
    parts = [part for part in parts if part.sum() >= MIN_PATIENTS]
    parts = [part for part in parts if np.ptp(cause[part]) > 0 and np.ptp(outcome[part]) > 0]
    n = int(sum(part.sum() for part in parts))
    nothing = {"n": n, "rho": np.nan, "low": np.nan, "high": np.nan, "p": np.nan}
    if not parts:
        return nothing
    a = np.concatenate([_ranks(cause[part]) for part in parts])
    b = np.concatenate([_ranks(outcome[part]) for part in parts])
    size = np.sqrt((a**2).sum() * (b**2).sum())
    rho = float(a @ b / size)
    rng, shuffled, first = np.random.default_rng(seed), [], 0
    for part in parts:
        own = b[first : first + part.sum()]
        shuffled.append(rng.permuted(np.tile(own, (repeats, 1)), axis=1))
        first += len(own)
    by_chance = np.abs(np.hstack(shuffled) @ a / size) >= abs(rho) - 1e-12
    half = 1.96 * np.sqrt(FIELLER / sum(part.sum() - 3 for part in parts))
    z = np.arctanh(np.clip(rho, -0.9999, 0.9999))
    ends = {"low": float(np.tanh(z - half)), "high": float(np.tanh(z + half))}
    return {"n": n, "rho": rho, **ends, "p": float((by_chance.sum() + 1) / (repeats + 1))}


def search(
    table: pd.DataFrame,
    causes: Sequence[str],
    outcome: str,
    seed: int,
    by: Sequence[str] = ("model", "map"),
    repeats: int = 5000,
) -> pd.DataFrame:
    """Ask of every cause whether patients who have more of it have more of the outcome.

    Parameters
    ----------
    table : DataFrame
        One row per patient and combination of `by`: columns cohort, those of `by`, `causes` and
        `outcome`.
    causes : list of str
        Columns.
    outcome : str
        Column.
    seed, repeats : int
        As in `rank_correlation`.
    by : list of str
        Columns; every combination is asked of its own.

    Returns
    -------
    DataFrame
        The columns of `by`, cause, outcome, n, rho, low, high, p, and p_holm, corrected for all
        rows.
    """
    lost = [name for name in ("cohort", *by, *causes, outcome) if name not in table]
    if lost:
        raise ValueError(f"the table has no columns {lost}; it has {list(table.columns)}")
    rows = []
    for key, part in table.groupby(list(by), sort=False):
        head = dict(zip(by, key, strict=True)) | {"outcome": outcome}
        for cause in causes:
            found = rank_correlation(part[cause], part[outcome], part["cohort"], seed, repeats)
            rows.append({**head, "cause": cause, **found})
    columns = (*by, "outcome", "cause", "n", "rho", "low", "high", "p")
    found = pd.DataFrame(rows, columns=list(columns))
    return found.assign(p_holm=statistics.holm(found["p"]))


def tell(found: pd.DataFrame, names: Mapping[str, str] | None = None, level: float = 0.05) -> str:
    """Say in one sentence which causes were found, or that none was.

    Parameters
    ----------
    found : DataFrame
        From `search`.
    names : {cause: name}, or None
        What the causes are called.
    level : float
        A corrected p below it counts.
    """
    tested = found[found["p"].notna()]
    if tested.empty:
        return "Too few patients to look for causes: nothing can be said."
    clear = tested[tested["p_holm"] < level].sort_values("p_holm")
    raw = int((tested["p"] < level).sum())
    counted = f"{len(tested)} correlations, {raw} with a raw p below {level}"
    if clear.empty:
        return (
            f"**Nothing found**: of {counted}, none is left after Holm's correction. "
            f"With {tested['n'].max()} patients, only strong correlations could be."
        )
    words = []
    for row in clear.itertuples():
        cause = (names or {}).get(row.cause, row.cause)
        words.append(f"{cause} ({row.map}, {row.model}: ρ {row.rho:+.2f}, Holm p {row.p_holm:.2g})")
    return f"Of {counted}, left after Holm's correction: {'; '.join(words)}."


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, centred and scaled to one variance whatever the group's size."""
    ranks = stats.rankdata(values)
    return (ranks - ranks.mean()) / ranks.std()
