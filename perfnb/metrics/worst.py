"""The worst patients: who they are, and whether high values and fine grain survive."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import ndimage

from perfnb.metrics import tables

MIN_VOXELS = 50  # of a tail: with fewer, its slope is noise


def worst_patients(
    table: pd.DataFrame, model: str, count: int = 2
) -> tuple[str, list[str], pd.Series]:
    """Choose the map that a model draws worst, and the patients in whom it does: by a rule.

    The map has the lowest mean whole-slice SSIM over the patients, the patients have the lowest
    SSIM of that map; ties by name.

    Parameters
    ----------
    table : DataFrame
        Tidy rows of one cohort, columns as in `tables.COLUMNS`.
    model : str
        Which model is judged.
    count : int
        How many patients.

    Returns
    -------
    (str, list of str, Series)
        The map; the patients, worst first; the SSIM of that map by patient.
    """
    rows = tables.pick(table, model=model, against="reference", region="slice", measure="SSIM")
    if rows.empty:
        raise ValueError(f"the table has no whole-slice SSIM of {model} against the reference")
    means = rows.groupby("map")["value"].mean().sort_index()
    name = str(means.idxmin())
    scores = rows[rows["map"] == name].set_index("patient")["value"].sort_index()
    return name, list(scores.sort_values(kind="stable").index[:count]), scores


def tail(
    reference: np.ndarray, drawn: np.ndarray, tissue: np.ndarray, threshold: float
) -> dict[str, float]:
    """Are high values reached? Line through drawn against reference values above a threshold.

    Parameters
    ----------
    reference, drawn : float arrays, shape (Z, H, W)
        Maps in one unit.
    tissue : bool array, shape (Z, H, W)
        Voxels that count.
    threshold : float
        Reference value above which a voxel belongs to the tail.

    Returns
    -------
    dict
        voxels; reached (mean drawn over mean reference value; 1 where high values are reached);
        slope (least squares; 1 where they keep their differences). NaN with too few voxels.
    """
    chosen = np.asarray(tissue, bool) & (reference > threshold)
    a, b = reference[chosen].astype(float), drawn[chosen].astype(float)
    if len(a) < MIN_VOXELS or np.ptp(a) == 0:
        return {"voxels": int(len(a)), "reached": np.nan, "slope": np.nan}
    slope = float(np.polyfit(a, b, 1)[0])
    return {"voxels": int(len(a)), "reached": float(b.mean() / a.mean()), "slope": slope}


def grain(volume: np.ndarray, tissue: np.ndarray) -> float:
    """How much a map varies from pixel to pixel: SD of what a 3 x 3 mean in tissue leaves over.

    Parameters
    ----------
    volume : float array, shape (Z, H, W)
        A map.
    tissue : bool array, shape (Z, H, W)
        Voxels that count, for the mean as well.

    Returns
    -------
    float
        In the unit of the map.
    """
    inside = np.asarray(tissue, bool)
    if not inside.any():
        raise ValueError("tissue is empty, expected grey and white matter: check the tissue mask")
    weight = ndimage.uniform_filter(inside.astype(float), (1, 3, 3))
    total = ndimage.uniform_filter(np.where(inside, volume, 0).astype(float), (1, 3, 3))
    return float((volume - total / np.maximum(weight, 1e-9))[inside].std())


def summarise(
    table: pd.DataFrame, keys: Sequence[str], columns: Sequence[str], digits: int = 2
) -> pd.DataFrame:
    """Median and range over patients, written as text.

    Parameters
    ----------
    table : DataFrame
        One row per patient and combination of `keys`.
    keys, columns : lists of str
        What the rows of the result stand for, and what is summarised.
    digits : int
        Decimals.

    Returns
    -------
    DataFrame of str
        "median (lowest to highest)" of the patients with a value, and n.
    """

    def cell(values: pd.Series) -> str:
        values = values.dropna()
        if values.empty:
            return "–"
        return (
            f"{values.median():.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"
        )

    groups = table.groupby(list(keys), sort=False)
    found = groups[list(columns)].agg(cell)
    found["n"] = groups[columns[0]].count()
    return found
