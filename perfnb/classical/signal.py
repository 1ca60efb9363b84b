"""From the DSC signal to the change of the transverse relaxation rate.

The contrast agent darkens the T2*-weighted signal while it passes: S = S0 exp(-TE dR2*).
The baseline S0 is the mean of the frames before the bolus, found here automatically.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_FRAMES = 10
MIN_BASELINE_FRAMES = 3
MIN_BOLUS_DROP = 0.02  # smallest believable drop of the brain's mean signal, fraction of S0
STEADY_STATE_EXCESS = 0.01  # a first frame this far above the baseline is not in steady state
DARK = 0.3  # of the median: a voxel below is background or air
SIGNAL_FLOOR = 0.01  # S/S0 below one hundredth is noise, not contrast agent


@dataclass(frozen=True)
class Baseline:
    """Frames ``[first, last)`` before the bolus, and where the bolus is.

    Attributes
    ----------
    first, last : int
        The baseline frames; frames before `first` are above steady state.
    arrival : int
        First frame in which contrast agent is seen anywhere in the brain; not before `last`.
    peak : int
        Frame of the lowest mean signal of the brain.
    """

    first: int
    last: int
    arrival: int
    peak: int

    @property
    def frames(self) -> slice:
        """The baseline as an index into the time axis."""
        return slice(self.first, self.last)


def check_echo_time(echo_time_s: float) -> float:
    """Return the echo time [s], or raise ValueError if it cannot be one."""
    if not 0.001 <= echo_time_s <= 0.2:
        raise ValueError(
            f"echo_time_s={echo_time_s} is no echo time in seconds (expected 0.001 to 0.2); "
            "give 0.030 for 30 ms"
        )
    return float(echo_time_s)


def check_repetition_time(repetition_time_s: float) -> float:
    """Return the repetition time [s], or raise ValueError if it cannot be one."""
    if not 0.1 <= repetition_time_s <= 10:
        raise ValueError(
            f"repetition_time_s={repetition_time_s} is no repetition time in seconds "
            "(expected 0.1 to 10); give 1.5 for 1500 ms"
        )
    return float(repetition_time_s)


def check_signal(signal: np.ndarray, mask: np.ndarray) -> None:
    """Raise ValueError unless `signal` (..., T) and `mask` (...) belong together.

    Raises
    ------
    ValueError
        Fewer than 10 time points, a mask of another shape, or an empty mask.
    """
    if signal.ndim < 2 or signal.shape[-1] < MIN_FRAMES:
        raise ValueError(
            f"series has shape {signal.shape}; expected time as the last axis "
            f"with at least {MIN_FRAMES} time points"
        )
    if mask.shape != signal.shape[:-1]:
        raise ValueError(
            f"mask has shape {mask.shape}, the series' volumes {signal.shape[:-1]}; "
            "give a mask on the series' grid"
        )
    if not np.any(mask):
        raise ValueError("mask is empty; give a mask that covers the brain")


def find_baseline(signal: np.ndarray, mask: np.ndarray) -> Baseline:
    """Find the frames before the bolus, and drop those above steady state.

    The brain's mean curve says where the bolus is.
    Arteries fill earlier than the brain on average, so the window then ends
    where the brain's earliest voxels leave their own baseline.
    One more frame is kept clear of the bolus where the baseline is long enough.

    Parameters
    ----------
    signal : float array, shape (..., T)
        DSC signal, arbitrary units.
    mask : bool array, shape (...)
        Brain.

    Returns
    -------
    Baseline

    Raises
    ------
    ValueError
        No bolus in the series, or fewer than 3 frames before it.
    """
    mask = np.asarray(mask, bool)
    check_signal(signal, mask)
    voxels = signal[mask]
    voxels = voxels[np.isfinite(voxels).all(axis=-1) & (voxels.mean(axis=-1) > 0)]
    if not len(voxels):
        raise ValueError(
            "series has no voxel in the mask whose signal is finite and above zero on average; "
            "expected a brain: check the mask, and that the series holds magnitudes"
        )
    drop, noise, peak = _mean_drop(voxels.mean(axis=0, dtype=float))
    threshold = max(0.05 * drop[peak], 4 * noise)
    quiet = np.flatnonzero(drop[:peak] < threshold)
    arrival = int(quiet[-1]) + 1 if len(quiet) else 0
    arrival = _earliest_arrival(voxels, arrival, peak)
    first = _first_steady_frame(drop, arrival)
    if arrival - first < MIN_BASELINE_FRAMES:
        raise ValueError(
            f"bolus arrives at frame {arrival} and steady state begins at frame {first}; expected "
            f"at least {MIN_BASELINE_FRAMES} baseline frames: the series starts too late"
        )
    last = max(arrival - 1, first + MIN_BASELINE_FRAMES)
    return Baseline(first, last, arrival, peak)


def _mean_drop(curve: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Drop of the mean curve (T,) as a fraction, its noise, and the frame of the peak."""
    smooth = np.convolve(np.pad(curve, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    peak = int(smooth[2:].argmin()) + 2
    before = curve[1 : max(peak // 2, 3)] if peak > 3 else curve[:2]
    level = np.median(before)
    drop = 1 - curve / level
    steps = np.diff(curve) / level
    noise = float(1.4826 * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2))
    after = smooth[peak:].max() - smooth[peak]
    if drop[peak] < max(MIN_BOLUS_DROP, 4 * noise) or after < 0.2 * drop[peak] * level:
        raise ValueError(
            f"series shows no bolus: the brain's mean signal falls by {max(drop[peak], 0):.1%} and "
            f"rises again by {after / level:.1%}; expected a fall of at least "
            f"{MIN_BOLUS_DROP:.0%} and a recovery: check that this is a DSC series and that the "
            "mask covers the brain"
        )
    return drop, noise, peak


def _earliest_arrival(voxels: np.ndarray, arrival: int, peak: int, lead: int = 6) -> int:
    """Frame in which the earliest voxels leave baseline, at most `lead` frames before `arrival`.

    The earliest are those few that have darkened most when the brain as a whole begins to. Dark
    voxels have no say: background that a mask takes in jumps about more than any artery darkens.
    """
    start = max(arrival - lead, MIN_BASELINE_FRAMES)
    if start >= arrival:
        return arrival
    level = np.maximum(voxels[:, min(2, start - 1) : start].mean(axis=-1, keepdims=True), 1e-6)
    bright = level[:, 0] > DARK * np.median(level)
    voxels, level = voxels[bright], level[bright]
    drop = 1 - voxels[:, : peak + 1] / level
    count = max(10, len(voxels) // 1000)
    early = drop[np.argsort(drop[:, arrival - 1 : arrival + 1].mean(axis=-1))[-count:]].mean(axis=0)
    later = np.flatnonzero(early[start : arrival + 1] > 0.1 * early.max())
    return start + int(later[0]) if len(later) else arrival


def _first_steady_frame(drop: np.ndarray, arrival: int) -> int:
    """First frame that is not brighter than the later baseline frames."""
    level = np.median(drop[arrival // 2 : arrival]) if arrival > 1 else 0.0
    steady = np.flatnonzero(drop[:arrival] > level - STEADY_STATE_EXCESS)
    return int(steady[0]) if len(steady) else arrival


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
    median, or at or below zero in more than a tenth of the frames.

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
    return usable
