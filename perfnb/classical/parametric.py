"""Parametric deconvolution: gamma-distributed transit times with an arterial delay.

The model of Mouridsen et al. 2006 (NeuroImage 33:570) and 2014 (J Cereb Blood Flow Metab 34:1511):
c(t) = CBF (aif * R)(t - delay) with R(t) = Q(alpha, alpha t / MTT), a residue of free shape.
Here all voxels are fitted at once, in two steps.

1. Over a dictionary of shapes, transit times and delays, the mean of the posterior. At the noise
   of a film its maximum jumps along a ridge (a short, steep residue fits as well as a late, broad
   one); its mean does not.
2. Levenberg-Marquardt steps from there. They take out the dictionary's coarseness, and their prior
   allows no more than that: its variances are those of a value rounded to the dictionary's grid.

The noise of delta R2* is neither white nor even, and the fit knows it. A voxel's baseline is a mean
of few frames, whose error all its frames share. And where the signal is low, its logarithm is
noisy: with the echo time given, frames weigh as the square of their signal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from perfnb.classical.curve_noise import NoisyCurves, noisy_curves
from perfnb.classical.curves import PER_100_G
from perfnb.classical.gamma_curves import COARSE, peak_time, read, tabulate
from perfnb.classical.gamma_dictionary import ROUNDING, GammaDictionary

PRIORS: dict[str, tuple[float, float] | None] = {
    "flat": None,
    "exponential": (0.0, 1.0),
    "vascular": (2.3, 1.0),
}
"""Mean and variance of log alpha. "exponential" is that of the program of Mouridsen's group, as a
public port of it to Python has it, and "vascular" that of FSL's model after Chappell et al. 2015
(Magn Reson Med 74:280), as in its source code. They disagree by a factor of 10 in alpha, so the
default takes neither. Log MTT and delay are flat over the table's range."""
STEPS = 12
LARGEST_STEP = (0.7, 0.7, 0.7, 2.0)  # log CBV, log alpha, log MTT, delay [s]
SMALLEST_STEP = 0.003  # a fit that moves less is done
BLOCK = {"cpu": 2048, "cuda": 65536}  # voxels at once: what the cache or the memory holds


@dataclass(frozen=True)
class GammaFit:
    """Fits of N voxels.

    Attributes
    ----------
    parameters : tensor, shape (N, 4)
        log CBV [ml/ml], log alpha, log MTT [s], delay [s].
    peak_s : tensor, shape (N,)
        Peak of the fitted curve, from the first frame on [s].
    deviation : tensor, shape (N, 5)
        Standard deviation of the posterior of CBF [1/s], CBV [ml/ml], MTT, delay and peak [s].
    residual : tensor, shape (N,)
        Root mean square of data minus fit, from the arrival on [1/s].
    """

    parameters: torch.Tensor
    peak_s: torch.Tensor
    deviation: torch.Tensor
    residual: torch.Tensor


def fit_gamma(
    tissue: torch.Tensor,
    aif: np.ndarray,
    repetition_time_s: float,
    arrival: int = 0,
    echo_time_s: float | None = None,
    prior: str = "flat",
) -> GammaFit:
    """Fit gamma-distributed transit times to all curves.

    Parameters
    ----------
    tissue : float tensor, shape (N, T)
        Delta R2* [1/s]; finite. Its dtype and device are those of the fit.
    aif : float array, shape (T,)
        Delta R2* of the artery [1/s].
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        First frame of the bolus; the mean of the frames before it is the baseline. 0 if unknown:
        the baseline is then taken as exact.
    echo_time_s : float, optional
        Echo time [s]; without it, all frames weigh the same.
    prior : str
        Name in PRIORS.

    Returns
    -------
    GammaFit

    Raises
    ------
    ValueError
        Unknown prior.
    """
    if prior not in PRIORS:
        raise ValueError(f"prior={prior!r} is unknown; known priors: {', '.join(PRIORS)}")
    table = tabulate(aif, repetition_time_s, tissue.dtype, tissue.device)
    table = replace(table, curves=table.curves[:, arrival:].contiguous())
    fit = _Fit(table, arrival, echo_time_s or 0.0, PRIORS[prior])
    parts = [
        fit.block(rows)
        for rows in torch.split(tissue, BLOCK.get(tissue.device.type, BLOCK["cuda"]))
    ]
    return GammaFit(*(torch.cat(part) for part in zip(*parts, strict=True)))


