"""Reference maps: what an expert would have made of a series, not the truth.

Steps: motion taken out, baseline and bolus arrival, delta R2*, arterial input, in-plane smoothing,
deconvolution, five maps in physical units. An expert who rejects the automatic arterial input
picks another; where none is to be had, there is no map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfnb.classical.aif import AIF, NoAIF, find_aif
from perfnb.classical.deconvolution import METHODS, deconvolve, time_to_peak
from perfnb.classical.motion import Motion, correct_motion
from perfnb.classical.signal import (
    Baseline,
    check_repetition_time,
    delta_r2star,
    find_baseline,
    usable_voxels,
)
from perfnb.maps import MAPS

RELAXIVITY_RATIO = 7.0
"""Relaxivity of contrast agent in tissue over that in arterial blood (Kjolby et al. 2006, Magn
Reson Med 56:187). It scales CBF and CBV alike; absolute DSC values are never better than it."""

SEARCHES = {"automatic": (None, "healthier"), "contralateral": ("healthier", None)}
"""Where the arterial input is looked for, by name: first, and after a rejection. None is the whole
brain, "healthier" the lateral arteries of the earlier side, as a rater picks M2."""


@dataclass(frozen=True)
class References:
    """Reference maps of one patient and what they rest on.

    Attributes
    ----------
    maps : dict of float32 arrays, shape (X, Y, Z)
        CBF, CBV, MTT, Tmax, TTP in the units of `perfnb.maps`, clipped to its limits,
        0 outside the mask and where no curve could be fitted.
    aif : AIF
    aif_source : str
        "automatic", "replaced" after a rejection, or "given" by the user.
    rejected : tuple of str
        What spoke against the first choice; empty unless replaced.
    baseline : Baseline
    usable : bool array, shape (X, Y, Z)
        Voxels with a curve of their own; the others of the mask took their neighbours' curves.
    motion : Motion or None
        What was taken out of the film; None where nothing looked for it.
    """

    maps: dict[str, np.ndarray]
    aif: AIF
    aif_source: str
    rejected: tuple[str, ...]
    baseline: Baseline
    usable: np.ndarray
    motion: Motion | None


def reference_maps(
    series: np.ndarray,
    mask: np.ndarray,
    repetition_time_s: float,
    echo_time_s: float,
    voxel_size_mm: tuple[float, ...],
    smoothing_mm: float = 2.6,
    method: str = "block-circulant SVD",
    threshold: float | None = None,
    prior: str = "vascular",
    search: str = "automatic",
    corrects_motion: bool = False,
    rescale_by_vein: bool = False,
    aif_mask: np.ndarray | None = None,
    aif_curve: np.ndarray | None = None,
    relaxivity_ratio: float = RELAXIVITY_RATIO,
    slice_times_s: np.ndarray | None = None,
) -> References:
    """Make the five perfusion maps of one patient as an expert would.

    Parameters
    ----------
    series : float array, shape (X, Y, Z, T)
        DSC signal, arbitrary units.
    mask : bool array, shape (X, Y, Z)
        Brain.
    repetition_time_s, echo_time_s : float
        Repetition and echo time [s].
    voxel_size_mm : two or three floats
        Voxel size [mm]; motion needs the third.
    smoothing_mm : float
        Standard deviation of the in-plane smoothing [mm]; 0 for none.
    method : str
        Of deconvolution: name in `deconvolution.METHODS`.
    threshold : float, optional
        Of that method; its default if not given.
    prior : str
        Of the parametric method: name in `parametric.PRIORS`.
    search : str
        Where the artery is looked for: name in SEARCHES.
    corrects_motion : bool
        Take the head's motion out of the film before anything else.
    rescale_by_vein : bool
        Lift the arterial input to the area of the purest vessel (`partial_volume`); in a film
        whose motion was taken out, take the tissue out of its voxels instead.
    aif_mask : bool array, shape (X, Y, Z), optional
        Voxels of an artery; found automatically if not given.
    aif_curve : float array, shape (T,), optional
        The arterial input itself [1/s], at the frames' start, in place of voxels.
    relaxivity_ratio : float
        Relaxivity of contrast agent in tissue over that in arterial blood.
    slice_times_s : float array that broadcasts to (X, Y, Z), optional
        When each voxel was taken, after the start of its frame [s]. A slice taken late sees the
        bolus early; Tmax is corrected for it, TTP stays in the slice's own time.

    Returns
    -------
    references : References
        Maps and what they rest on.

    Raises
    ------
    NoAIF
        No artery can be trusted; its `reasons` say why.
    ValueError
        Bad shapes, times not in seconds, an empty mask, an unknown method or search, or a series
        without a bolus.
    """
    check_repetition_time(repetition_time_s)
    _check_choices(series, method, search, voxel_size_mm, corrects_motion)
    mask, motion = np.asarray(mask, bool), None
    if corrects_motion:
        motion = correct_motion(series, mask, np.asarray(voxel_size_mm))
        series = motion.series
    baseline = find_baseline(series, mask)
    usable = usable_voxels(series, mask, baseline)
    curves = delta_r2star(series, echo_time_s, baseline)
    about = {"arrival": baseline.arrival, "slice_times_s": slice_times_s}
    resampled = rescale_by_vein and motion is not None and motion.moved != "none"
    about |= {"rescale_by_vein": rescale_by_vein, "resampled": resampled}
    given = {"aif_mask": aif_mask, "aif_curve": aif_curve}
    given = {name: value for name, value in given.items() if value is not None}
    aif, source, rejected = _choose_aif(curves, usable, repetition_time_s, search, given, about)
    tissue = smooth_in_plane(curves, usable, voxel_size_mm[:2], smoothing_mm)[mask]
    fit = deconvolve(
        tissue,
        relaxivity_ratio * aif.curve,
        repetition_time_s,
        method,
        arrival=baseline.arrival,
        threshold=threshold,
        echo_time_s=echo_time_s,
        prior=prior,
    )
    values = {name: np.nan_to_num(column) for name, column in fit.maps.items()}
    values["TTP"] = time_to_peak(tissue, repetition_time_s, baseline.arrival)  # without the input
    if slice_times_s is not None:  # the input is that at the frames' start
        values["Tmax"] = values["Tmax"] + np.broadcast_to(slice_times_s, mask.shape)[mask]
    maps = {name: _clipped(values[name], name, mask) for name in MAPS}
    return References(maps, aif, source, rejected, baseline, usable, motion)


def _choose_aif(
    curves: np.ndarray,
    usable: np.ndarray,
    repetition_time_s: float,
    search: str,
    given: dict,
    about: dict,
) -> tuple[AIF, str, tuple[str, ...]]:
    """Arterial input that an expert accepts, its source, and why an earlier one was rejected."""
    if given:
        aif = find_aif(curves, usable, repetition_time_s, **given, **about)
        if aif.ok:
            return aif, "given", ()
        raise NoAIF(aif.reasons)
    first, second = SEARCHES[search]
    aif = find_aif(curves, usable, repetition_time_s, side=first, **about)
    if aif.ok:
        return aif, "automatic", ()
    other = find_aif(curves, usable, repetition_time_s, side=second, **about)
    if other.ok:
        return other, "replaced", aif.reasons
    raise NoAIF(aif.reasons)


def _check_choices(series, method, search, voxel_size_mm, corrects_motion) -> None:
    if series.ndim != 4:
        raise ValueError(f"series has shape {series.shape}; expected (X, Y, Z, T)")
    for name, value, known in (("method", method, METHODS), ("search", search, SEARCHES)):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown; known: {', '.join(known)}")
    if corrects_motion and len(voxel_size_mm) != 3:
        raise ValueError(
            f"voxel_size_mm={tuple(voxel_size_mm)}; motion needs three voxel sizes [mm]"
        )


def smooth_in_plane(
    curves: np.ndarray,
    usable: np.ndarray,
    voxel_size_mm: tuple[float, float],
    smoothing_mm: float,
) -> np.ndarray:
    """Gaussian smoothing within each slice and within the usable voxels.

    Delta R2* is smoothed, not the signal: it is linear in concentration, so smoothing commutes
    with deconvolution, and neither coil sensitivity nor bright CSF weights the average.
    Normalised convolution (weights 0 outside `usable`) keeps the background out.

    Parameters
    ----------
    curves : float array, shape (X, Y, Z, T)
        Delta R2* [1/s].
    usable : bool array, shape (X, Y, Z)
        Voxels that may contribute; all others receive their neighbours' average.
    voxel_size_mm : (float, float)
        In-plane voxel size [mm].
    smoothing_mm : float
        Standard deviation [mm]; 0 returns the curves with unusable voxels set to 0.

    Returns
    -------
    float array, shape (X, Y, Z, T)
        0 where no usable voxel is near.
    """
    if smoothing_mm < 0 or len(voxel_size_mm) != 2 or min(voxel_size_mm) <= 0:
        raise ValueError(
            f"smoothing_mm={smoothing_mm}, voxel_size_mm={voxel_size_mm}; expected a width of at "
            "least 0 mm and two voxel sizes above 0 mm"
        )
    weights = usable.astype(curves.dtype)[..., None]
    weighted = np.where(usable[..., None], curves, 0)
    if smoothing_mm == 0:
        return weighted
    for axis, size_mm in enumerate(voxel_size_mm):
        kernel = _gaussian_matrix(curves.shape[axis], smoothing_mm / size_mm, curves.dtype)
        weighted, weights = (_along(kernel, values, axis) for values in (weighted, weights))
    return np.divide(weighted, weights, out=np.zeros_like(weighted), where=weights > 1e-3)


def _gaussian_matrix(n: int, sigma: float, dtype) -> np.ndarray:
    """Gaussian weights (n, n) of every voxel of a line for every other; sigma in voxels."""
    distance = np.arange(n)[:, None] - np.arange(n)
    kernel = np.exp(-0.5 * (distance / sigma) ** 2)
    return np.where(np.abs(distance) <= 4 * sigma, kernel, 0).astype(dtype)


def _along(matrix: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    """Product of a matrix with one axis of an array: a matrix product is faster than a filter."""
    if axis == 0:
        return (matrix @ values.reshape(len(values), -1)).reshape(values.shape)
    return (matrix @ values.reshape(*values.shape[:2], -1)).reshape(values.shape)


def _clipped(values: np.ndarray, map_name: str, mask: np.ndarray) -> np.ndarray:
    """One map as a volume: values clipped to the map's limits, 0 outside the mask."""
    volume = np.zeros(mask.shape, np.float32)
    volume[mask] = np.clip(values, *MAPS[map_name].limits)
    return volume
