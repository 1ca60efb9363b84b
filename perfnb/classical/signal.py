"""From the DSC signal to the change of the transverse relaxation rate.

The contrast agent darkens the T2*-weighted signal while it passes: S = S0 exp(-TE dR2*).
The baseline S0 is the mean of the frames before the bolus, found automatically (`baseline`).
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from perfnb.classical.baseline import (  # noqa: F401 (offered here too)
    MIN_BASELINE_FRAMES,
    MIN_FRAMES,
    Baseline,
    check_signal,
    find_baseline,
)
from perfnb.times import check_echo_time, check_repetition_time

SIGNAL_FLOOR = 0.01  # S/S0 below one hundredth is noise, not contrast agent
NOISE_FLOOR = 2.0  # standard deviations of the noise; a darker signal says nothing


def delta_r2star(signal: np.ndarray, echo_time_s: float, baseline: Baseline) -> np.ndarray:
    """Change of transverse relaxation rate during the bolus passage, finite everywhere.

    S/S0 is held between 1/100 and 100; a voxel or frame without a usable value gives 0, and so
    do the frames before steady state, whose brightness has nothing to do with contrast agent.
    `usable_voxels` tells which voxels are worth looking at.

    Parameters
    ----------
    signal : float array, shape (..., T)
        DSC signal, arbitrary units; time is the last axis.
    echo_time_s : float
        Echo time [s].
    baseline : Baseline
        Frames whose mean is S0.

    Returns
    -------
    float array, shape (..., T)
        Delta R2* [1/s] = -ln(S/S0)/TE; close to zero on average over the baseline.
    """
    echo_time_s = check_echo_time(echo_time_s)
    if not 0 <= baseline.first < baseline.last <= signal.shape[-1]:
        raise ValueError(f"{baseline} does not fit {signal.shape[-1]} time points")
    signal = np.asarray(signal, np.result_type(signal, np.float32))
    with np.errstate(divide="ignore", invalid="ignore"):
        s0 = signal[..., baseline.frames].mean(axis=-1, keepdims=True)
        ratio = np.where((s0 > 0) & np.isfinite(s0), signal / s0, 1.0).astype(signal.dtype)
    np.nan_to_num(ratio, copy=False, nan=1.0, posinf=1.0, neginf=1.0)
    np.clip(ratio, SIGNAL_FLOOR, 1 / SIGNAL_FLOOR, out=ratio)
    np.log(ratio, out=ratio)
    ratio /= -echo_time_s
    ratio[..., : baseline.first] = 0
    return ratio


def usable_voxels(signal: np.ndarray, mask: np.ndarray, baseline: Baseline) -> np.ndarray:
    """Voxels of the mask whose curve can be trusted.

    Left out: voxels that are not finite, constant, darker at baseline than 5 % of the brain's
    median, at or below zero in more than a tenth of the frames, or saturated: arteries whose
    signal sinks into the noise lose the top of their curve (`saturated_voxels`).

    Parameters
    ----------
    signal : float array, shape (..., T)
        DSC signal, arbitrary units.
    mask : bool array, shape (...)
        Brain.
    baseline : Baseline
        Frames whose mean is S0.

    Returns
    -------
    bool array, shape (...)
    """
    mask = np.asarray(mask, bool)
    check_signal(signal, mask)
    voxels = signal[mask]
    finite = np.isfinite(voxels).all(axis=-1)
    voxels = np.where(finite[:, None], voxels, 0)
    s0 = voxels[:, baseline.frames].mean(axis=-1)
    typical = np.median(s0[s0 > 0]) if np.any(s0 > 0) else np.inf
    good = finite & (s0 > 0.05 * typical) & (np.ptp(voxels, axis=-1) > 0)
    good &= (voxels <= 0).mean(axis=-1) <= 0.1
    usable = np.zeros(mask.shape, bool)
    usable[mask] = good
    return usable & ~saturated_voxels(signal, mask, baseline)


def saturated_voxels(signal: np.ndarray, mask: np.ndarray, baseline: Baseline) -> np.ndarray:
    """Voxels of the mask whose signal reaches the noise floor during the bolus.

    Magnitudes of pure noise have a mean of 1.25 standard deviations (Gudbjartsson and Patz 1995,
    Magn Reson Med 34:910), so that below about 2 a curve flattens off, whatever the concentration.
    The noise is the brain's median scatter before the bolus.

    Parameters
    ----------
    signal : float array, shape (..., T)
        DSC signal, arbitrary units.
    mask : bool array, shape (...)
        Brain.
    baseline : Baseline
        Frames before the bolus.

    Returns
    -------
    bool array, shape (...)
        Bright voxels whose two darkest neighbouring frames lie below the noise floor.
    """
    mask = np.asarray(mask, bool)
    check_signal(signal, mask)
    voxels = np.nan_to_num(signal[mask], nan=0.0, posinf=0.0, neginf=0.0)
    before = voxels[:, baseline.frames]
    noise = float(np.median(np.abs(np.diff(before, axis=1)))) / 0.6745 / np.sqrt(2)
    passage = voxels[:, baseline.last :]
    darkest = (0.5 * (passage[:, 1:] + passage[:, :-1])).min(axis=1)
    s0 = before.mean(axis=1)
    floor = np.maximum(NOISE_FLOOR * noise, SIGNAL_FLOOR * s0)
    saturated = np.zeros(mask.shape, bool)
    saturated[mask] = (darkest < floor) & (s0 > 4 * floor)
    return saturated


def check_slice_times(taken_s: np.ndarray, repetition_time_s: float) -> None:
    """Raise ValueError unless slice times [s] lie between 0 and the repetition time [s]."""
    if not ((taken_s >= 0) & (taken_s <= repetition_time_s)).all():
        raise ValueError(
            f"slice times lie between {taken_s.min()} and {taken_s.max()}; expected seconds from 0 "
            f"to the repetition time {repetition_time_s}: in milliseconds? divide by 1000"
        )


def correct_slice_times(
    curves: np.ndarray, taken_s: np.ndarray, repetition_time_s: float
) -> np.ndarray:
    """Curves as if every slice had been taken when its frame began.

    A slice taken late shows what is already later; cubic splines read each curve between its own
    times. The first frame holds before the first measurement.

    Parameters
    ----------
    curves : float array, shape (N, T)
        Signal or delta R2*.
    taken_s : float array, shape (N,)
        When each curve's slice was taken, after the start of the frame [s].
    repetition_time_s : float
        Repetition time [s].

    Returns
    -------
    float array, shape (N, T)

    Raises
    ------
    ValueError
        A time is not between 0 and the repetition time, or there is not one for each curve.
    """
    repetition_time_s = check_repetition_time(repetition_time_s)
    taken_s = np.asarray(taken_s, float)
    if taken_s.shape != curves.shape[:1]:
        raise ValueError(f"{taken_s.size} slice times for {len(curves)} curves; expected one each")
    check_slice_times(taken_s, repetition_time_s)
    start = np.arange(curves.shape[1]) * repetition_time_s
    moved = np.empty(curves.shape, np.result_type(curves, np.float32))
    for late in np.unique(taken_s):
        rows = taken_s == late
        spline = CubicSpline(start + late, curves[rows], axis=1)
        moved[rows] = spline(np.maximum(start, late))
    return moved
