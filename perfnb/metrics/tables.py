"""The tidy table of results: one row per patient, map, model, region and measure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from perfnb import maps
from perfnb.files import read_table
from perfnb.metrics import images

COLUMNS = tuple("study cohort patient map model against region measure unit value".split())
KEY = COLUMNS[:8]
NETWORKS = ("pix2pix", "temp-pix2pix")
FLOORS = ("constant", "pre-bolus only")  # a map without the bolus
CEILINGS = ("second noise draw", "noise-free teacher")  # what made the references, made again
CLASSICAL = ("classical", "block-circulant SVD", "parametric")  # compete against the truth only
MODELS = (*NETWORKS, *FLOORS, *CEILINGS, *CLASSICAL)


@dataclass(frozen=True)
class Measure:
    """How one measure is written and which way is better."""

    name: str
    unit: str | None  # None: the unit of the map
    better: str  # lower, higher or zero
    digits: int = 3


MEASURES = {
    m.name: m
    for m in (
        Measure("MAE", "scaled", "lower"),
        Measure("NRMSE", "1", "lower"),
        Measure("SSIM", "1", "higher"),
        Measure("PSNR", "dB", "higher", 1),
        Measure("MAE_physical", None, "lower", 2),
        Measure("RMSE_physical", None, "lower", 2),
        Measure("bias", None, "zero", 2),
        Measure("r", "1", "higher", 2),
        Measure("high_bias", None, "zero", 2),
    )
}
PAPER = ("MAE", "NRMSE", "SSIM", "PSNR")  # the four measures of the paper, on the scale [-1, 1]
GAP = "\N{NO-BREAK SPACE}"
PHYSICAL = ("MAE_physical", "RMSE_physical", "bias", "r")  # in the unit of the map


def evaluate_patient(
    *,
    study: str,
    cohort: str,
    patient: str,
    map_name: str,
    model: str,
    prediction_scaled: np.ndarray | None,
    reference_scaled: np.ndarray | None,
    prediction: np.ndarray,
    reference: np.ndarray,
    tissue: np.ndarray,
    truth: np.ndarray | None = None,
) -> list[dict]:
    """All rows of the table for one patient, map and model.

    Parameters
    ----------
    study, cohort, patient, map_name, model : str
        What is scored; `model` is one of MODELS.
    prediction_scaled, reference_scaled : float arrays, shape (Z, H, W)
        Maps on [-1, 1], background -1. Not used for the models in CLASSICAL.
    prediction, reference : float arrays, shape (Z, H, W)
        The same maps in the unit of the map.
    tissue : bool array, shape (Z, H, W)
        Grey and white matter.
    truth : float array, shape (Z, H, W), or None
        The true map in its unit, where it is known.

    Returns
    -------
    list of dict
        Keys as in `COLUMNS`. Against the reference: whole slices and tissue; against the truth:
        tissue in physical units. "classical" is the reference itself, and the other routes in
        CLASSICAL read the same film, so they have no row against it.

    Raises
    ------
    ValueError
        An unknown map or model; a classical route without truth; arrays as in
        `perfnb.metrics.images`.
    """
    unit = maps.spec(map_name).unit
    _known_model(model)
    if model in CLASSICAL and truth is None:
        raise ValueError(f"{model=} has no truth: it can be scored against the truth only")
    found = []
    if model not in CLASSICAL:
        scaled = (reference_scaled, prediction_scaled)
        found.append(("reference", "slice", images.slice_scores(*scaled)))
        found.append(("reference", "tissue", images.tissue_scores(*scaled, tissue)))
        found.append(("reference", "tissue", _physical(reference, prediction, tissue)))
    if truth is not None:
        found.append(("truth", "tissue", _physical(truth, prediction, tissue)))
    head = dict(study=study, cohort=cohort, patient=patient, map=map_name, model=model)
    return [
        {
            **head,
            "against": against,
            "region": region,
            "measure": name,
            "unit": MEASURES[name].unit or unit,
            "value": value,
        }
        for against, region, scores in found
        for name, value in scores.items()
    ]


def collect(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Join the tables of several evaluations into one.

    The baselines stand beside every model, so their rows repeat; equal rows are kept once.

    Parameters
    ----------
    paths : str or Path, several
        CSV files with the columns `COLUMNS`.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`, sorted by all of them but the value.

    Raises
    ------
    ValueError
        No path; a file without a column; rows that repeat with different values.
    """
    parts = []
    for path in paths:
        part = read_table(path, unit=str)
        missing = [column for column in COLUMNS if column not in part]
        if missing:
            raise ValueError(
                f"{path} lacks the columns {missing}, expected {list(COLUMNS)}: "
                "make it again with chapter 07_evaluate"
            )
        parts.append(part[list(COLUMNS)])
    if not parts:
        raise ValueError("no table to join: give at least one metrics.csv of chapter 07_evaluate")
    table = pd.concat(parts, ignore_index=True)
    spread = table.groupby(list(KEY))["value"].agg(["min", "max"])
    differ = ~np.isclose(spread["min"], spread["max"], rtol=1e-6, equal_nan=True)
    if differ.any():
        raise ValueError(
            f"{differ.sum()} rows repeat with different values, first {spread.index[differ][0]}: "
            "the models were not evaluated on the same patients; run chapter 07_evaluate again"
        )
    return table.drop_duplicates(list(KEY)).sort_values(list(KEY), ignore_index=True)


