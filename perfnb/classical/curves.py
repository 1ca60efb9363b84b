"""Curves in time: their peaks below frame precision, and the constants that scale them."""

from __future__ import annotations

import numpy as np

DENSITY = 1.04  # brain tissue [g/ml]
KAPPA_H = 0.73  # (1 - haematocrit of arteries) / (1 - haematocrit of capillaries)
PER_100_G = 100 * KAPPA_H / DENSITY  # ml per ml of tissue -> ml per 100 g
EARLIEST_LAG_S = -6.0  # tissue may fill before the voxels of the AIF do
LATEST_LAG_S = 25.0  # later maxima of the residue are its noisy tail
MIN_FRAMES = 10


def interpolated_maximum(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and height of each curve's maximum, by a parabola through three points.

    Parameters
    ----------
    curves : float array, shape (N, K)
        At least three points each.

    Returns
    -------
    index, height : float arrays, shape (N,)
        The index is fractional; a maximum at either end is not interpolated.
    """
    rows = np.arange(len(curves))
    top = curves.argmax(axis=1)
    inside = np.clip(top, 1, curves.shape[1] - 2)
    left, middle, right = (curves[rows, inside + step].astype(float) for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.divide(left - right, 2 * bend, out=np.zeros_like(bend), where=bend < 0)
    shift = np.where(inside == top, np.clip(shift, -0.5, 0.5), 0)
    height = middle - 0.25 * (left - right) * shift
    return top + shift, np.where(inside == top, height, curves[rows, top])


def smooth_in_time(curves: np.ndarray) -> np.ndarray:
    """Curves (N, T) averaged over neighbouring frames with weights 1, 2, 1, ends held."""
    padded = np.concatenate([curves[:, :1], curves, curves[:, -1:]], axis=1)
    return 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]


def time_to_peak(curves: np.ndarray, repetition_time_s: float, arrival: int = 0) -> np.ndarray:
    """Time of each curve's peak, counted from the first frame of the series.

    Parameters
    ----------
    curves : float array, shape (N, T)
        Delta R2* [1/s]; smoothed here over time by weights 1, 2, 1.
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        The peak is sought from this frame on.

    Returns
    -------
    float array, shape (N,)
        Time [s], interpolated between frames.
    """
    index, _ = interpolated_maximum(smooth_in_time(curves)[:, arrival:])
    return (index + arrival) * repetition_time_s


def check_curves(tissue: np.ndarray, aif: np.ndarray, arrival: int) -> None:
    """Raise ValueError unless tissue curves (N, T) can be deconvolved with an AIF (T,).

    Raises
    ------
    ValueError
        Shapes that do not fit; an AIF that is not finite, constant, below zero or peaks in the
        first frame; a frame without any finite value; an arrival outside the series.
    """
    if tissue.ndim != 2 or aif.ndim != 1 or not len(tissue):
        raise ValueError(
            f"tissue has shape {tissue.shape} and aif {aif.shape}; expected (N, T) and (T,)"
        )
    n_frames = tissue.shape[1]
    if len(aif) != n_frames:
        raise ValueError(
            f"aif has {len(aif)} frames and tissue {n_frames}; give both over the same frames"
        )
    if n_frames < MIN_FRAMES or not 0 <= arrival < n_frames - 6:
        raise ValueError(
            f"{n_frames} frames with the bolus arriving in frame {arrival}; expected at least "
            f"{MIN_FRAMES} frames, and 7 of them from the arrival on"
        )
    _check_aif(aif)
    lost = np.flatnonzero(~np.isfinite(tissue[:, :]).any(axis=0))
    if len(lost):
        raise ValueError(
            f"frame {lost[0]} of tissue has no finite value in any voxel; "
            "repair or leave out such frames before deconvolution"
        )


def _check_aif(aif: np.ndarray) -> None:
    if not np.isfinite(aif).all():
        frame = np.flatnonzero(~np.isfinite(aif))[0]
        raise ValueError(f"aif is not finite in frame {frame}; expected delta R2* in every frame")
    if np.ptp(aif) == 0:
        raise ValueError(f"aif is constant ({aif[0]:g}); expected a bolus above zero")
    if aif.sum() <= 0 or -aif.min() > aif.max():
        raise ValueError(
            f"aif has no area above zero (from {aif.min():g} to {aif.max():g}); expected the "
            "delta R2* of an artery: give -ln(S / S0) / TE, not the signal"
        )
    if aif.argmax() == 0:
        raise ValueError(
            "aif peaks in the first frame; expected frames before the bolus: the series starts "
            "too late, or aif is a signal instead of delta R2*"
        )
