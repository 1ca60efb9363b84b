"""A digital reference object: tissue curves whose perfusion, delay and residue are known.

In the manner of Kudo et al. 2013 (Radiology 267:201): every combination of blood volume, transit
time and delay, many noise draws each, for one artery. Nothing in it is random but the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve
from scipy.special import gammaincc

from perfnb.classical.curves import PER_100_G

STEP_S = 0.02  # grid of the convolution [s]
CBV_LEVELS = (1.0, 2.0, 4.0)  # ml/100 g
MTT_LEVELS_S = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
DELAY_LEVELS_S = (-4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0)
ARRIVAL_FRAMES = 10  # the bolus reaches the artery at this frame
AIF_SCALE_S = 1.5
SIGNAL_DROP = 0.4  # of CBV 4 ml/100 g and MTT 4 s with an exponential residue
AIF_VOXELS = 4  # a noisy AIF is the mean of as many voxels ...
AIF_DROP = 0.8  # ... whose signal falls by this much: an artery that fills part of them

RESIDUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exponential": lambda x: np.exp(-x),
    "gamma": lambda x: gammaincc(3.0, 3.0 * x),
    "linear": lambda x: np.maximum(1 - x / 2, 0),
    "box": lambda x: np.where(np.isclose(x, 1), 0.5, (x < 1).astype(float)),
}
"""Residues by name, as functions of time / MTT: they start at 1 and their integral is 1."""


@dataclass(frozen=True)
class ReferenceObject:
    """Curves of a reference object and their truth.

    Attributes
    ----------
    tissue : float array, shape (N, T)
        Delta R2* [1/s]; N runs over CBV, MTT, delay and noise draws, the last fastest.
    aif : float array, shape (T,)
        Delta R2* of the artery [1/s].
    truth : dict of float arrays, shape (N,)
        CBF [ml/100 g/min], CBV [ml/100 g], MTT, Tmax, TTP [s]; without dispersion, Tmax is the
        delay.
    repetition_time_s : float
    arrival : int
        First frame that any curve's bolus may reach; the frames before it are the baseline.
    shape : tuple of int
        Levels of CBV, MTT and delay, and noise draws.
    """

    tissue: np.ndarray
    aif: np.ndarray
    truth: dict[str, np.ndarray]
    repetition_time_s: float
    arrival: int
    shape: tuple[int, int, int, int]

    def image(self, values: np.ndarray) -> np.ndarray:
        """Arrange values (N,) as an image: rows CBV and delay, columns MTT, a tile per triple."""
        n_cbv, n_mtt, n_delay, repeats = self.shape
        side = int(np.sqrt(repeats))
        if side**2 != repeats:
            raise ValueError(f"repeats={repeats}; expected a square number, to make square tiles")
        tiles = np.reshape(values, (n_cbv, n_mtt, n_delay, side, side))
        return tiles.transpose(0, 2, 3, 1, 4).reshape(n_cbv * n_delay * side, n_mtt * side)


def reference_object(
    repetition_time_s: float = 1.4,
    residue: str = "exponential",
    snr: float | None = 50.0,
    noisy_aif: bool = False,
    repeats: int = 16,
    seed: int = 0,
    n_frames: int = 80,
    echo_time_s: float = 0.029,
    delays_s: tuple[float, ...] = DELAY_LEVELS_S,
) -> ReferenceObject:
    """Make a reference object.

    The AIF is (t - t0)^3 exp(-(t - t0) / 1.5 s) from frame 10 on, scaled so that CBV 4 ml/100 g
    with MTT 4 s and an exponential residue darkens the signal by 40 %. No recirculation.

    Parameters
    ----------
    repetition_time_s : float
        Repetition time [s].
    residue : str
        Name in RESIDUES.
    snr : float, optional
        Baseline signal over the standard deviation of its (Rician) noise; None for no noise.
    noisy_aif : bool
        Read the AIF with the same noise, as the mean of AIF_VOXELS voxels whose signal falls by
        AIF_DROP, scaled back by the known fraction. Otherwise it is exact.
    repeats : int
        Noise draws of each combination.
    seed : int
        Seed of the noise.
    n_frames : int
        Frames T.
    echo_time_s : float
        Echo time [s].
    delays_s : tuple of float
        Arterial delays [s]; above -8.

    Returns
    -------
    ReferenceObject

    Raises
    ------
    ValueError
        Unknown residue, noisy AIF without noise.
    """
    if residue not in RESIDUES:
        raise ValueError(f"residue={residue!r} is unknown; known residues: {', '.join(RESIDUES)}")
    if noisy_aif and snr is None:
        raise ValueError("noisy_aif needs a signal-to-noise ratio; give snr")
    frames = np.arange(n_frames) * repetition_time_s
    aif, time = _fine_aif(repetition_time_s, n_frames, echo_time_s)
    levels = np.meshgrid(CBV_LEVELS, MTT_LEVELS_S, delays_s, indexing="ij")
    cbv, mtt, delay = (np.repeat(level.ravel(), repeats) for level in levels)
    unit = {m: _unit_curve(aif, m, residue) for m in MTT_LEVELS_S}
    peak = {m: time[curve.argmax()] for m, curve in unit.items()}
    row = [np.interp(frames - d, time, unit[m], left=0) for m in MTT_LEVELS_S for d in delays_s]
    shape = (len(CBV_LEVELS), len(MTT_LEVELS_S), len(delays_s), repeats)
    tissue = np.multiply.outer(CBV_LEVELS, np.reshape(row, (*shape[1:3], n_frames)))
    tissue = np.repeat(tissue.reshape(-1, n_frames), repeats, axis=0)
    start = ARRIVAL_FRAMES * repetition_time_s + min(0.0, *delays_s)
    arrival = int(np.floor(start / repetition_time_s)) + 1
    artery = np.interp(frames, time, aif)
    if snr is not None:
        rng = np.random.default_rng(seed)
        tissue = _noisy(rng, tissue, snr, echo_time_s, arrival)
        if noisy_aif:
            fraction = -np.log(1 - AIF_DROP) / echo_time_s / artery.max()
            voxels = np.repeat(fraction * artery[None], AIF_VOXELS, axis=0)
            artery = _noisy(rng, voxels, snr, echo_time_s, arrival).mean(axis=0) / fraction
    truth = {"CBF": 60 * cbv / mtt, "CBV": cbv, "MTT": mtt, "Tmax": delay}
    truth["TTP"] = np.array([peak[m] for m in mtt]) + delay
    return ReferenceObject(tissue, artery, truth, repetition_time_s, arrival, shape)


def _fine_aif(repetition_time_s, n_frames, echo_time_s) -> tuple[np.ndarray, np.ndarray]:
    """AIF [1/s] and its times [s], STEP_S apart, long enough for the earliest tissue."""
    time = np.arange(0, n_frames * repetition_time_s + 8, STEP_S)
    since = np.maximum(time - ARRIVAL_FRAMES * repetition_time_s, 0)
    aif = since**3 * np.exp(-since / AIF_SCALE_S)
    darkest = 4 * _unit_curve(aif, 4.0, "exponential").max()
    return aif * -np.log(1 - SIGNAL_DROP) / echo_time_s / darkest, time


def _unit_curve(aif: np.ndarray, mtt_s: float, residue: str) -> np.ndarray:
    """Fine tissue curve of CBV 1 ml/100 g by the trapezoid rule."""
    response = RESIDUES[residue](np.arange(len(aif)) * STEP_S / mtt_s)
    response[0] = 0.5
    return fftconvolve(aif, response)[: len(aif)] * STEP_S / mtt_s / PER_100_G


def _noisy(rng, curves, snr, echo_time_s, arrival) -> np.ndarray:
    """Delta R2* as read from a signal with Rician noise and a baseline of `arrival` frames."""
    noise = rng.normal(0, 1 / snr, (2, *curves.shape))
    signal = np.hypot(np.exp(-echo_time_s * curves) + noise[0], noise[1])
    baseline = signal[:, :arrival].mean(axis=1, keepdims=True)
    return -np.log(np.maximum(signal / baseline, 0.01)) / echo_time_s


@dataclass(frozen=True)
class Score:
    """Agreement with the truth: correlation, mean error and root-mean-square error [unit]."""

    r: float
    bias: float
    rmse: float
    missing: float  # fraction of voxels without a value; they count as 0


def score(maps: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict[str, Score]:
    """Score maps against the truth, map by map.

    Parameters
    ----------
    maps, truth : dict of float arrays, shape (N,)
        NaN in a map counts as 0, so that leaving out hard voxels does not pay.

    Returns
    -------
    dict of Score
        For the names that both have.
    """
    scores = {}
    for name in (name for name in truth if name in maps):
        found = np.asarray(maps[name], float)
        missing = float(np.isnan(found).mean())
        found = np.nan_to_num(found)
        error = found - truth[name]
        constant = np.ptp(found) == 0 or np.ptp(truth[name]) == 0
        r = np.nan if constant else float(np.corrcoef(found, truth[name])[0, 1])
        rmse = float(np.sqrt(np.mean(error**2)))
        scores[name] = Score(r, float(error.mean()), rmse, missing)
    return scores
