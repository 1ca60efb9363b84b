"""The bolus: arterial curve, residues, dispersion, and the tissue curves they make together.

A tissue curve is CBF times the arterial curve convolved with dispersion and residue, shifted by
the arterial delay. All convolutions happen on a grid of STEP_S seconds, once per distinct pair of
transit time and dispersion; voxels then read their row of this library at their own times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import gammainc, gammaincc, ndtr

STEP_S = 0.1
BLOCK = 2048  # voxels read at once: small enough for the cache
SLOW_ARRIVAL_S = 3.0
MTT_LEVELS_S = np.geomspace(1.5, 30.0, 101)
DISPERSION_LEVELS_S = np.geomspace(0.25, 8.0, 29)
# FWHM [s] of 93 clinical arterial curves at their 5th, 50th and 95th percentile, ends added.
FWHM_QUANTILES = ((0.0, 0.05, 0.5, 0.95, 1.0), (8.0, 9.0, 11.0, 19.0, 21.0))

RESIDUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exponential": lambda x: np.exp(-x),
    "gamma": lambda x: gammaincc(3.0, 3.0 * x),
    "box-like": lambda x: gammaincc(30.0, 30.0 * x),
    "bi-exponential": lambda x: 0.7 * np.exp(-x / 0.6) + 0.3 * np.exp(-x * 0.3 / 0.58),
    "lognormal": lambda x: ndtr(-np.log(np.maximum(x, 1e-12)) - 0.5),
}
"""Residues by name, as functions of time / MTT: they start at 1 and their integral is 1.

Exponential and box as in Ostergaard et al. (MRM 36:715, 1996), gamma-distributed transit times as
in Mouridsen et al. (JCBFM 34:1511, 2014).
"""
HELD_OUT_RESIDUE = "lognormal"
"""No patient has it unless asked for: flat at first and long-tailed, as none of the others is."""

DISPERSIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exponential": lambda x: -np.expm1(-x),
    "gamma": lambda x: gammainc(2.0, 2.0 * x),
    "lognormal": lambda x: ndtr(np.log(np.maximum(x, 1e-12)) / 0.6 + 0.3),
}
"""Cumulative dispersion kernels by name, as functions of time / mean: they rise from 0 to 1."""


@dataclass(frozen=True)
class Bolus:
    """The arterial curve of one patient.

    `curve`, shape (K,), is the dR2* of pure arterial blood [1/s] every STEP_S seconds from the
    first frame on; `arrival_s` and `fwhm_s` describe its first pass.
    """

    curve: np.ndarray
    arrival_s: float
    fwhm_s: float
    residue: str
    kernel: str
    facts: dict


def gamma_variate(time_s: np.ndarray, arrival_s: float, fwhm_s: float, alpha: float) -> np.ndarray:
    """Gamma-variate curve with peak 1 (Thompson et al., Circ Res 14:502, 1964).

    Parameters
    ----------
    time_s : float array, shape (K,)
        Time from the first frame [s].
    arrival_s, fwhm_s : float
        Arrival and full width at half maximum [s].
    alpha : float
        Shape: the larger, the more symmetric.

    Returns
    -------
    float array, shape (K,)
    """
    grid = np.linspace(1e-6, 8.0, 8001)  # time in units of the time to peak
    above = grid[grid * np.exp(1.0 - grid) > 0.5 ** (1.0 / alpha)]
    peak_s = fwhm_s / (above[-1] - above[0])
    x = np.maximum(time_s - arrival_s, 0.0) / peak_s
    return (x * np.exp(1.0 - x)) ** alpha


def draw_bolus(
    rng: np.random.Generator,
    arrival_s: float,
    length_s: float,
    peak: float,
    is_slow: bool = False,
    residue: str | None = None,
) -> Bolus:
    """Draw a patient's injection and circulation.

    Parameters
    ----------
    rng : numpy Generator
        Source of all draws.
    arrival_s : float
        Arrival of the bolus in the large arteries [s].
    length_s : float
        Time to cover from the first frame on [s].
    peak : float
        Peak dR2* of pure arterial blood at the mean dose [1/s].
    is_slow : bool
        Low cardiac output: a wide bolus that comes later.
    residue : str, optional
        Name in RESIDUES; None draws one, never the one held out.

    Returns
    -------
    Bolus
    """
    rank = rng.uniform()
    if is_slow:
        rank, arrival_s = 0.85 + 0.15 * rank, arrival_s + SLOW_ARRIVAL_S
    fwhm = float(np.interp(rank, *FWHM_QUANTILES))
    alpha, dose = rng.uniform(2.2, 4.0), rng.uniform(0.8, 1.2)
    time = np.arange(0.0, length_s, STEP_S)
    first = gamma_variate(time, arrival_s, fwhm, alpha)
    second_s = rng.uniform(14.0, 19.0) * (fwhm / 11.0) ** 0.7  # a slow heart, a late second pass
    share, rest = rng.uniform(0.15, 0.3), rng.uniform(0.02, 0.05)
    echo = gamma_variate(time, arrival_s + second_s, 1.8 * fwhm, alpha)
    mixed = np.cumsum(first) / first.sum()
    curve = peak * dose * (first + share * echo + rest * mixed)
    drawn = str(rng.choice([name for name in RESIDUES if name != HELD_OUT_RESIDUE]))
    residue, kernel = residue or drawn, str(rng.choice(list(DISPERSIONS)))
    facts = {
        "dose": dose, "bolus_arrival_s": arrival_s, "bolus_fwhm_s": fwhm, "recirculation": share,
        "residue": residue, "dispersion_kernel": kernel,
    }  # fmt: skip
    return Bolus(curve, arrival_s, fwhm, residue, kernel, facts)


def nearest_level(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Index of the nearest geometric level for each value, ends clipped."""
    step = np.log(levels[1] / levels[0])
    index = np.rint(np.log(np.maximum(values, levels[0]) / levels[0]) / step).astype(int)
    return np.minimum(index, levels.size - 1)


