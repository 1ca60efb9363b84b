"""Rigid motion of the head, estimated and taken out of the film, with a verdict on the film."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import median_filter

from perfnb.classical.registration import Alignment, align
from perfnb.classical.rigid import displacement, grid_points, move_points, voxel_size
from perfnb.classical.signal import Baseline, check_signal, find_baseline

MOVED = {"none": 0.4, "mild": 3.2}
"""Largest mean displacement of the brain [mm] up to which a film counts as "none" or "mild"."""
FALLBACK = slice(2, 7)  # frames before the bolus, where motion hides when it arrives
MIN_BRAIN_VOXELS = 100
MIN_FINITE = 0.9  # of the brain's voxels, or a frame cannot be used
MIN_BRIGHTNESS = 0.05  # of the median frame's mean, or a frame is empty
MAX_UNUSABLE = 0.1  # of the frames, or the film is not ok
MIN_IN_VIEW = 0.9  # of the brain in every frame, or the film is not ok
MAX_MISFIT = 2.5  # times that of the frames around it, or a frame was not matched


@dataclass(frozen=True)
class Motion:
    """How the head moved during a film, and the film without it.

    Attributes
    ----------
    series : float32 array, shape (X, Y, Z, T)
        Every frame in the place of the first usable one. A film that hardly moved (`moved` is
        "none") and frames that cannot be used are left as they were.
    parameters : float array, shape (T, 6)
        Where the head lies, against the first usable frame: shifts along x, y, z [mm] and turns
        about x, y, z [degrees], along the grid's axes and about the volume's centre. A point x
        goes to R x + shift, R turning about x first, then y, then z. NaN in unusable frames.
    displacement_mm : float array, shape (T,)
        Mean displacement of the brain's voxels [mm]; NaN in unusable frames.
    usable : bool array, shape (T,)
        False for frames that are empty or not finite.
    moved : str
        "none", "mild" or "considerable", by the largest displacement: see `MOVED`.
    ok : bool
        The corrected film can be trusted.
    reasons : tuple of str
        What speaks against the film; empty where nothing does.
    """

    series: np.ndarray
    parameters: np.ndarray
    displacement_mm: np.ndarray
    usable: np.ndarray
    moved: str
    ok: bool
    reasons: tuple[str, ...]


def correct_motion(
    series: np.ndarray, mask: np.ndarray, affine: np.ndarray, baseline: Baseline | None = None
) -> Motion:
    """Estimate rigid motion of the head in every frame, and take it out.

    Parameters
    ----------
    series : float array, shape (X, Y, Z, T)
        DSC signal, arbitrary units. A single slice is corrected in-plane only.
    mask : bool array, shape (X, Y, Z)
        Brain.
    affine : float array, shape (4, 4) or (3,)
        The series' affine, or its voxel size [mm].
    baseline : Baseline, optional
        Frames before the bolus; found if not given, or frames 2 to 6 where none are found, as
        motion can hide them. After the correction they can be found.

    Returns
    -------
    Motion

    Raises
    ------
    ValueError
        Bad shapes, a mask that is empty or tiny, no voxel size above 0, or no usable baseline.
    """
    series, mask, size_mm = _check(series, mask, affine)
    usable, filled = _usable_frames(series, mask)
    before = _baseline_frames(filled, mask, usable, baseline)
    found = align(filled[..., usable], mask, size_mm, np.flatnonzero(before[usable]))
    parameters = np.full((len(usable), 6), np.nan)
    parameters[usable] = found.poses
    far = displacement(parameters, mask, affine)
    moved = _name_motion(np.nanmax(far))
    corrected = series
    if moved != "none":
        corrected = series.copy()
        corrected[..., usable] = _put_back(series[..., usable], found, size_mm)
    around = median_filter(found.misfit, 5, mode="nearest")
    unmatched = np.flatnonzero(usable)[found.misfit > MAX_MISFIT * around]
    reasons = _reasons(usable, unmatched, _share_in_view(parameters, mask, size_mm))
    return Motion(corrected, parameters, far, usable, moved, not reasons, reasons)


def resample(series: np.ndarray, parameters: np.ndarray, size_mm: np.ndarray) -> np.ndarray:
    """Put every frame back in place, linearly between voxels.

    Parameters
    ----------
    series : float array, shape (X, Y, Z, T)
        DSC signal, arbitrary units.
    parameters : float array, shape (T, 6)
        Where the head lies, as in `Motion`; a frame with NaN or without motion stays as it is.
    size_mm : float array, shape (3,)
        Voxel size [mm].

    Returns
    -------
    float32 array, shape (X, Y, Z, T)
        What lay outside the view takes the value at its edge.
    """
    corrected = np.array(series, np.float32)
    transform, work = sitk.Euler3DTransform(), sitk.ResampleImageFilter()
    transform.SetComputeZYX(True)  # turn about x first
    transform.SetCenter([float(v) for v in (np.array(series.shape[:3]) - 1) / 2 * size_mm])
    work.SetNumberOfThreads(1)
    work.SetInterpolator(sitk.sitkLinear)
    work.UseNearestNeighborExtrapolatorOn()
    for t in np.flatnonzero(np.isfinite(parameters).all(axis=1) & np.any(parameters, axis=1)):
        shift, turns = parameters[t, :3], np.deg2rad(parameters[t, 3:])
        transform.SetParameters([*map(float, turns), *map(float, shift)])
        image = sitk.GetImageFromArray(np.ascontiguousarray(corrected[..., t].T))
        image.SetSpacing([float(v) for v in size_mm])
        work.SetReferenceImage(image)
        work.SetTransform(transform)
        corrected[..., t] = sitk.GetArrayFromImage(work.Execute(image)).T
    return corrected


def _put_back(series: np.ndarray, found: Alignment, size_mm: np.ndarray) -> np.ndarray:
    """Series (X, Y, Z, T) with the head at rest.

    Resampling blurs, and blurs each frame differently. A frame's model needs none: it is known
    at rest. So only what the model does not explain is resampled.
    """
    still, moved = found.models()
    rest = series.copy()
    rest[found.head.box] -= moved
    rest = resample(rest, found.poses, size_mm)
    rest[found.head.box] += still
    return rest


def _check(series, mask, affine) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Series as float32, mask as bool and voxel size [mm], or one clear ValueError."""
    series, mask = np.asarray(series), np.asarray(mask, bool)
    if series.ndim != 4:
        raise ValueError(f"series has shape {series.shape}; expected (X, Y, Z, T)")
    check_signal(series, mask)
    if mask.sum() < MIN_BRAIN_VOXELS:
        raise ValueError(
            f"mask has {mask.sum()} voxels; expected a brain of at least {MIN_BRAIN_VOXELS}"
        )
    return np.asarray(series, np.float32), mask, voxel_size(affine)


