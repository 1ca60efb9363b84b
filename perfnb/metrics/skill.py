"""Where between floor and ceiling a score lies: 0 is the constant, 1 the noise-free teacher."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perfnb.metrics import statistics, tables

FLOOR, CEILING = "constant", "noise-free teacher"
MEASURES = ("SSIM", "MAE_physical", "r")
COLUMNS = tuple(
    "cohort map against measure model n floor score ceiling skill low high note".split()
)


def skill(
    score: np.ndarray, floor: np.ndarray, ceiling: np.ndarray, seed: int, level: float = 0.95
) -> tuple[float, float, float]:
    """Skill of a mean score and its bootstrap interval: (score - floor) / (ceiling - floor).

    Means are taken first, since a single patient's floor and ceiling may meet. Patients are drawn
    again with all three of their values.

    Parameters
    ----------
    score, floor, ceiling : float arrays, shape (patients,)
        One measure of a model, of the map that knows nothing, and of the best that can be had.
    seed : int
        Of the bootstrap.
    level : float
        Coverage of the interval.

    Returns
    -------
    tuple of three floats
        Skill, lower and upper end; NaN where floor and ceiling are not apart: where the
        interval of their difference holds zero.

    Raises
    ------
    ValueError
        Fewer than two patients, or values that are not finite, as `bootstrap_interval`.
    """
    score, floor, ceiling = (np.asarray(values, float) for values in (score, floor, ceiling))
    low, high = statistics.bootstrap_interval(ceiling - floor, seed, level=level)
    if low <= 0 <= high:
        return (float("nan"),) * 3
    rows = np.random.default_rng(seed).integers(len(score), size=(2000, len(score)))
    gain, room = (score - floor)[rows].mean(axis=1), (ceiling - floor)[rows].mean(axis=1)
    tail = (1 - level) / 2
    ends = np.nanquantile(np.where(room == 0, np.nan, gain / room), [tail, 1 - tail])
    return float((score - floor).mean() / (ceiling - floor).mean()), *map(float, ends)


def skill_table(
    table: pd.DataFrame, seed: int, models: Sequence[str] = tables.NETWORKS
) -> pd.DataFrame:
    """Skill of every model in tissue, against the reference and, where it is known, the truth.

    The correlation with a constant map is none; its floor is 0. Against the truth the teacher's own
    bias can outweigh what it knows: then its error makes no skill, and its correlation does.

    Parameters
    ----------
    table : DataFrame
        Tidy rows, columns as in `tables.COLUMNS`.
    seed : int
        Of the bootstrap.
    models : sequence of str
        Whose skill.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; mean floor, score and ceiling, of the patients who have all three.
        `note` says why there is no skill: no such ceiling, too few patients, or a teacher that is
        not better than the constant.
    """
    rows = []
    keys = ["cohort", "map", "against", "measure"]
    chosen = tables.pick(table, region="tissue", measure=MEASURES)
    for key, part in tables.ordered(chosen).groupby(keys, sort=False):
        wide = part.pivot(index="patient", columns="model", values="value")
        for model in (name for name in models if name in wide):
            head = dict(zip(keys, key, strict=True)) | {"model": model}
            values = wide.reindex(columns=[model, FLOOR, CEILING])
            if key[3] == "r":
                values[FLOOR] = 0.0
            rows.append(head | _one(values, seed, key[3]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _one(values: pd.DataFrame, seed: int, measure: str) -> dict:
    """Skill of one model, from its scores beside those of floor and ceiling."""
    values = values[np.isfinite(values).all(axis=1)]
    means = dict(zip(("score", "floor", "ceiling"), values.mean(), strict=True))
    nothing = dict.fromkeys(("skill", "low", "high"), np.nan)
    if len(values) < 2:
        note = "no patient has a ceiling" if values.empty else "one patient"
        return {"n": len(values), **means, **nothing, "note": note}
    found = dict(zip(nothing, skill(*values.to_numpy().T, seed=seed), strict=True))
    higher = tables.MEASURES[measure].better == "higher"
    above = (means["ceiling"] > means["floor"]) == higher
    if not np.isfinite(found["skill"]) or not above:
        note = "the teacher is not shown to be better than the constant"
        return {"n": len(values), **means, **nothing, "note": note}
    return {"n": len(values), **means, **found, "note": ""}


def as_text(found: pd.DataFrame) -> pd.DataFrame:
    """Lay skills out for print: a row per cohort, map and model, a column per question."""
    if found.empty:
        return found
    cells = [statistics.interval_text(*row) for row in found[["skill", "low", "high"]].to_numpy()]
    names = [
        f"{row['measure'].removesuffix('_physical')}, {row['against']}"
        for _, row in found.iterrows()
    ]
    wide = found.assign(cell=cells, question=names)
    index = wide[["cohort", "map", "model"]].drop_duplicates()
    wide = wide.pivot(index=["cohort", "map", "model"], columns="question", values="cell")
    return wide.reindex(pd.MultiIndex.from_frame(index))[list(dict.fromkeys(names))].fillna("–")