def dispersion_kernel(kernel: str, mean_s: np.ndarray, count: int) -> np.ndarray:
    """Dispersion kernels on the STEP_S grid.

    Parameters
    ----------
    kernel : str
        Name in DISPERSIONS.
    mean_s : float array, shape (R,)
        Mean of each kernel [s].
    count : int
        Samples.

    Returns
    -------
    float array, shape (R, count)
        Probability of arriving around each sample; rows sum to 1 but for the cut tail.
    """
    edges = np.maximum(np.arange(count + 1) - 0.5, 0.0) * STEP_S
    return np.diff(DISPERSIONS[kernel](edges / mean_s[:, None]), axis=1)


@dataclass(frozen=True)
class Library:
    """Curves of distinct (transit time, dispersion) pairs, before the arterial delay.

    `rows` maps a pair's code to its row; `tissue`, shape (R, K), is arterial dR2* convolved with
    dispersion and residue [dimensionless: 1/s times s]; `response`, shape (R, L), is dispersion
    convolved with residue.
    """

    rows: np.ndarray
    tissue: np.ndarray
    response: np.ndarray

    def row(self, mtt_index: np.ndarray, dispersion_index: np.ndarray) -> np.ndarray:
        """Row of each pair of level indices."""
        return self.rows[mtt_index, dispersion_index]


def build_library(bolus: Bolus, mtt_index: np.ndarray, dispersion_index: np.ndarray) -> Library:
    """Convolve the arterial curve for every pair of levels that occurs.

    Parameters
    ----------
    bolus : Bolus
        Arterial curve, residue family and dispersion family.
    mtt_index, dispersion_index : int array, shape (N,)
        Indices into MTT_LEVELS_S and DISPERSION_LEVELS_S.

    Returns
    -------
    Library
    """
    rows = np.zeros((MTT_LEVELS_S.size, DISPERSION_LEVELS_S.size), np.int64)
    rows[mtt_index, dispersion_index] = 1
    mtt, dispersion = np.nonzero(rows)
    rows[mtt, dispersion] = np.arange(mtt.size)
    count = bolus.curve.size
    time = np.arange(count) * STEP_S
    residue = RESIDUES[bolus.residue](time / MTT_LEVELS_S[:, None])
    residue[:, 0] = 0.5  # the trapezoid's half weight of the first sample
    kernel = dispersion_kernel(bolus.kernel, DISPERSION_LEVELS_S, count)
    size = next_fast_len(2 * count, real=True)
    used, place = np.unique(mtt, return_inverse=True)
    spectrum = rfft(residue[used], size)[place] * rfft(kernel, size)[dispersion]
    response = irfft(spectrum, size)[:, : int(40.0 / STEP_S)]
    tissue = irfft(spectrum * rfft(bolus.curve, size), size)[:, :count] * STEP_S
    return Library(rows, tissue.astype(np.float32), response)


def read_curves(
    curves: np.ndarray, row: np.ndarray, start_s: np.ndarray, frames_s: np.ndarray
) -> np.ndarray:
    """Read library curves at arbitrary times, linearly; the first sample holds before 0.

    Parameters
    ----------
    curves : float array, shape (R, K)
        Curves every STEP_S seconds.
    row : int array, shape (N,)
        Curve of each voxel.
    start_s : float array, shape (N,)
        Time on each voxel's curve at frame time 0 [s].
    frames_s : float array, shape (T,) or (N, T)
        Frame times [s]; beyond the curve's end, its last value is held.

    Returns
    -------
    array of the curves' type, shape (N, T)
    """
    frames_s = np.broadcast_to(frames_s, (row.size, frames_s.shape[-1]))
    out, flat, length = np.empty(frames_s.shape, curves.dtype), curves.ravel(), curves.shape[1]
    for first in range(0, row.size, BLOCK):
        block = slice(first, first + BLOCK)
        place = (start_s[block, None] + frames_s[block]) / STEP_S
        np.clip(place, 0.0, length - 1.001, out=place)
        low = place.astype(np.int64)
        place -= low
        low += row[block, None] * length
        left = flat[low]
        out[block] = left + place.astype(curves.dtype) * (flat[low + 1] - left)
    return out


def mixture_peak(
    curves: np.ndarray, rows: tuple[np.ndarray, np.ndarray], weights: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Time at which the weighted sum of two library curves is largest.

    The peak of the sum lies between the peaks of its parts.

    Parameters
    ----------
    curves : float array, shape (R, K)
        Curves every STEP_S seconds.
    rows, weights : two arrays each, shape (N,)
        Row and weight of both parts.

    Returns
    -------
    float array, shape (N,)
        Time of the peak [s].
    """
    first, second = (curves.argmax(1)[row] * STEP_S for row in rows)
    early, late = np.minimum(first, second) - STEP_S, np.maximum(first, second) + STEP_S
    steps = np.linspace(0.0, 1.0, 25)
    early = np.maximum(early, 0.0)
    later = (late - early)[:, None] * steps
    total = sum(
        weight.astype(np.float32)[:, None] * read_curves(curves, row, early, later)
        for row, weight in zip(rows, weights, strict=True)
    )
    return early + np.take_along_axis(later, total.argmax(1)[:, None], 1)[:, 0]
