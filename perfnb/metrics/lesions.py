"""Read-outs of a lesion: which voxels are hypoperfused, how much volume, how much overlap."""

import numpy as np


def hypoperfusion(tmax: np.ndarray, tissue: np.ndarray, threshold_s: float = 6.0) -> np.ndarray:
    """Tissue whose residue function peaks late: the common rule Tmax > 6 s.

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
