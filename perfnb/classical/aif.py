"""The arterial input function: found in the film, with a verdict that can say "none".

Arteries show the bolus early, tall, narrow and smooth, and never alone: a voxel is a candidate only
beside others like it. Veins are tall but late; tissue is low and wide; noise is rough. Of the
candidates the earliest and purest are taken: those with the largest area under the curve.
The criteria follow Mouridsen et al. 2006 (Magn Reson Med 55:524).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from perfnb.classical.aif_features import correlations, curve_features, delays, tissue_features
from perfnb.classical.aif_given import checked_curve, checked_mask, checked_motion
from perfnb.classical.aif_verdict import (
    MAX_LEAD_S,
    MAX_MISFIT,
    MAX_ROUGHNESS,
    MIN_VOXELS,
    TISSUE_DELAY_S,
    measure,
    reasons_against,
    tissue_curve,
    tissue_misfit,
)
from perfnb.classical.partial_volume import find_vein, partial_volume_factor
from perfnb.classical.signal import (
    check_repetition_time,
    check_signal,
    check_slice_times,
    correct_slice_times,
)

N_VOXELS = 4  # voxels averaged for the AIF: the fewer, the purer
N_CANDIDATES = 30
LEAD_SCALE_S = 2.0  # a peak this much earlier is worth a factor e
LATE_SCALE_S = 0.7  # a delay after the earliest candidates costs a factor e
MISFIT_SCALE = 0.01  # of the tissue curve left unexplained costs a factor e
SIDES = ("left", "right", "healthier")
LATERAL = 0.35  # of the brain's half width: M2 lies beyond, carotid, M1 and ACA do not


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
        by it only with ``rescale_by_vein``), partial_volume_known (0 or 1), vein_voxels, motion_mm
        (at the peak, where `motion` tells it).
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
    brain = _Brain.read(delta_r2star, mask, taken_s, repetition_time_s, arrival)
    chosen = np.zeros(mask.shape, bool)
    if aif_mask is not None:
        chosen = checked_mask(aif_mask, mask.shape)
    elif aif_curve is None:
        chosen[mask] = _choose(brain, _lateral(brain, side))
    if aif_curve is not None:
        own = checked_curve(aif_curve, n_frames, "aif_curve")[None]
    else:
        own = correct_slice_times(delta_r2star[chosen], taken_s[chosen], repetition_time_s)
    if not len(own):
        reason = "no voxel is early, tall, narrow and smooth beside others like it"
        return AIF(np.zeros(n_frames, np.float32), chosen, False, (reason,), {})
    measures = measure(own, brain.curves, brain.features, repetition_time_s, arrival, motion)
    measures |= _purity(own, brain)
    reasons = reasons_against(measures, alone=aif_curve is not None)
    curve = own.mean(axis=0) * (measures["partial_volume"] if rescale_by_vein else 1.0)
    given = aif_mask is not None or aif_curve is not None
    ok = bool(curve[arrival:].sum() > 0) if given else not reasons
    return AIF(curve.astype(np.float32), chosen, ok, reasons, measures)


@dataclass(frozen=True)
class _Brain:
    """Curves (N, T) of the mask's voxels, their features and slice times [s]."""

    curves: np.ndarray
    features: dict[str, np.ndarray]
    taken_s: np.ndarray
    mask: np.ndarray
    repetition_time_s: float
    arrival: int

    @classmethod
    def read(cls, delta_r2star, mask, taken_s, repetition_time_s, arrival) -> _Brain:
        curves, taken_s = delta_r2star[mask], taken_s[mask]
        features = curve_features(curves, repetition_time_s, arrival, taken_s)
        return cls(curves, features, taken_s, mask, repetition_time_s, arrival)


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


def _lateral(brain: _Brain, side: str | None) -> np.ndarray:
    """Voxels (of the mask) in which to look: all, or the lateral part of one side, shape (N,)."""
    x = np.nonzero(brain.mask)[0].astype(float)
    if side is None:
        return np.ones(len(x), bool)
    low, high = np.quantile(x, [0.005, 0.995])
    place = (x - 0.5 * (low + high)) / max(0.5 * (high - low), 1.0)
    if side == "healthier":
        left, right = (_median(brain.features["peak_s"][half]) for half in (place < 0, place > 0))
        side = "left" if left <= right else "right"
    return place < -LATERAL if side == "left" else place > LATERAL


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else np.inf


