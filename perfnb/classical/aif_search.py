"""Where in the brain the arterial input is read.

Arteries show the bolus early, tall, narrow and smooth, and never alone: a voxel is a candidate only
beside others like it. Veins are tall but late; tissue is low and wide; noise is rough. Of the
candidates the earliest and purest are taken: those with the largest area under the curve.
The criteria follow Mouridsen et al. 2006 (Magn Reson Med 55:524).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from perfnb.classical.aif_features import correlations, curve_features, delays, tissue_features
from perfnb.classical.aif_verdict import (
    MAX_LEAD_S,
    MAX_MISFIT,
    MAX_ROUGHNESS,
    MIN_VOXELS,
    TISSUE_DELAY_S,
    tissue_curve,
    tissue_misfit,
)
from perfnb.classical.signal import correct_slice_times

N_VOXELS = 4  # voxels averaged for the AIF: the fewer, the purer
N_CANDIDATES = 30
LEAD_SCALE_S = 2.0  # a peak this much earlier is worth a factor e
LATE_SCALE_S = 0.7  # a delay after the earliest candidates costs a factor e
MISFIT_SCALE = 0.01  # of the tissue curve left unexplained costs a factor e
SIDES = ("left", "right", "healthier")
LATERAL = 0.35  # of the brain's half width: M2 lies beyond, carotid, M1 and ACA do not


@dataclass(frozen=True)
class Brain:
    """Curves (N, T) of the mask's voxels, their features and slice times [s]."""

    curves: np.ndarray
    features: dict[str, np.ndarray]
    taken_s: np.ndarray
    mask: np.ndarray
    repetition_time_s: float
    arrival: int

    @classmethod
    def read(cls, delta_r2star, mask, taken_s, repetition_time_s, arrival) -> Brain:
        """Read the mask's voxels of volumes (X, Y, Z, T) and (X, Y, Z)."""
        curves, taken_s = delta_r2star[mask], taken_s[mask]
        features = curve_features(curves, repetition_time_s, arrival, taken_s)
        return cls(curves, features, taken_s, mask, repetition_time_s, arrival)


def choose(brain: Brain, side: str | None = None) -> np.ndarray:
    """Choose the voxels that make up the arterial input.

    Parameters
    ----------
    brain : Brain
        The voxels among which to choose.
    side : str, optional
        Name in SIDES; the whole brain if not given.

    Returns
    -------
    bool array, shape (N,)
        Of the mask's voxels; none where fewer than MIN_VOXELS can be an artery's.
    """
    candidates = _candidates(brain, _lateral(brain, side))
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


def _lateral(brain: Brain, side: str | None) -> np.ndarray:
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


def _candidates(brain: Brain, allowed: np.ndarray) -> np.ndarray:
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