class _Fit:
    """What all blocks of voxels share: table, dictionary, priors."""

    def __init__(self, table, arrival: int, echo_time_s: float, prior):
        self.table, self.arrival, self.echo_time_s = table, arrival, echo_time_s
        self.dictionary = GammaDictionary(table, prior)
        grid = table.step * table.step.new_tensor([COARSE, COARSE, 1])
        grid[2] = self.dictionary.delay_step
        # Of rounded values; rounding the transit time changes the volume by about as much.
        self.precision = 12 / torch.cat([grid[1:2], grid]) ** 2
        self.low = torch.cat([grid.new_tensor([-20.0]), table.first])
        self.high = torch.cat([grid.new_tensor([3.0]), table.last])

    def block(self, tissue: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Parameters, peak, deviations and residual of curves (n, T)."""
        data = noisy_curves(tissue, self.arrival, self.echo_time_s)
        begin, spread = self.dictionary.average(data)
        begin = begin.clamp(self.low, self.high)
        parameters = self.climb(data, begin)
        residual, jacobian = self.terms(data, parameters)
        noise = data.squares(residual) / (residual.shape[1] - 4) + 1e-30
        curvature, _ = data.curvature(jacobian, residual)
        curvature = curvature / noise[:, None, None] + torch.diag(self.precision)
        peak_s, by = peak_time(self.table, parameters[:, 1:])
        spread = spread + self.within(parameters, torch.linalg.inv(curvature), by)
        return parameters, peak_s, spread.sqrt(), residual.square().mean(dim=1).sqrt()

    def within(self, parameters, covariance, by) -> torch.Tensor:
        """Variances of the five maps (n, 5) by the curvature at the fit."""
        volume, mtt = parameters[:, 0].exp(), parameters[:, 2].exp()
        zero, one = torch.zeros_like(volume), torch.ones_like(volume)
        slopes = torch.stack(
            [
                torch.stack([volume / mtt, zero, -volume / mtt, zero], dim=1),
                torch.stack([volume, zero, zero, zero], dim=1),
                torch.stack([zero, zero, mtt, zero], dim=1),
                torch.stack([zero, zero, zero, one], dim=1),
                torch.cat([zero[:, None], by], dim=1),
            ],
            dim=1,
        )
        return (torch.bmm(slopes, covariance) * slopes).sum(dim=2).clamp_min(0)

    def terms(self, data, parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Residual (n, T') and the fit's derivatives (n, 4, T')."""
        curve, by = read(self.table, parameters[:, 1:])
        volume = parameters[:, :1].exp()
        curve *= volume
        return data.curves - curve, torch.cat([curve[:, None], by.mul_(volume[:, :, None])], dim=1)

    def cost(self, data, residual, away, floor) -> tuple[torch.Tensor, torch.Tensor]:
        """Negative log posterior (n,) with unknown noise, and the squared misfit."""
        misfit = data.squares(residual) + floor
        prior = (away.square() * self.precision).sum(dim=1)
        return 0.5 * (residual.shape[1] * misfit.log() + prior), misfit

    def climb(self, data: NoisyCurves, begin: torch.Tensor) -> torch.Tensor:
        """Levenberg-Marquardt steps to the posterior's maximum (n, 4)."""
        floor = ROUNDING**2 * data.squares(data.curves) + 1e-30
        found, rows = begin.clone(), torch.arange(len(begin), device=begin.device)
        residual, jacobian = self.terms(data, begin)
        cost, misfit = self.cost(data, residual, torch.zeros_like(begin), floor)
        state = [data, begin, floor, begin, residual, jacobian, cost, misfit, 0.01 + 0 * cost, rows]
        for _ in range(STEPS):
            state, moved = self.step(*state)
            active = moved > SMALLEST_STEP
            if active.float().mean() < 0.7:  # go on with those that still move
                found[state[-1]] = state[3]
                state = [part[active] for part in state]
            if not len(state[-1]):
                return found
        found[state[-1]] = state[3]
        return found

    def step(
        self, data, begin, floor, place, residual, jacobian, cost, misfit, damping, rows
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Try one step in every voxel, keep those that help; also how far each tried to move."""
        noise = (misfit / residual.shape[1])[:, None]
        curvature, uphill = data.curvature(jacobian, residual)
        curvature, uphill = curvature / noise[:, :, None], uphill / noise
        uphill = uphill - (place - begin) * self.precision
        stuck = (place <= self.low) & (uphill < 0) | (place >= self.high) & (uphill > 0)
        free = (~stuck).to(place)
        curvature = curvature * (free[:, :, None] * free[:, None, :])
        diagonal = curvature.diagonal(dim1=1, dim2=2)
        diagonal += self.precision
        diagonal += diagonal * damping[:, None] + (1 - free)
        factor, _ = torch.linalg.cholesky_ex(curvature)
        step = torch.cholesky_solve((uphill * free)[:, :, None], factor)[:, :, 0].nan_to_num(0.0)
        largest = place.new_tensor(LARGEST_STEP)
        trial = (place + step.clamp(-largest, largest)).clamp(self.low, self.high)
        next_residual, next_jacobian = self.terms(data, trial)
        next_cost, next_misfit = self.cost(data, next_residual, trial - begin, floor)
        better = next_cost < cost
        kept = [
            torch.where(better.view(-1, *[1] * (old.ndim - 1)), new, old)
            for new, old in (
                (trial, place),
                (next_residual, residual),
                (next_jacobian, jacobian),
                (next_cost, cost),
                (next_misfit, misfit),
                (damping / 5, damping * 5),
            )
        ]
        return [data, begin, floor, *kept, rows], (trial - place).abs().amax(dim=1)


UNITS = (60 * PER_100_G, PER_100_G, 1.0, 1.0, 1.0)


def maps(fit: GammaFit) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """CBF, CBV, MTT, Tmax and TTP (N, 5) of a fit in the units of `perfnb.maps`; delay; alpha."""
    log_cbv, log_alpha, log_mtt, delay = fit.parameters.unbind(dim=1)
    cbv, mtt = PER_100_G * log_cbv.exp(), log_mtt.exp()
    return torch.stack([60 * cbv / mtt, cbv, mtt, delay, fit.peak_s], 1), delay, log_alpha.exp()
