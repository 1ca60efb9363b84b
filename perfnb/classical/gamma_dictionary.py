"""Posterior mean of gamma-distributed transit times over a dictionary of curves.

Few of the dictionary's curves explain a voxel, and neighbours need nearly the same ones. What no
voxel of a block notices is left out of the mean, which stays the same up to rounding.
"""

from __future__ import annotations

import torch

from perfnb.classical.curve_noise import NoisyCurves
from perfnb.classical.gamma_curves import GammaCurves, dictionary, peak_time

BLOCK = {"cpu": 128, "cuda": 8192}  # voxels at once: what the cache or the memory holds
ROUNDING = 1e-4  # noise is at least this fraction of a curve: the rounding of its table
NEGLIGIBLE = 30.0  # a log posterior so far below the highest counts for nothing: exp(-30) is 1e-13
FEW = 0.4  # of the curves: a larger share is not worth the copy


class GammaDictionary:
    """Curves by shape, transit time and delay, with what is averaged over them.

    Parameters
    ----------
    table : GammaCurves
        From `gamma_curves.tabulate`.
    prior : (float, float), optional
        Mean and variance of log alpha; flat if not given.
    """

    def __init__(self, table: GammaCurves, prior: tuple[float, float] | None = None):
        atoms, places = dictionary(table)
        self.atoms = atoms.T.contiguous()
        self.squared_atoms = self.atoms**2
        log_alpha, mtt = places[:, 0], places[:, 1].exp()
        far = torch.zeros_like(mtt) if prior is None else (log_alpha - prior[0]) ** 2 / prior[1]
        self.penalty = far / 2
        times = torch.stack([mtt, places[:, 2], peak_time(table, places)[0]], dim=1)
        self.means = torch.cat([log_alpha[:, None], times, times**2], dim=1)
        self.rates = torch.stack([1 / mtt, torch.ones_like(mtt)], dim=1)  # volume -> flow, volume
        self.delay_step = torch.diff(places[:, 2].unique())[0]

    def average(self, data: NoisyCurves) -> tuple[torch.Tensor, torch.Tensor]:
        """Posterior mean of curves, and how wide the posterior is.

        Parameters
        ----------
        data : NoisyCurves
            N voxels.

        Returns
        -------
        begin : tensor, shape (N, 4)
            log CBV [ml/ml], log alpha, log MTT [s], delay [s].
        variances : tensor, shape (N, 5)
            Of CBF [1/s], CBV [ml/ml], MTT, delay and peak [s].
        """
        few = BLOCK.get(data.curves.device.type, BLOCK["cuda"])
        rows = torch.arange(len(data.curves), device=data.curves.device).split(few)
        parts = [self._average(data[some]) for some in rows]
        begin, variances = (torch.cat(part) for part in zip(*parts, strict=True))
        return begin, variances

    def _average(self, data: NoisyCurves) -> tuple[torch.Tensor, torch.Tensor]:
        """One block of voxels, over the curves that any of them needs."""
        volume, length, logits, noise = self._match(data)
        means, rates = self.means, self.rates
        kept = (logits > -NEGLIGIBLE).any(dim=0).nonzero()[:, 0]
        if len(kept) < FEW * len(means):
            volume, length, logits = (part[:, kept] for part in (volume, length, logits))
            means, rates = means[kept], rates[kept]
        weights = logits.softmax(dim=1)
        log_alpha, mtt, delay, peak, *squares = _columns(weights, means).unbind(dim=1)
        own = _columns(weights / length, rates**2) * noise
        cbf_cbv = _columns(weights.mul_(volume), rates).clamp_min(1e-8)
        above = _columns(weights.mul_(volume), rates**2) - cbf_cbv**2 + own
        times = torch.stack(squares, dim=1) - torch.stack([mtt, delay, peak], dim=1) ** 2
        log_cbf, log_cbv = cbf_cbv.log().unbind(dim=1)
        begin = torch.stack([log_cbv, log_alpha, log_cbv - log_cbf, delay], dim=1)
        return begin, torch.cat([above, times], dim=1).clamp_min(0)

    def _match(self, data: NoisyCurves) -> tuple[torch.Tensor, ...]:
        """Best volume for each curve (n, K), its precision, log posterior, and noise (n, 1)."""
        weighted, total = data.weights * data.curves, data.squares(data.curves)
        weighted -= data.shared * data.weights * weighted.sum(dim=1, keepdim=True)
        match = (weighted @ self.atoms).clamp_(min=0)
        common = (data.shared.sqrt() * data.weights) @ self.atoms
        length = (
            (data.weights @ self.squared_atoms).addcmul_(common, common, value=-1).clamp_(min=1e-12)
        )
        volume = torch.div(match, length, out=common)
        explained = match.mul_(volume)
        noise = (total - explained.amax(dim=1)) / (data.curves.shape[1] - 4)
        noise = (torch.maximum(noise, ROUNDING**2 * total) + 1e-30)[:, None]
        logits = explained.mul_(0.5 / noise).sub_(self.penalty)
        return volume, length, logits.sub_(logits.amax(dim=1, keepdim=True)), noise


def _columns(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Product (n, c) of large weights (n, K) and few columns (K, c): one by one is faster."""
    return torch.stack([weights @ column for column in values.T.contiguous()], dim=1)
