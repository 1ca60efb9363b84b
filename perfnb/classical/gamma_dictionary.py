"""Posterior mean of gamma-distributed transit times over a dictionary of curves.

Few of the dictionary's curves explain a voxel, and those of neighbours come at similar delays. So a
sparse choice of curves first tells which delays a block of voxels needs, and what the posterior
does not notice is left out. The result is that of the whole dictionary, up to rounding.
"""

from __future__ import annotations

import torch

from perfnb.classical.curve_noise import NoisyCurves
from perfnb.classical.gamma_curves import COARSE, GammaCurves, dictionary, peak_time

BLOCK = {"cpu": 128, "cuda": 8192}  # voxels at once: what the cache or the memory holds
ROUNDING = 1e-4  # noise is at least this fraction of a curve: the rounding of its table
NEGLIGIBLE = 30.0  # a log posterior so far below the highest counts for nothing: exp(-30) is 1e-13
SPARSE = (2, 3, 4)  # every so many delays, shapes and transit times tell the delays


class GammaDictionary:
    """Curves by delay, shape and transit time, with what is averaged over them.

    Parameters
    ----------
    table : GammaCurves
        From `gamma_curves.tabulate`.
    prior : (float, float), optional
        Mean and variance of log alpha; flat if not given.
    """

    def __init__(self, table: GammaCurves, prior: tuple[float, float] | None = None):
        atoms, places = dictionary(table)
        sizes = [len(range(0, n, COARSE)) for n in table.size[:2]]
        size = (-1, *sizes)  # delays, shapes, transit times
        order = torch.arange(len(places), device=places.device)
        order = order.view(*sizes, -1).permute(2, 0, 1).reshape(-1)
        self.shapes, places = sizes[0] * sizes[1], places[order]
        self.atoms = atoms[order].T.contiguous()
        self.squared_atoms = self.atoms**2
        steps = (slice(None, None, n) for n in SPARSE)
        self.sparse = torch.arange(len(order), device=order.device).view(size)[(*steps,)]
        self.sparse_atoms = self.atoms[:, self.sparse.flatten()].contiguous()
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
        columns = self._needed(data)
        volume, length, logits, noise = self._match(data, columns)
        used = (logits > -NEGLIGIBLE).any(dim=0)
        delays = used.view(-1, self.shapes).any(dim=1)
        first, last = columns.start > 0, columns.stop < len(self.penalty)
        if first and delays[0] or last and delays[-1]:  # some need more delays than it seemed
            columns = slice(0, len(self.penalty))
            volume, length, logits, noise = self._match(data, columns)
            used = (logits > -NEGLIGIBLE).any(dim=0)
        kept = used.nonzero()[:, 0]
        volume, length, logits = (part[:, kept] for part in (volume, length, logits))
        means, rates = self.means[columns][kept], self.rates[columns][kept]
        weights = logits.softmax(dim=1)
        log_alpha, mtt, delay, peak, *squares = (weights @ means).unbind(dim=1)
        own = (weights / length) @ rates**2 * noise
        cbf_cbv = ((weights := weights * volume) @ rates).clamp_min(1e-8)
        above = (weights * volume) @ rates**2 - cbf_cbv**2 + own
        times = torch.stack(squares, dim=1) - torch.stack([mtt, delay, peak], dim=1) ** 2
        log_cbf, log_cbv = cbf_cbv.log().unbind(dim=1)
        begin = torch.stack([log_cbv, log_alpha, log_cbv - log_cbf, delay], dim=1)
        return begin, torch.cat([above, times], dim=1).clamp_min(0)

    def _needed(self, data: NoisyCurves) -> slice:
        """Columns of the delays that voxels of a block may have, by a sparse choice of curves."""
        _, _, logits, _ = self._match(data, self.sparse.flatten(), self.sparse_atoms)
        likely = (logits > -NEGLIGIBLE).view(len(logits), len(self.sparse), -1).any(dim=2)
        found = likely.any(dim=0).nonzero()[:, 0] * SPARSE[0]
        first, last = int(found[0]) - SPARSE[0], int(found[-1]) + SPARSE[0]
        count = len(self.penalty) // self.shapes
        return slice(max(first, 0) * self.shapes, min(last + 1, count) * self.shapes)

    def _match(self, data: NoisyCurves, columns, atoms: torch.Tensor | None = None):
        """Best volume for each curve (n, k), its precision, log posterior, and noise (n, 1)."""
        if atoms is None:
            atoms, squared = self.atoms[:, columns], self.squared_atoms[:, columns]
        else:
            squared = atoms**2
        weighted, total = data.weights * data.curves, data.squares(data.curves)
        weighted -= data.shared * data.weights * weighted.sum(dim=1, keepdim=True)
        match = (weighted @ atoms).clamp_(min=0)
        common = (data.shared.sqrt() * data.weights) @ atoms
        length = (data.weights @ squared).addcmul_(common, common, value=-1).clamp_(min=1e-12)
        volume = torch.div(match, length, out=common)
        explained = match.mul_(volume)
        noise = (total - explained.amax(dim=1)) / (data.curves.shape[1] - 4)
        noise = (torch.maximum(noise, ROUNDING**2 * total) + 1e-30)[:, None]
        logits = explained.mul_(0.5 / noise).sub_(self.penalty[columns])
        return volume, length, logits.sub_(logits.amax(dim=1, keepdim=True)), noise
