"""Tissue curves of gamma-distributed transit times, tabulated once per arterial input.

A residue is the share of blood that has not left yet: R(t) = Q(alpha, alpha t / MTT), the upper
incomplete gamma function. alpha = 1 is an exponential, large alpha comes close to a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.fft import irfft, next_fast_len, rfft
from scipy.interpolate import CubicSpline
from scipy.special import gammainc, gammaincc

from perfnb.classical.curves import EARLIEST_LAG_S, LATEST_LAG_S, interpolated_maximum

FINE_STEP_S = 0.2  # the table's step in delay is at most this
LOG_ALPHA = np.linspace(np.log(0.5), np.log(100.0), 17)
LOG_MTT = np.linspace(np.log(1.0), np.log(30.0), 31)
COARSE, COARSE_DELAY_S = 2, 0.6  # the dictionary takes every other shape and transit time


@dataclass(frozen=True)
class GammaCurves:
    """Curves of unit blood volume on a grid of log alpha, log MTT and delay.

    Attributes
    ----------
    curves : tensor, shape (A * M * D, T)
        Arterial input convolved with R(t - delay) / MTT [1/s].
    peak_s : tensor, shape (A, M)
        Time of the peak at delay 0 [s].
    first : tensor, shape (3,)
        Least log alpha, log MTT and delay [s].
    step : tensor, shape (3,)
        Their steps.
    size : tuple of int
        A, M, D.
    """

    curves: torch.Tensor
    peak_s: torch.Tensor
    first: torch.Tensor
    step: torch.Tensor
    size: tuple[int, int, int]

    @property
    def last(self) -> torch.Tensor:
        """Greatest log alpha, log MTT and delay [s]."""
        return self.first + self.step * (torch.tensor(self.size).to(self.step) - 1)


def residue_weights(alpha: np.ndarray, mtt_s: np.ndarray, step_s: float, count: int) -> np.ndarray:
    """Weights that convolve a piecewise linear curve exactly with a gamma residue.

    The second difference of the residue's double integral, which is
    x^2 Q(alpha) / 2 + x MTT P(alpha + 1) - MTT^2 (alpha + 1) / alpha P(alpha + 2) / 2.

    Parameters
    ----------
    alpha, mtt_s : float arrays that broadcast to (R,)
        Shape, and mean transit time [s].
    step_s : float
        Step of the curve's grid [s].
    count : int
        Number of weights K.

    Returns
    -------
    float array, shape (R, K)
        Weight of the curve's value k steps earlier [s].
    """
    a, m = np.asarray(alpha, float)[:, None], np.asarray(mtt_s, float)[:, None]
    x = np.arange(count + 1) * step_s
    z = a * x / m
    twice = 0.5 * x**2 * gammaincc(a, z) + x * m * gammainc(a + 1, z)
    twice -= 0.5 * m**2 * (a + 1) / a * gammainc(a + 2, z)
    before = np.concatenate([np.zeros_like(twice[:, :1]), twice], axis=1)
    return (before[:, 2:] - 2 * before[:, 1:-1] + before[:, :-2]) / step_s


def tabulate(
    aif: np.ndarray,
    repetition_time_s: float,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> GammaCurves:
    """Convolve an arterial input with gamma residues of every shape, transit time and delay.

    Between frames the AIF is a cubic spline, before the first it is 0, after the last it holds.

    Parameters
    ----------
    aif : float array, shape (T,)
        Delta R2* of the artery [1/s].
    repetition_time_s : float
        Repetition time [s].
    dtype, device
        Of the table.

    Returns
    -------
    GammaCurves
    """
    frames = len(aif)
    split = max(int(np.ceil(repetition_time_s / FINE_STEP_S)), 1)
    step = repetition_time_s / split
    before, after = (int(np.ceil(lag / step)) for lag in (-EARLIEST_LAG_S, LATEST_LAG_S))
    count = (frames - 1) * split + 1 + before
    fine = CubicSpline(np.arange(frames) * split, aif)(np.minimum(np.arange(count), count - before))
    spectrum, size = _residue_spectrum(step, count)
    tissue = irfft(spectrum * rfft(fine, size), size)[:, :count]
    peak = interpolated_maximum(tissue)[0] * step
    tissue = np.pad(tissue.astype(np.float32), ((0, 0), (after, 0)))
    delays = np.arange(-before, after + 1)
    at = after + np.arange(frames) * split - delays[:, None]
    curves = torch.as_tensor(tissue).to(device, dtype)[:, torch.as_tensor(at, device=device)]
    grid = (LOG_ALPHA.size, LOG_MTT.size, delays.size)
    first = torch.tensor([LOG_ALPHA[0], LOG_MTT[0], -before * step])
    steps = torch.tensor([LOG_ALPHA[1] - LOG_ALPHA[0], LOG_MTT[1] - LOG_MTT[0], step])
    return GammaCurves(
        curves.reshape(-1, frames),
        torch.as_tensor(peak.reshape(grid[:2])).to(device, dtype),
        first.to(device, dtype),
        steps.to(device, dtype),
        grid,
    )


@lru_cache(maxsize=4)  # films of one cohort share it
def _residue_spectrum(step_s: float, count: int) -> tuple[np.ndarray, int]:
    """Spectra of the weights of all residues of the grid, at unit volume, and their length."""
    alpha, mtt = (np.exp(v).ravel() for v in np.meshgrid(LOG_ALPHA, LOG_MTT, indexing="ij"))
    size = next_fast_len(2 * count, real=True)
    return rfft(residue_weights(alpha, mtt, step_s, count) / mtt[:, None], size), size


def dictionary(table: GammaCurves) -> tuple[torch.Tensor, torch.Tensor]:
    """Coarse choice of the table's curves to start a fit from.

    Parameters
    ----------
    table : GammaCurves
        From `tabulate`.

    Returns
    -------
    curves : tensor, shape (K, T)
        [1/s] at unit blood volume.
    parameters : tensor, shape (K, 3)
        Their log alpha, log MTT and delay [s].
    """
    _, m, d = table.size
    steps = (COARSE, COARSE, max(round(COARSE_DELAY_S / float(table.step[2])), 1))
    device = table.curves.device
    axes = [torch.arange(0, n, s, device=device) for n, s in zip(table.size, steps, strict=True)]
    places = torch.cartesian_prod(*axes)
    index = (places[:, 0] * m + places[:, 1]) * d + places[:, 2]
    return table.curves[index], table.first + table.step * places


def peak_time(table: GammaCurves, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Time of each curve's peak and its derivatives, by linear interpolation.

    Parameters
    ----------
    table : GammaCurves
        From `tabulate`.
    parameters : tensor, shape (N, 3)
        log alpha, log MTT, delay [s].

    Returns
    -------
    peak_s : tensor, shape (N,)
        From the first frame on [s].
    derivatives : tensor, shape (N, 3)
        By log alpha, log MTT and delay.
    """
    low, part = _place(table, parameters)
    corners = [table.peak_s[low[:, 0] + i, low[:, 1] + j] for i in (0, 1) for j in (0, 1)]
    a, m = part[:, 0], part[:, 1]
    left, right = (torch.lerp(corners[k], corners[k + 1], m) for k in (0, 2))
    by_mtt = torch.lerp(corners[1] - corners[0], corners[3] - corners[2], a)
    by = torch.stack([right - left, by_mtt, table.step[2].expand_as(a)], dim=1) / table.step
    return torch.lerp(left, right, a) + parameters[:, 2], by


