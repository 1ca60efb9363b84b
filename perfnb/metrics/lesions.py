"""Read-outs of a lesion: which voxels are hypoperfused, how much volume, how much overlap."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from perfnb.metrics import statistics

LEAST_ML = 3.0  # a true lesion below it is too small for an overlap to mean something
LATE_S = 6.0  # Tmax above which tissue counts (Olivot et al. 2009, Stroke 40:469)
LATE_DELAY_S = {"parametric": 3.0}
"""Thresholds [s] of the methods whose Tmax is the arterial delay alone. A threshold belongs to the
program it was found with: that of delay maps is 3 s where that of Tmax is 6 s (Chen et al. 2021,
Front Neurol 11:590766)."""


def late_threshold(method: str) -> float:
    """Tmax above which tissue is late in maps of a deconvolution, and of networks taught by it [s].

    The true Tmax, and that of SVD methods, is the maximum of a response that dispersion makes rise
    before it falls. The parametric residue only falls: its maximum is where it begins, seconds
    earlier in tissue whose blood comes smeared out.

    Parameters
    ----------
    method : str
        Name in `deconvolution.METHODS`; "" where it is not known.
    """
    return LATE_DELAY_S.get(method, LATE_S)


def hypoperfusion(tmax: np.ndarray, tissue: np.ndarray, threshold_s: float = LATE_S) -> np.ndarray:
    """Tissue whose residue function peaks late: the common rule Tmax > 6 s.

    Maps of a method that finds the delay alone need another threshold: see `late_threshold`.

    Parameters
    ----------
    tmax : float array, any shape
        Tmax [s].
    tissue : bool array, the same shape
        Grey and white matter; CSF and vessels have no Tmax.
    threshold_s : float
        Tmax [s] above which tissue counts.

    Returns
    -------
    bool array, the same shape

    Raises
    ------
    ValueError
        Shapes that differ.
    """
    tmax, tissue = np.asarray(tmax), np.asarray(tissue, bool)
    _same_shape("tmax", tmax, "tissue", tissue)
    return (tmax > threshold_s) & tissue


def late_tissue(ttp: np.ndarray, tissue: np.ndarray, threshold_s: float = 2.5) -> np.ndarray:
    """Tissue whose bolus peaks late against the rest of the brain: TTP - median TTP > 2.5 s.

    The plain rule that any lesion map has to beat: it needs no arterial input and no network.

    Parameters
    ----------
    ttp : float array, any shape
        TTP [s], from any moment on.
    tissue : bool array, the same shape
        Grey and white matter; the median is over it.
    threshold_s : float
        Lateness [s] above which tissue counts.

    Returns
    -------
    bool array, the same shape

    Raises
    ------
    ValueError
        Shapes that differ; empty tissue.
    """
    ttp, tissue = np.asarray(ttp), np.asarray(tissue, bool)
    _same_shape("ttp", ttp, "tissue", tissue)
    if not tissue.any():
        raise ValueError("tissue is empty, expected grey and white matter: check the tissue mask")
    return (ttp - np.median(ttp[tissue]) > threshold_s) & tissue


def read_outs(truth: np.ndarray, masks: Mapping[str, np.ndarray], voxel_ml: float) -> list[dict]:
    """Volume of each method's lesion beside the true one, and their overlap.

    Parameters
    ----------
    truth : bool array, any shape
        The true lesion of one patient.
    masks : mapping of method to bool array, the same shape
        What each method calls lesion.
    voxel_ml : float
        Volume of one voxel [ml].

    Returns
    -------
    list of dict
        method, true_ml, ml, dice; one each.
    """
    true_ml = volume_ml(truth, voxel_ml)
    return [
        {
            "method": method,
            "true_ml": true_ml,
            "ml": volume_ml(mask, voxel_ml),
            "dice": dice(truth, mask),
        }
        for method, mask in masks.items()
    ]


def agreement(rows: pd.DataFrame, seed: int, order: Sequence[str]) -> pd.DataFrame:
    """How lesions of each method agree with the true ones, over patients.

    Parameters
    ----------
    rows : DataFrame
        Columns cohort, patient, method, true_ml, ml, dice, from `read_outs`; may hold the rule by
        which each method's tissue is late.
    seed : int
        Of the bootstrap.
    order : sequence of str
        Methods in the order of the rows; those that are missing are left out.

    Returns
    -------
    DataFrame
        Rows cohort, method, and rule if given. n; the mean difference of volumes with its limits
        of agreement (mean ± 1.96 SD, Bland and Altman) and the mean absolute one [ml], of all
        patients; and, of `large` patients whose true lesion has LEAST_ML at least, the median
        overlap and its bootstrap interval.
    """
    found = []
    for cohort, of_cohort in rows.groupby("cohort"):
        for method in (name for name in order if name in set(of_cohort["method"])):
            part = of_cohort[of_cohort["method"] == method]
            rule = {"rule": part["rule"].iloc[0]} if "rule" in part else {}
            found.append({"cohort": cohort, "method": method} | rule | _agreement(part, seed))
    return pd.DataFrame(found)


def as_text(found: pd.DataFrame) -> pd.DataFrame:
    """Lay what `agreement` found out for print, each interval beside its value."""
    if found.empty:
        return found

    def ranged(*names: str, digits: int) -> list[str]:
        return [statistics.interval_text(*row, digits) for row in found[list(names)].to_numpy()]

    rule = {"rule": found["rule"]} if "rule" in found else {}
    columns = {
        "n": found["n"],
        "true [ml]": found["true_ml"].map("{:.1f}".format),
        "difference [ml]": ranged("difference_ml", "limits_low", "limits_high", digits=1),
        "absolute [ml]": found["absolute_ml"].map("{:.1f}".format),
        "large": found["large"],
        "Dice": ranged("dice", "dice_low", "dice_high", digits=2),
    }
    keys = [found["cohort"], found["method"]]
    return pd.DataFrame(rule | columns).set_index(keys)


def _agreement(part: pd.DataFrame, seed: int) -> dict[str, float]:
    """Agreement of one method's lesions with the true ones."""
    difference = part["ml"] - part["true_ml"]
    spread = 1.96 * difference.std() if len(part) > 1 else np.nan
    overlap = part.loc[part["true_ml"] >= LEAST_ML, "dice"].to_numpy()
    ends = (np.nan, np.nan)
    if len(overlap) > 1:
        ends = statistics.bootstrap_interval(overlap, seed, np.median)
    return {
        "n": len(part),
        "true_ml": part["true_ml"].mean(),
        "difference_ml": difference.mean(),
        "limits_low": difference.mean() - spread,
        "limits_high": difference.mean() + spread,
        "absolute_ml": difference.abs().mean(),
        "large": len(overlap),
        "dice": np.median(overlap) if len(overlap) else np.nan,
        "dice_low": ends[0],
        "dice_high": ends[1],
    }