def pick(table: pd.DataFrame, **where: str | Sequence[str]) -> pd.DataFrame:
    """Rows where each named column has the value, or one of the values, given.

    Raises
    ------
    ValueError
        An unknown column.
    """
    for column, wanted in where.items():
        if column not in table:
            raise ValueError(f"no column {column!r} in the table, known: {list(table.columns)}")
        table = table[table[column].isin([wanted] if isinstance(wanted, str) else list(wanted))]
    return table


def mean_sd(table: pd.DataFrame, measures: Sequence[str] = PAPER) -> pd.DataFrame:
    """Mean and standard deviation over patients, written as text, ready to print.

    Parameters
    ----------
    table : DataFrame
        Tidy rows of one `against` and `region`.
    measures : list of str
        Names of the measures, in the order of the columns.

    Returns
    -------
    DataFrame of str
        Rows cohort, map, model in the order of `maps.MAPS` and `MODELS`; a column per measure, and
        n patients. Where a measure has the unit of the map, the map's name tells it,
        and the column drops "_physical".
    """
    rows = []
    for key, part in ordered(pick(table, measure=measures)).groupby(
        ["cohort", "map", "model"], sort=False
    ):
        values = {name: part.loc[part["measure"] == name, "value"] for name in measures}
        cells = {
            name.removesuffix("_physical"): _cell(values[name], MEASURES[name].digits)
            for name in measures
        }
        rows.append({**dict(zip(("cohort", "map", "model"), key, strict=True)), **cells})
        rows[-1]["n"] = part["patient"].nunique()
        if set(measures) & set(PHYSICAL):
            rows[-1]["map"] = f"{key[1]} [{maps.spec(key[1]).unit}]"
    return pd.DataFrame(rows).set_index(["cohort", "map", "model"]) if rows else pd.DataFrame()


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the book: maps as in `maps.MAPS`, then `MODELS`, then `MEASURES`."""
    ranks = {"map": list(maps.MAPS), "model": list(MODELS), "measure": list(MEASURES)}
    return table.sort_values(
        ["cohort", "map", "model", "measure", "patient"],
        key=lambda c: c.map(ranks[c.name].index) if c.name in ranks else c,
        kind="stable",
    )


def average_patient(table: pd.DataFrame) -> str:
    """The patient who stands for the cohort: chosen by a rule, not by eye.

    Parameters
    ----------
    table : DataFrame
        Tidy rows of one cohort and one measure, of any maps and models.

    Returns
    -------
    str
        The patient whose mean value is nearest the median of all patients; the first by name
        where two are equally near.

    Raises
    ------
    ValueError
        An empty table.
    """
    values = table.groupby("patient")["value"].mean().sort_index()
    if values.empty:
        raise ValueError("the table has no rows, expected at least one patient")
    return str((values - values.median()).abs().idxmin())


def _physical(reference, prediction, tissue) -> Mapping[str, float]:
    """Physical errors under the names of the table."""
    errors = images.physical_errors(reference, prediction, tissue)
    named = zip(PHYSICAL, ("MAE", "RMSE", "bias", "r"), strict=True)
    return {name: errors[key] for name, key in named} | {"high_bias": errors["high_bias"]}


def _known_model(model: str) -> None:
    """Stop at a model that the table does not know."""
    if model not in MODELS:
        raise ValueError(f"model={model!r} is unknown, known: {', '.join(MODELS)}")


def _cell(values: pd.Series, digits: int) -> str:
    """Mean and SD as text; a dash where there is nothing to average."""
    values = values.dropna()
    if values.empty:
        return "–"
    spread = f"{GAP}±{GAP}{values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"