def read(table: GammaCurves, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Curves at any parameters within the table, and their derivatives, by linear interpolation.

    Parameters
    ----------
    table : GammaCurves
        From `tabulate`.
    parameters : tensor, shape (N, 3)
        log alpha, log MTT, delay [s].

    Returns
    -------
    curves : tensor, shape (N, T)
        [1/s] at unit blood volume.
    derivatives : tensor, shape (N, 3, T)
        By log alpha, log MTT and delay.
    """
    low, part = _place(table, parameters)
    part = part[:, :, None]
    _, m, d = table.size
    corner = (low[:, 0] * m + low[:, 1]) * d + low[:, 2]
    by = table.curves.new_empty(len(low), 3, table.curves.shape[1])
    sides = []
    for next_alpha in (0, m * d):
        rows = []
        for next_mtt in (0, d):
            early = table.curves.index_select(0, corner + (next_alpha + next_mtt))
            change = table.curves.index_select(0, corner + (next_alpha + next_mtt + 1)) - early
            rows.append((torch.addcmul(early, part[:, 2], change), change))
        (left, by_delay), (right, other) = rows
        by_mtt = right - left
        sides.append(
            (torch.addcmul(left, part[:, 1], by_mtt), by_mtt, by_delay.lerp_(other, part[:, 1]))
        )
    torch.sub(sides[1][0], sides[0][0], out=by[:, 0])
    curve = torch.addcmul(sides[0][0], part[:, 0], by[:, 0])
    for axis in (1, 2):
        torch.lerp(sides[0][axis], sides[1][axis], part[:, 0], out=by[:, axis])
    by /= table.step[:, None]
    return curve, by


def _place(table: GammaCurves, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lower corner of each parameter's cell, and how far it lies towards the upper one."""
    top = torch.tensor(table.size).to(parameters) - 1
    place = ((parameters - table.first) / table.step).clamp_min(0).minimum(top)
    low = place.floor().minimum(top - 1)
    return low.long(), place - low
