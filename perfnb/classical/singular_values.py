"""Deconvolution by truncated singular values: one matrix product for all voxels.

Plain SVD inverts a lower triangular matrix and so mistakes delay for low flow; the block-circulant
one does not (Ostergaard et al. 1996, Magn Reson Med 36:715; Wu et al. 2003, ibid. 50:164).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from perfnb.classical.curves import EARLIEST_LAG_S, LATEST_LAG_S, PER_100_G

BLOCK = {"cpu": 4096, "cuda": 131072}  # voxels at once: what the cache or the memory holds
LEVELS = np.linspace(0.05, 0.80, 16)  # thresholds that the oscillation index chooses among


@dataclass(frozen=True)
class Operator:
    """A linear deconvolution and what follows from it.

    Attributes
    ----------
    inverse : float array, shape (T, L)
        ``tissue @ inverse`` is the residue at each lag [1/s].
    lags_s : float array, shape (L,)
        Lags, ascending [s].
    projection : float array, shape (T, T)
        ``tissue @ projection`` is the tissue curve that the whole residue explains.
    """

    inverse: np.ndarray
    lags_s: np.ndarray
    projection: np.ndarray


def lags(n_frames: int, repetition_time_s: float, circulant: bool) -> np.ndarray:
    """Lags [frames] among which a residue's maximum is believed, ascending."""
    before = min(int(-EARLIEST_LAG_S / repetition_time_s), n_frames // 2) if circulant else 0
    return np.arange(-before, min(int(LATEST_LAG_S / repetition_time_s) + 1, n_frames))


def operator(
    aif: np.ndarray, repetition_time_s: float, threshold: float, circulant: bool
) -> Operator:
    """Truncated inverse of the convolution with an arterial input.

    Parameters
    ----------
    aif : float array, shape (T,)
        Delta R2* of the artery [1/s].
    repetition_time_s : float
        Repetition time [s].
    threshold : float
        Singular values below this fraction of the largest are dropped.
    circulant : bool
        Pad with zeros to 2T and wrap around, instead of a lower triangular matrix.

    Returns
    -------
    Operator
    """
    n = len(aif)
    padded = np.concatenate([np.asarray(aif, float), np.zeros(n)]) * repetition_time_s
    size = 2 * n if circulant else n
    row, column = np.arange(n)[:, None], np.arange(size)[None, :]
    forward = padded[(row - column) % (2 * n)]  # (T, L): residue -> tissue; padding wraps to 0
    if circulant:
        spectrum = np.fft.fft(padded)
        inverse = np.zeros_like(spectrum)
        kept = np.abs(spectrum) >= threshold * np.abs(spectrum).max()
        inverse[kept] = 1 / spectrum[kept]
        full = np.fft.ifft(inverse).real[(column.T - row.T) % (2 * n)]  # (L, T)
    else:
        full = np.linalg.pinv(forward, rcond=threshold)
    window = lags(n, repetition_time_s, circulant)
    return Operator(full.T[:, window], window * repetition_time_s, (forward @ full).T)


@dataclass(frozen=True)
class Frequencies:
    """Block-circulant deconvolution split by frequency, each a cosine and a sine.

    `analysis` (T, R) turns tissue curves into coefficients, `synthesis` (R, 2T) those into
    residues [1/s], `forward` (R, T) into fitted curves; row i of `kept` (LEVELS, R) is 1 where
    a frequency survives threshold i.
    """

    analysis: np.ndarray
    synthesis: np.ndarray
    forward: np.ndarray
    kept: np.ndarray


def frequencies(aif: np.ndarray, repetition_time_s: float) -> Frequencies:
    """Split the block-circulant inverse of an AIF (T,) by frequency, from the lowest level on."""
    n = len(aif)
    spectrum = np.fft.rfft(np.asarray(aif, float), 2 * n) * repetition_time_s
    height = np.abs(spectrum) / np.abs(spectrum).max()
    kept = np.flatnonzero(height >= LEVELS[0])
    angle = np.pi / n * kept[:, None] * np.arange(2 * n)
    weight = np.where((kept == 0) | (kept == n), 1, 2)[:, None] / (2 * n)
    synthesis = np.concatenate([weight * np.cos(angle), -weight * np.sin(angle)])
    turned = np.exp(-1j * angle[:, :n]) / spectrum[kept, None]  # (K, T)
    passed = weight * np.exp(1j * angle[:, :n]) * spectrum[kept, None]
    return Frequencies(
        np.concatenate([turned.real, turned.imag]).T,
        synthesis,
        np.concatenate([passed.real, -passed.imag]),
        np.tile(height[kept] >= LEVELS[:, None], 2).astype(float),
    )


class Solver:
    """One of the three methods on a device: reads maps off blocks of voxels.

    Parameters
    ----------
    aif : float array, shape (T,)
        Delta R2* of the artery [1/s].
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        First frame of the bolus.
    method : str
        "SVD", "block-circulant SVD" or "oscillation-index SVD".
    threshold : float
        Singular values below this fraction of the largest are dropped; for the third method,
        the oscillation index that a residue may have.
    like : tensor
        Its dtype and device are those of the work.
    """

    def __init__(self, aif, repetition_time_s, arrival, method, threshold, like):
        self.step_s, self.arrival = repetition_time_s, arrival
        self.aif_area = float(np.sum(aif[arrival:]))
        self.aif_peak = float(_peak(torch.as_tensor(aif, dtype=torch.float64)[None])[0])
        n = len(aif)
        lag = lags(n, repetition_time_s, method != "SVD")
        self.lags, self.limit = torch.as_tensor(lag).to(like), None
        if method == "oscillation-index SVD":
            self.limit = threshold * 2 * n
            parts = frequencies(aif, repetition_time_s)
            self.analysis, self.synthesis = (
                torch.as_tensor(m).to(like).contiguous() for m in (parts.analysis, parts.synthesis)
            )
            self.kept = torch.as_tensor(parts.kept).to(like)
            read = np.concatenate([parts.synthesis[:, lag], parts.forward], axis=1)
            gain = [parts.analysis @ (k[:, None] * parts.synthesis[:, lag]) for k in parts.kept]
            lost = [n - k.sum() for k in parts.kept * (parts.analysis * parts.forward.T).sum(0)]
        else:
            o = operator(aif, repetition_time_s, threshold, method != "SVD")
            read = np.concatenate([o.inverse, o.projection], axis=1)
            gain, lost = [o.inverse], [n - np.trace(o.projection)]
        self.read = torch.as_tensor(read).to(like).contiguous()
        self.gain = torch.as_tensor(np.linalg.norm(gain, axis=1)).to(like)  # (levels, lags)
        self.freedom = torch.as_tensor(np.asarray(lost)).to(like)

    def block(self, data: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps, residual and standard errors of tissue curves (n, T).

        Returns
        -------
        maps : tensor, shape (n, 5)
            CBF [ml/100 g/min], CBV [ml/100 g], MTT, Tmax, TTP [s].
        residual : tensor, shape (n,)
            Root mean square of data minus explained curve [1/s].
        errors : tensor, shape (n, 3)
            Standard errors of CBF, CBV and MTT from the noise; truncation's bias is not in them.
        """
        level = torch.zeros(1, dtype=torch.long, device=data.device)
        basis = data
        if self.limit is not None:
            basis = data @ self.analysis
            level = self.levels(basis)
            basis = basis * self.kept[level]
        both = basis @ self.read
        residue, fit = both[:, : len(self.lags)], both[:, len(self.lags) :]
        smooth = fit[:, max(self.arrival - 1, 0) :]
        smooth = (smooth[:, :-2] + smooth[:, 2:]).add_(smooth[:, 1:-1], alpha=2)
        peak = _peak(smooth)[0] + max(self.arrival, 1)
        top, flow = self.maximum(residue, peak)
        squares = (data - fit).square_().sum(dim=1)
        noise = (squares / self.freedom[level]).sqrt()
        place = (top - self.lags[0]).round().long()
        area = data[:, self.arrival :].sum(dim=1) / self.aif_area
        cbf, cbv = 60 * PER_100_G * flow.clamp_min(0), PER_100_G * area.clamp_min(0)
        mtt = 60 * cbv / cbf
        cbf_error = 60 * PER_100_G * noise * self.gain[level, place]
        frames = data.shape[1] - self.arrival
        baseline = 1 + frames / self.arrival if self.arrival else 1.0  # its error is shared
        cbv_error = PER_100_G * noise * (frames * baseline) ** 0.5 / self.aif_area
        mtt_error = mtt * torch.hypot(cbf_error / cbf, cbv_error / cbv)
        maps = torch.stack([cbf, cbv, mtt, top * self.step_s, peak * self.step_s], dim=1)
        errors = torch.stack([cbf_error, cbv_error, mtt_error], dim=1)
        return maps, (squares / data.shape[1]).sqrt(), errors

    def maximum(self, residue: torch.Tensor, peak: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Lag [frames] and height of each residue's maximum, no later than the curve allows.

        A residue falls from its maximum on, so the tissue curve rises at least until that lag
        after the AIF's peak: the tissue's peak bounds the lag, and noise in the residue's tail
        cannot win. One frame is allowed for the error of the peaks.
        """
        latest = (peak - self.aif_peak + 1).clamp_min(self.lags[0] + 2)
        believed = residue.masked_fill(self.lags > latest[:, None], -torch.inf)
        return _peak(believed, residue, float(self.lags[0]))

    def levels(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Lowest threshold of LEVELS at which each residue oscillates no more than allowed.

        Oscillation falls as the threshold grows, so bisection finds it.
        """
        low = torch.zeros(len(coefficients), dtype=torch.long, device=coefficients.device)
        high = torch.full_like(low, len(LEVELS) - 1)
        for _ in range(int(np.ceil(np.log2(len(LEVELS))))):
            middle = (low + high) // 2
            residue = (coefficients * self.kept[middle]) @ self.synthesis
            bend = residue[:, 2:] + residue[:, :-2]
            bend.sub_(residue[:, 1:-1], alpha=2)
            swing = torch.linalg.vector_norm(bend, ord=1, dim=1)
            smooth = swing <= self.limit * residue.amax(dim=1)
            high = torch.where(smooth, middle, high)
            low = torch.where(smooth, low, torch.minimum(middle + 1, high))
        return high


def _peak(
    curves: torch.Tensor, values: torch.Tensor | None = None, first: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Place and height of each maximum (n,), by a parabola through three `values` around it."""
    values = curves if values is None else values
    top = curves.argmax(dim=1, keepdim=True)
    inside = top.clamp(1, curves.shape[1] - 2)
    left, middle, right = (values.gather(1, inside + step)[:, 0] for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = torch.where(bend < 0, (left - right) / (2 * bend), torch.zeros_like(bend))
    shift = torch.where((inside == top)[:, 0], shift.clamp(-0.5, 0.5), torch.zeros_like(bend))
    height = torch.where((inside == top)[:, 0], middle, values.gather(1, top)[:, 0])
    return top[:, 0] + shift + first, height - 0.25 * (left - right) * shift


def read_maps(tissue: torch.Tensor, solver: Solver) -> tuple[torch.Tensor, ...]:
    """All voxels' maps (N, 5), residuals (N,) and standard errors (N, 3), block by block."""
    parts = [
        solver.block(rows)
        for rows in torch.split(tissue, BLOCK.get(tissue.device.type, BLOCK["cuda"]))
    ]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))
