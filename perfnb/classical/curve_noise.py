"""What the noise of delta R2* is like, for fits that weigh frames by it."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class NoisyCurves:
    """Curves to fit (n, T') from the arrival on and the inverse covariance of their noise.

    That is diag(weights) - shared * weights weights^T: uneven noise and a baseline's error.
    """

    curves: torch.Tensor
    weights: torch.Tensor
    shared: torch.Tensor  # (n, 1)

    def __getitem__(self, rows) -> NoisyCurves:
        return NoisyCurves(self.curves[rows], self.weights[rows], self.shared[rows])

    def squares(self, residual: torch.Tensor) -> torch.Tensor:
        """Weighted sum of squares (n,) of residuals (n, T')."""
        weighted = self.weights * residual
        common = weighted.sum(dim=1)
        return (weighted * residual).sum(dim=1) - self.shared[:, 0] * common**2

    def curvature(self, jacobian, residual) -> tuple[torch.Tensor, torch.Tensor]:
        """Gauss-Newton curvature (n, 4, 4) and ascent (n, 4) for noise of variance 1."""
        weighted = jacobian * self.weights[:, None]
        common = weighted.sum(dim=2)
        curvature = torch.bmm(weighted, jacobian.transpose(1, 2))
        curvature -= self.shared[:, :, None] * common[:, :, None] * common[:, None, :]
        ascent = torch.bmm(weighted, residual[:, :, None])[:, :, 0]
        mean = (self.weights * residual).sum(dim=1, keepdim=True)
        return curvature, ascent - self.shared * common * mean


def noisy_curves(tissue: torch.Tensor, arrival: int, echo_time_s: float) -> NoisyCurves:
    """Curves (n, T) from the arrival on with the covariance of their noise."""
    smooth = torch.nn.functional.pad(tissue[:, None], (2, 2), mode="replicate")
    kernel = tissue.new_tensor([[[1.0, 4.0, 6.0, 4.0, 1.0]]]) / 16
    smooth = torch.nn.functional.conv1d(smooth, kernel)[:, 0, arrival:]
    weights = torch.exp(-2 * echo_time_s * smooth.clamp_min(0))
    total = weights.sum(dim=1, keepdim=True)
    shared = 1 / (arrival + total) if arrival else torch.zeros_like(total)
    return NoisyCurves(tissue[:, arrival:], weights, shared)