def volume_ml(mask: np.ndarray, voxel_ml: float) -> float:
    """Volume of a mask [ml].

    Parameters
    ----------
    mask : bool array, any shape
        Voxels that count.
    voxel_ml : float
        Volume of one voxel [ml]; 1 ml = 1000 mm3.

    Raises
    ------
    ValueError
        A voxel volume that is not positive.
    """
    if not voxel_ml > 0:
        raise ValueError(f"voxel_ml={voxel_ml}, expected a positive volume in ml (mm3 / 1000)")
    return float(np.count_nonzero(mask) * voxel_ml)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Overlap of two masks: 2 |A and B| / (|A| + |B|); 1 where both are empty.

    Parameters
    ----------
    first, second : bool arrays, any one shape
        The two masks.

    Raises
    ------
    ValueError
        Shapes that differ.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    _same_shape("first", first, "second", second)
    total = first.sum() + second.sum()
    return float(2 * (first & second).sum() / total) if total else 1.0


def _same_shape(name: str, array: np.ndarray, other_name: str, other: np.ndarray) -> None:
    """Stop where two arrays do not lie on one grid."""
    if array.shape != other.shape:
        raise ValueError(
            f"{other_name} has shape {other.shape}, expected that of {name}, {array.shape}: "
            "bring both onto one grid"
        )
