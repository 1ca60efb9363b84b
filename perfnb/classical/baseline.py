"""Where the bolus is in a film: the frames before it, its arrival and its peak.

The brain's mean curve says roughly when; its earliest voxels say exactly. Both must hold in a film
that moves, in which the voxels at the brain's edge jump about more than any artery darkens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_FRAMES = 10
MIN_BASELINE_FRAMES = 3
MIN_BOLUS_DROP = 0.02  # smallest believable drop of the brain's mean signal, fraction of S0
STEADY_STATE_EXCESS = 0.01  # a first frame this far above the baseline is not in steady state
DARK = 0.3  # of the median: a voxel below is background or air
MAX_LEAD = 4  # frames by which arteries darken before the brain as a whole
SECOND_BOLUS = 0.6  # of the first one's drop: more than any recirculation brings back


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
        No bolus in the series or two, fewer than 3 frames before it, or frames without a number.
    """
    mask = np.asarray(mask, bool)
    check_signal(signal, mask)
    voxels = _readable(signal[mask])
    drop, noise, peak = _mean_drop(_typical_curve(voxels))
    _check_one_bolus(drop, peak)
    arrival = _mean_arrival(drop, noise, peak)
    arrival = _earliest_arrival(voxels, arrival, peak)
    first = _first_steady_frame(drop, arrival)
    if arrival - first < MIN_BASELINE_FRAMES:
        raise ValueError(
            f"bolus arrives at frame {arrival} and steady state begins at frame {first}; expected "
            f"at least {MIN_BASELINE_FRAMES} baseline frames: the series starts too late"
        )
    last = max(arrival - 1, first + MIN_BASELINE_FRAMES)
    return Baseline(first, last, arrival, peak)


def _readable(voxels: np.ndarray) -> np.ndarray:
    """Curves (N, T) that are finite and above zero on average."""
    finite = np.isfinite(voxels)
    lost = np.flatnonzero(~finite.any(axis=0))
    if 0 < len(lost) < voxels.shape[1]:
        raise ValueError(
            f"frames {', '.join(map(str, lost[:8]))} hold no number in the whole brain; expected a "
            "signal in every frame: cut them off, or export the film again"
        )
    readable = voxels[finite.all(axis=-1) & (np.where(finite, voxels, 0).mean(axis=-1) > 0)]
    if not len(readable):
        raise ValueError(
            "series has no voxel in the mask whose signal is finite and above zero on average; "
            "expected a brain: check the mask, and that the series holds magnitudes"
        )
    return readable


def _typical_curve(voxels: np.ndarray) -> np.ndarray:
    """Median over voxels (N, T) of the signal relative to each voxel's first frames, (T,).

    A mean would follow the brain's edge, which a moving head carries in and out of the mask.
    """
    mean = voxels.mean(axis=0, dtype=float)
    early = slice(1, max(int(mean[2:].argmin() + 2) // 2, 4))
    level = np.median(voxels[:, early], axis=1, keepdims=True)
    bright = level[:, 0] > DARK * np.median(level)
    if not np.any(bright & (level[:, 0] > 0)):
        return mean
    bright &= level[:, 0] > 0
    return np.median((voxels[bright] / level[bright]).T, axis=1).astype(float)


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


def _check_one_bolus(drop: np.ndarray, peak: int) -> None:
    """Raise ValueError where a second drop almost as deep stands apart from the deepest."""
    smooth = np.convolve(np.pad(drop, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    for side in (np.arange(peak, len(drop)), np.arange(peak, 0, -1)):
        lowest = np.minimum.accumulate(smooth[side])
        again = (smooth[side] > SECOND_BOLUS * smooth[peak]) & (lowest < 0.4 * smooth[peak])
        if again.any():
            other = int(side[np.argmax(np.where(again, smooth[side], -np.inf))])
            raise ValueError(
                f"series shows two boluses, at frames {min(peak, other)} and {max(peak, other)}; "
                "expected one: cut the film, or take the other injection out"
            )


def _mean_arrival(drop: np.ndarray, noise: float, peak: int) -> int:
    """Frame in which the mean curve leaves the baseline.

    Not much before its rise begins in earnest: what a moving head changes is no bolus.
    """
    quiet, rising, half = (
        np.flatnonzero(drop[:peak] < max(share * drop[peak], 4 * noise))
        for share in (0.05, 0.2, 0.5)
    )
    if not len(quiet):
        return 0
    rise = int(half[-1]) - int(rising[-1])
    return max(int(quiet[-1]), int(rising[-1]) - 2 * rise - 1) + 1


def _earliest_arrival(voxels: np.ndarray, arrival: int, peak: int) -> int:
    """Frame in which the earliest voxels leave baseline, at most `MAX_LEAD` before `arrival`.

    The earliest are those few that are darkest when the brain as a whole begins to darken, and
    bright again afterwards; a voxel that motion darkens stays dark. Dark voxels have no say.
    """
    start = max(arrival - MAX_LEAD, MIN_BASELINE_FRAMES)
    if start >= arrival:
        return arrival
    before, n_frames = slice(min(2, start - 1), start), voxels.shape[1]
    level = np.median(voxels[:, before], axis=1)
    bright = level > DARK * np.median(level)
    voxels, level = voxels[bright], level[bright, None]
    late = min(peak + 2 * (peak - arrival) + 1, n_frames - 4)
    drop = level - voxels[:, arrival : arrival + 2].mean(axis=1, keepdims=True)
    back = drop + np.median(voxels[:, late:], axis=1, keepdims=True) - level
    noise = voxels[:, before].std(axis=1, keepdims=True)
    depth = ((np.minimum(drop, back) - 3 * noise) / level)[:, 0]
    count = max(10, len(voxels) // 500)
    chosen = np.argsort(-depth)[:count]
    early = np.median(1 - voxels[chosen, : peak + 1] / level[chosen], axis=0)
    quiet = np.flatnonzero(early[: arrival + 1] < max(0.1 * early.max(), 3 * early[before].std()))
    return max(start, int(quiet[-1]) + 1) if len(quiet) else start


def _first_steady_frame(drop: np.ndarray, arrival: int) -> int:
    """First frame that is not brighter than the later baseline frames."""
    level = np.median(drop[arrival // 2 : arrival]) if arrival > 1 else 0.0
    steady = np.flatnonzero(drop[:arrival] > level - STEADY_STATE_EXCESS)
    return int(steady[0]) if len(steady) else arrival