def _choose(brain: _Brain, allowed: np.ndarray) -> np.ndarray:
    """Voxels (of the mask) that make up the AIF."""
    candidates = _candidates(brain, allowed)
    chosen = np.zeros(len(brain.curves), bool)
    if len(candidates) < MIN_VOXELS:
        return chosen
    taken_s, repetition_time_s = brain.taken_s[candidates], brain.repetition_time_s
    aligned = correct_slice_times(brain.curves[candidates], taken_s, repetition_time_s)
    tissue = tissue_curve(brain.curves, brain.features)
    misfit, delay_s = tissue_misfit(aligned, tissue, repetition_time_s, brain.arrival)
    fits = (
        (misfit < 2 * MAX_MISFIT) & (delay_s >= TISSUE_DELAY_S[0]) & (delay_s <= TISSUE_DELAY_S[1])
    )
    fits = np.flatnonzero(fits)[:N_CANDIDATES]
    worth = brain.features["area"][candidates] * np.exp(-misfit / MISFIT_SCALE)
    chosen[candidates[fits[_purest(aligned[fits], worth[fits], repetition_time_s)]]] = True
    return chosen


def _candidates(brain: _Brain, allowed: np.ndarray) -> np.ndarray:
    """Indices of early, tall, narrow and smooth voxels beside others like them, best first."""
    features, tissue = brain.features, tissue_features(brain.features)
    lead_s = tissue["peak_s"] - features["peak_s"]
    like = (
        allowed
        & (features["height"] > 1.3 * tissue["height"])
        & (features["height"] > 8 * features["noise"])
        & (lead_s > 0)
        & (lead_s <= MAX_LEAD_S)
        & (features["width_s"] <= 1.1 * tissue["width_s"])
        & (features["roughness"] < MAX_ROUGHNESS)
    )
    volume = np.zeros(brain.mask.shape)
    volume[brain.mask] = like
    near = ndimage.uniform_filter(volume, size=3, mode="constant")[brain.mask] * 27
    found = np.flatnonzero(like & (near > 1.5))
    width_s = features["width_s"][found].clip(1e-3)
    score = features["height"][found] * np.exp(lead_s[found] / LEAD_SCALE_S) / width_s**2
    return found[np.argsort(-score)][: 4 * N_CANDIDATES]


def _purest(aligned: np.ndarray, worth: np.ndarray, repetition_time_s: float) -> np.ndarray:
    """Indices of the earliest and worthiest of curves (N, T) that come best first."""
    if len(aligned) < MIN_VOXELS:
        return np.zeros(0, int)
    leader = np.median(aligned[:6], axis=0)
    alike = np.flatnonzero(correlations(aligned, leader) > 0.9)
    if len(alike) < MIN_VOXELS:
        return alike[:0]
    late_s = delays(aligned[alike], leader, repetition_time_s)
    late_s = np.clip(late_s - np.sort(late_s)[2], 0, None)
    worth = worth[alike] * np.exp(-late_s / LATE_SCALE_S)
    order = np.argsort(-worth)[:N_VOXELS]
    pure = worth[order] >= 0.8 * worth[order[:MIN_VOXELS]].mean()
    pure[:MIN_VOXELS] = True
    return alike[order[pure]]


def _purity(own: np.ndarray, brain: _Brain) -> dict[str, float]:
    """Partial-volume factor of the mean of `own`, from the vein and its purest curves."""
    vein = find_vein(
        brain.curves, own.mean(axis=0), brain.repetition_time_s, brain.arrival, brain.taken_s
    )
    areas = np.sort(own[:, brain.arrival :].sum(axis=1))
    venous = float(brain.features["area"][vein].mean()) if len(vein) else 0.0
    factor, believable = partial_volume_factor(float(areas.mean()), (venous, areas[-2:].mean()))
    return {
        "partial_volume": factor,
        "partial_volume_known": float(believable),
        "vein_voxels": float(len(vein)),
    }
