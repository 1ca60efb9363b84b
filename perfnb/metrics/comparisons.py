"""Compare two models: which is better, in how many patients, and by more than chance."""

import numpy as np
import pandas as pd

from perfnb.metrics import statistics, tables


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
    wide = _side_by_side(table, ["patient"], first, second)
    return wide[first].to_numpy(), wide[second].to_numpy()


def compare_models(
    table: pd.DataFrame, first: str, second: str, seed: int, min_pairs: int = statistics.MIN_PAIRS
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
        cohort, map, against, region, measure, unit, first, second, n, first_mean, second_mean,
        wins (patients for whom the first is better), mean_difference and its bootstrap interval
        low..high, median_difference, effect_size, p, p_holm, verdict, note. Holm's family is one
        question put to every map: the same cohort, `against`, region and measure. The bias has no
        order and is left out.
    """
    keys = ["cohort", "map", "against", "region", "measure", "unit"]
    graded = [name for name, measure in tables.MEASURES.items() if measure.better != "zero"]
    rows = []
    chosen = tables.ordered(tables.pick(table, measure=graded, model=(first, second)))
    wide = _side_by_side(chosen, [*keys, "patient"], first, second)
    for key, part in wide.groupby(level=keys, sort=False):
        head = {**dict(zip(keys, key, strict=True)), "first": first, "second": second}
        a, b = part[first].to_numpy(), part[second].to_numpy()
        rows.append({**head, **_one_comparison(a, b, head, seed, min_pairs)})
    found = pd.DataFrame(rows)
    if len(found):
        family = found.groupby(["cohort", "against", "region", "measure"])["p"]
        found.insert(found.columns.get_loc("p") + 1, "p_holm", family.transform(statistics.holm))
        found.insert(found.columns.get_loc("note"), "verdict", found.apply(verdict, axis=1))
    return found


def verdict(row: pd.Series, level: float = 0.05) -> str:
    """Say what one comparison shows about its first model: better, worse or nothing.

    Parameters
    ----------
    row : Series
        A row of `compare_models`.
    level : float
        A corrected p below it counts.

    Returns
    -------
    str
        "better", "worse", "not shown" (p not below the level: this proves no equality either) or
        "too few patients".
    """
    if not np.isfinite(row["p_holm"]):
        return "too few patients"
    if row["p_holm"] >= level:
        return "not shown"
    higher = tables.MEASURES[row["measure"]].better == "higher"
    return "better" if (row["effect_size"] > 0) == higher else "worse"


def at_a_glance(tests: pd.DataFrame, floor: str = "constant") -> pd.DataFrame:
    """Put the errors in tissue and what the tests say of them into one row a cohort and map.

    Parameters
    ----------
    tests : DataFrame
        Rows of `compare_models`, of each model against the floor and of models among themselves.
    floor : str
        The model that every other one is compared with.

    Returns
    -------
    DataFrame
        Text: cohort, map with its unit, the floor's mean error, each model's with its verdict
        against the floor, and the verdict of each comparison among models.
    """
    chosen = tables.pick(tests, against="reference", region="tissue", measure="MAE_physical")
    digits, rows = tables.MEASURES["MAE_physical"].digits, []
    for (cohort, name, unit), part in chosen.groupby(["cohort", "map", "unit"], sort=False):
        row = {"cohort": cohort, "map": f"{name} [{unit}]"}
        for _, one in part.sort_values("second", key=lambda second: second != floor).iterrows():
            if one["second"] == floor:
                row[floor] = f"{one['second_mean']:.{digits}f}"
                row[one["first"]] = f"{one['first_mean']:.{digits}f}: {one['verdict']}"
            else:
                row[f"{one['first']} / {one['second']}"] = one["verdict"]
        rows.append(row)
    return pd.DataFrame(rows)


def sentence(row: pd.Series) -> str:
    """Write one comparison as a sentence, every number from the row.

    Parameters
    ----------
    row : Series
        A row of `compare_models`.
    """
    measure = tables.MEASURES[row["measure"]]
    unit = "" if row["unit"] in ("1", "scaled") else f" {row['unit']}"
    means = [f"{row[name]:.{measure.digits}f}" for name in ("first_mean", "second_mean")]
    direction = "higher" if measure.better == "higher" else "lower"
    head = (
        f"{row['map']} ({row['cohort']}, {row['region']}): {row['first']} has the {direction} "
        f"{measure.name.split('_')[0]} in {row['wins']} of {row['n']} patients"
    )
    tail = f"mean {means[0]} against {means[1]}{unit} of {row['second']}"
    if row["note"]:
        return f"{head}; {tail}; {row['note']}."
    return f"{head}; {tail}; p = {row['p']:.2g}, Holm {row['p_holm']:.2g}: {row['verdict']}."


def _side_by_side(table: pd.DataFrame, index: list[str], first: str, second: str) -> pd.DataFrame:
    """A column per model; without the rows in which one has no finite value (r of a constant).

    Raises ValueError for a patient that only one of the two models has.
    """
    table = tables.pick(table, model=(first, second))
    finite = np.isfinite(table["value"])
    table = table.assign(value=table["value"].where(finite, np.inf))  # NaN: missing altogether
    order = table[index].drop_duplicates()
    wide = table.pivot(index=index, columns="model", values="value")
    wide = wide.reindex(columns=[first, second])
    lost = wide.index[wide.isna().sum(axis=1) == 1]
    if len(lost) and not wide.isna().all().any():
        alone = sorted(set(lost.get_level_values("patient")))
        raise ValueError(
            f"patients {alone} have a value for only one of {first} and {second}: "
            "run chapter 07_evaluate for both models"
        )
    wide = wide.dropna()
    wide = wide[np.isfinite(wide).all(axis=1)]
    order = pd.MultiIndex.from_frame(order) if len(index) > 1 else pd.Index(order["patient"])
    return wide.reindex(order[order.isin(wide.index)])


def _one_comparison(a, b, head, seed, min_pairs) -> dict:
    """Means, differences and test of one row."""
    difference = a - b
    many = len(a) > 1
    low, high = statistics.bootstrap_interval(difference, seed) if many else (np.nan, np.nan)
    enough = len(a) >= min_pairs
    test = statistics.paired_wilcoxon(a, b, min_pairs) if enough else None
    gain = difference if tables.MEASURES[head["measure"]].better == "higher" else -difference
    return {
        "n": len(a),
        "first_mean": float(a.mean()),
        "second_mean": float(b.mean()),
        "wins": int((gain > 0).sum()),
        "mean_difference": float(difference.mean()),
        "low": low,
        "high": high,
        "median_difference": float(np.median(difference)),
        "effect_size": test.effect_size if enough else np.nan,
        "p": test.p if enough else np.nan,
        "note": "" if enough else f"too few patients ({len(a)} of {min_pairs})",
    }
