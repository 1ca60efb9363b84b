"""The arterial input function: found in the film, with a verdict that can say "none".

`aif_search` chooses the voxels, `aif_verdict` judges their curve, `partial_volume` tells how much
of it is artery.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perfnb.classical.aif_given import checked_curve, checked_mask, checked_motion
from perfnb.classical.aif_search import SIDES, Brain, choose
from perfnb.classical.aif_verdict import (
    MIN_SHARE,
    first_pass_ratio,
    measure,
    reasons_against,
    tissue_curve,
)
from perfnb.classical.partial_volume import (
    arterial_share,
    find_vein,
    partial_volume_factor,
    without_tissue,
)
from perfnb.classical.signal import (
    check_repetition_time,
    check_signal,
    check_slice_times,
    correct_slice_times,
)


@dataclass(frozen=True)
class AIF:
    """An arterial input function and how far it can be trusted.

    Attributes
    ----------
    curve : float array, shape (T,)
        Mean delta R2* of the voxels [1/s].
    voxels : bool array, shape (X, Y, Z)
        Where it was read; empty for a curve of the user's.
    ok : bool
        The verdict.
    reasons : tuple of str
        What speaks against it; empty for a good one.
    measures : dict
        n_voxels, height [1/s], noise [1/s], peak_s, width_s, lead_s (before tissue), roughness,
        agreement (mean correlation of the voxels with the curve), tissue_height [1/s],
        tissue_width_s, area [1/s, sum over frames], area_ratio (of the first passes), misfit
        (share of the tissue's curve that this input cannot explain), tissue_delay_s,
        partial_volume (area of the purest vessel over that of the curve; the curve is multiplied
        by it only with ``rescale_by_vein``), partial_volume_known (0 or 1), vein_voxels,
        arterial_share (of the voxels, whose tissue was taken out; 1 but with ``resampled``),
        motion_mm (at the peak, where `motion` tells it).
    """

    curve: np.ndarray
    voxels: np.ndarray
    ok: bool
    reasons: tuple[str, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)


class NoAIF(ValueError):
    """No arterial input function can be read from a series; `reasons` says why."""

    def __init__(self, reasons: tuple[str, ...]):
        self.reasons = tuple(reasons)
        super().__init__(
            f"no arterial input function found: {'; '.join(self.reasons)}; "
            "give reference_maps an aif_mask with voxels of an artery or, in a folder of films, "
            "lay reference maps of your own beside the film; or leave this patient out"
        )


def find_aif(
    delta_r2star: np.ndarray,
    mask: np.ndarray,
    repetition_time_s: float,
    arrival: int = 5,
    aif_mask: np.ndarray | None = None,
    aif_curve: np.ndarray | None = None,
    side: str | None = None,
    slice_times_s: np.ndarray | None = None,
    rescale_by_vein: bool = False,
    motion: np.ndarray | None = None,
    resampled: bool = False,
) -> AIF:
    """Find the arterial input function, or judge the one that the user gave.

    Parameters
    ----------
    delta_r2star : float array, shape (X, Y, Z, T)
        Change of relaxation rate [1/s], not smoothed in space.
    mask : bool array, shape (X, Y, Z)
        Usable voxels of the brain.
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        First frame of the bolus; the frames before it tell the noise.
    aif_mask : bool array, shape (X, Y, Z), optional
        Voxels of an artery chosen by the user; the search is skipped.
    aif_curve : float array, shape (T,), optional
        The input itself [1/s], at the frames' start; `read_curve` reads one from a file.
    side : str, optional
        "left", "right" (first axis low, high) or "healthier" (whose tissue is earlier): take three
        to four voxels of that side's lateral arteries only, as a rater takes M2.
    slice_times_s : float array that broadcasts to (X, Y, Z), optional
        When each voxel was taken, after the start of its frame [s]; the curve is then that at the
        frames' start. Without, it is the selected slices' own.
    rescale_by_vein : bool
        Multiply the curve by the partial-volume factor (`partial_volume`).
    motion : float array, shape (T, 6), optional
        Shifts [mm] and turns [degrees] of the head that are still in the film.
    resampled : bool
        Motion was taken out of the film, which blurs its arteries: the tissue's part is taken out
        of the voxels' curves (`partial_volume`), and no vein is looked for.

    Returns
    -------
    AIF
        With ``ok=False`` and reasons where none can be trusted. What the user chose is believed
        (``ok=True``) as long as it holds a bolus; the reasons are then warnings.

    Raises
    ------
    ValueError
        Shapes that don't fit, an empty mask, a given curve that cannot be an input.
    """
    check_repetition_time(repetition_time_s)
    mask, n_frames = np.asarray(mask, bool), delta_r2star.shape[-1]
    check_signal(delta_r2star, mask)
    _check_options(aif_mask, aif_curve, side)
    motion = checked_motion(motion, n_frames)
    taken_s = _taken(slice_times_s, mask, repetition_time_s)
    brain = Brain.read(delta_r2star, mask, taken_s, repetition_time_s, arrival)
    chosen = np.zeros(mask.shape, bool)
    if aif_mask is not None:
        chosen = checked_mask(aif_mask, mask.shape)
    elif aif_curve is None:
        chosen[mask] = choose(brain, side)
    if aif_curve is not None:
        own = checked_curve(aif_curve, n_frames, "aif_curve")[None]
    else:
        own = correct_slice_times(delta_r2star[chosen], taken_s[chosen], repetition_time_s)
    if not len(own):
        reason = "no voxel is early, tall, narrow and smooth beside others like it"
        return AIF(np.zeros(n_frames, np.float32), chosen, False, (reason,), {})
    own, share = _unmixed(own, brain) if resampled and aif_curve is None else (own, 1.0)
    measures = measure(own, brain.curves, brain.features, repetition_time_s, arrival, motion)
    measures |= _purity(own, brain, share)
    reasons = reasons_against(measures, alone=aif_curve is not None)
    curve = own.mean(axis=0) * (measures["partial_volume"] if rescale_by_vein else 1.0)
    given = aif_mask is not None or aif_curve is not None
    ok = bool(curve[arrival:].sum() > 0) if given else not reasons
    return AIF(curve.astype(np.float32), chosen, ok, reasons, measures)


def _check_options(aif_mask, aif_curve, side) -> None:
    if sum(option is not None for option in (aif_mask, aif_curve, side)) > 1:
        raise ValueError("aif_mask, aif_curve and side exclude each other; give one of them")
    if side is not None and side not in SIDES:
        raise ValueError(f"side={side!r} is unknown: choose one of {', '.join(SIDES)}")


def _taken(slice_times_s, mask: np.ndarray, repetition_time_s: float) -> np.ndarray:
    """Slice time of every voxel, shape (X, Y, Z) [s]."""
    times = np.asarray(0.0 if slice_times_s is None else slice_times_s, float)
    check_slice_times(times, repetition_time_s)
    try:
        return np.broadcast_to(times, mask.shape)
    except ValueError:
        raise ValueError(
            f"slice_times_s has shape {times.shape}; expected one that broadcasts to {mask.shape}"
        ) from None


def _unmixed(own: np.ndarray, brain: Brain) -> tuple[np.ndarray, float]:
    """Curves without the tissue in their voxels, and the share of artery; too little is left."""
    tissue = tissue_curve(brain.curves, brain.features)
    curve, times = own.mean(axis=0), (brain.repetition_time_s, brain.arrival)
    share = arterial_share(first_pass_ratio(curve, tissue, *times))
    return (without_tissue(own, tissue, share) if share >= MIN_SHARE else own), share


def _purity(own: np.ndarray, brain: Brain, share: float) -> dict[str, float]:
    """Share of artery; partial-volume factor of `own`'s mean, from vein and purest curves."""
    told = {"arterial_share": share, "partial_volume": 1.0, "partial_volume_known": 0.0}
    if share < 1:
        return told | {"vein_voxels": 0.0}
    vein = find_vein(
        brain.curves, own.mean(axis=0), brain.repetition_time_s, brain.arrival, brain.taken_s
    )
    areas = np.sort(own[:, brain.arrival :].sum(axis=1))
    venous = float(brain.features["area"][vein].mean()) if len(vein) else 0.0
    factor, believable = partial_volume_factor(float(areas.mean()), (venous, areas[-2:].mean()))
    told |= {"partial_volume": factor, "partial_volume_known": float(believable)}
    return told | {"vein_voxels": float(len(vein))}
