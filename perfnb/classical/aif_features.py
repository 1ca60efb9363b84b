"""What tells the curves of arteries from those of veins, tissue and noise."""

from __future__ import annotations

import numpy as np

from perfnb.classical.deconvolution import smooth_in_time, time_to_peak


def curve_features(
    curves: np.ndarray,
    repetition_time_s: float,
    arrival: int,
    taken_s: np.ndarray | float = 0.0,
) -> dict[str, np.ndarray]:
    """Measure what tells arteries from the rest.

    Parameters
    ----------
    curves : float array, shape (N, T)
        Delta R2* [1/s].
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        First frame of the bolus.
    taken_s : float array, shape (N,), or float
        When each curve's slice was taken, after the start of the frame [s].

    Returns
    -------
    dict of float arrays, shape (N,)
        height and noise [1/s], peak_s, width_s (full width at half maximum), roughness (path of
        the curve over twice its height: 1 for one smooth bolus), area (sum over the frames from
        the arrival on, 1/s).
    """
    smooth = smooth_in_time(curves)
    height = np.maximum(smooth[:, arrival:].max(axis=1), 1e-6)
    path = np.abs(np.diff(curves[:, max(arrival - 1, 0) :], axis=1)).sum(axis=1)
    above = smooth[:, arrival:] > 0.5 * height[:, None]
    return {
        "height": height,
        "noise": curves[:, 1 : max(arrival, 3)].std(axis=1),
        "peak_s": time_to_peak(curves, repetition_time_s, arrival) + taken_s,
        "width_s": above.sum(axis=1) * repetition_time_s,
        "roughness": path / (2 * height),
        "area": curves[:, arrival:].sum(axis=1),
    }


def tissue_features(features: dict[str, np.ndarray]) -> dict[str, float]:
    """Median features of the voxels that show a bolus above noise: the tissue."""
    seen = features["height"] > 3 * features["noise"]
    seen = seen if seen.sum() >= 10 else np.ones_like(seen)
    return {name: float(np.median(values[seen])) for name, values in features.items()}


def arrival_time(curve: np.ndarray, repetition_time_s: float, share: float = 0.2) -> float:
    """Time at which a curve (T,) last rises through a share of its peak before that peak [s].

    Interpolated between frames; 0 where it never lies below.
    """
    peak = int(np.argmax(curve))
    level = share * curve[peak]
    below = np.flatnonzero(curve[:peak] < level)
    if not len(below):
        return 0.0
    last = int(below[-1])
    return (last + (level - curve[last]) / (curve[last + 1] - curve[last])) * repetition_time_s


def delays(curves: np.ndarray, leader: np.ndarray, repetition_time_s: float) -> np.ndarray:
    """Delay of curves (N, T) after a leader (T,), to first order [s], shape (N,).

    Each curve is a scaled leader minus the delay times the leader's slope, by least squares.
    """
    slope = np.gradient(leader, repetition_time_s)
    basis = np.stack([leader, slope, np.ones_like(leader)], axis=1)
    scale, shift, _ = np.linalg.lstsq(basis, curves.T, rcond=None)[0]
    return -shift / np.where(np.abs(scale) > 1e-6, scale, np.inf)


def correlations(curves: np.ndarray, leader: np.ndarray) -> np.ndarray:
    """Pearson correlation of curves (N, T) with a leader (T,), 0 for constants, shape (N,)."""
    centred = curves - curves.mean(axis=1, keepdims=True)
    other = leader - leader.mean()
    size = np.sqrt((centred**2).sum(axis=1) * (other**2).sum())
    return np.divide(centred @ other, size, out=np.zeros(len(curves)), where=size > 0)