def _usable_frames(series: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T,) that show a brain, and the series with 0 in voxels that are not always finite."""
    brain = series[mask]
    finite = np.isfinite(brain)
    level = np.where(finite, brain, 0).mean(axis=0, dtype=float)
    spread = np.where(finite, brain, 0).std(axis=0, dtype=float)
    shown = (finite.mean(axis=0) >= MIN_FINITE) & (spread > 0) & (level > 0)
    if shown.any():
        shown &= level > MIN_BRIGHTNESS * np.median(level[shown])
    if shown.sum() < 3:
        raise ValueError(
            f"series has {shown.sum()} frames in which the brain is finite and brighter than 0; "
            "expected at least 3: check the series and the mask"
        )
    whole = np.isfinite(series[..., shown]).all(axis=-1)
    return shown, np.where(whole[..., None] & shown, series, 0)


def _baseline_frames(
    series: np.ndarray, mask: np.ndarray, usable: np.ndarray, baseline: Baseline | None
) -> np.ndarray:
    """Usable frames before the bolus, as flags (T,)."""
    before = np.zeros(len(usable), bool)
    if baseline is not None:
        if not 0 <= baseline.first < baseline.last <= len(usable):
            raise ValueError(f"{baseline} does not fit {len(usable)} time points")
        before[baseline.frames] = True
    else:
        try:
            found = find_baseline(series[..., usable], mask)
            before[np.flatnonzero(usable)[found.frames]] = True
        except ValueError:  # no bolus, or motion that looks like an early one
            before[FALLBACK] = True
    before &= usable
    if not before.any():
        raise ValueError("no frame before the bolus is usable; expected at least one")
    return before


def _name_motion(largest_mm: float) -> str:
    """Name in MOVED of the largest displacement, or "considerable"."""
    return next((name for name, limit in MOVED.items() if largest_mm <= limit), "considerable")


def _share_in_view(parameters: np.ndarray, mask: np.ndarray, size_mm: np.ndarray) -> np.ndarray:
    """Share of the brain that each frame's volume still holds, shape (T,); 1 in unusable frames."""
    points = grid_points(mask.shape, size_mm)[:, mask.ravel()]
    edge = (np.array(mask.shape) * size_mm / 2)[:, None]
    moved = (move_points(pose, points) for pose in np.nan_to_num(parameters))
    return np.array([(np.abs(place) <= edge).all(axis=0).mean() for place in moved])


def _reasons(usable: np.ndarray, unmatched: np.ndarray, in_view: np.ndarray) -> tuple[str, ...]:
    """What speaks against a film: frames that are unusable or unmatched, brain out of view."""
    found = []
    if np.mean(~usable) > MAX_UNUSABLE:
        found.append(f"{np.sum(~usable)} of {len(usable)} frames are empty or not finite")
    if len(unmatched):
        found.append(f"no rigid motion explains frames {', '.join(map(str, unmatched))}")
    if in_view.min() < MIN_IN_VIEW:
        found.append(
            f"{1 - in_view.min():.0%} of the brain left the field of view in frame "
            f"{in_view.argmin()}"
        )
    return tuple(found)
