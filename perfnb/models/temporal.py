"""The temporal path of temp-pix2pix, computed on brain voxels only and yet exactly.

Outside the brain mask a prepared series has one value, so every background pixel goes through
the convolutions over time with the same result. One stand-in voxel carries that result, and
counts in the batch statistics as often as there are background pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfnb.models import voxels
from perfnb.models.devices import total

SLOPE = 0.2


class TemporalPath(nn.Module):
    """Six convolutions over time (kernel 4, stride 2), each with batch norm and LeakyReLU.

    Parameters
    ----------
    frames : int
        Time points of the series; six halvings must leave one (80-40-20-10-5-2-1).
    widths : list of int
        Channels after each convolution.
    """

    def __init__(self, frames: int, widths: list[int]):
        super().__init__()
        left = frames
        for _ in widths:
            left = (left - 2) // 2 + 1
        if left != 1:
            raise ValueError(
                f"frames={frames}: {len(widths)} halvings leave {left} time points, not 1; "
                "expected 64 to 127 for six"
            )
        sources = [1, *widths[:-1]]
        self.out_channels = widths[-1]
        self.convolutions = nn.ModuleList(
            nn.Conv3d(a, b, (4, 1, 1), (2, 1, 1), (1, 0, 0), bias=False)
            for a, b in zip(sources, widths, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm3d(w) for w in widths)

    def forward(self, series: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map a series (N, T, H, W) to features (N, C, H, W).

        Parameters
        ----------
        series : float tensor, shape (N, T, H, W)
            Prepared slices: one value, the same in all frames, wherever `mask` is False.
        mask : bool tensor, shape (N, H, W), optional
            Brain pixels; None computes every pixel.
        """
        if mask is None:
            n, _, height, width = series.shape
            mask = torch.ones((n, height, width), dtype=torch.bool, device=series.device)
        x = voxels.gather(series, mask)
        outside = int(mask.numel() - x.shape[-1] + 1)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = voxels.convolve(x, convolution.weight)
            x = self._normalise(x.to(norm.weight.dtype), norm, outside)
        return voxels.scatter(x[0], mask)

    def dense(self, series: Tensor) -> Tensor:
        """Compute the same function as the paper writes it: `Conv3d` on every pixel."""
        x = series[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.leaky_relu(norm(convolution(x)), SLOPE)
        return x[:, :, 0]

    def _normalise(self, x: Tensor, norm: nn.BatchNorm3d, outside: int) -> Tensor:
        """Batch norm and LeakyReLU of (T, C, voxels + 1), the last voxel counted `outside` x."""
        if not self.training:
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * scale
            x = x * scale[:, None] + shift[:, None]
            return F.leaky_relu(x, SLOPE, inplace=not torch.is_grad_enabled())
        out, mean, var, count = _WeightedNorm.apply(x, norm.weight, norm.bias, outside, norm.eps)
        with torch.no_grad():
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(var * (count / (count - 1).clamp(min=1)), norm.momentum)
        return out


class _WeightedNorm(torch.autograd.Function):
    """Batch norm over voxels and time with LeakyReLU, the last voxel having a weight of its own.

    Written out, because autograd through weighted sums walks over the activations twice as often.
    With weights w, their sum W, x^ = (x - mean) / std and g the gradient behind the LeakyReLU:
    dx = gamma / std * (g - w / W * (sum g + x^ sum g x^)).
    Sums run over all processes that share the batch.
    """

    @staticmethod
    def forward(ctx, x: Tensor, gamma: Tensor, beta: Tensor, outside: int, eps: float):
        extra = outside - 1
        count = total(x.new_tensor(x.shape[0] * (x.shape[2] + extra)))
        mean = total(x.sum(dim=(0, 2)) + extra * x[:, :, -1].sum(dim=0)) / count
        centred = x - mean[:, None]
        square = (centred * centred).sum(dim=(0, 2))
        var = total(square + extra * (centred[:, :, -1] ** 2).sum(dim=0)) / count
        inverse_std = torch.rsqrt(var + eps)
        out = (centred * (gamma * inverse_std)[:, None]).add_(beta[:, None])  # addcmul is slower
        out = F.leaky_relu_(out, SLOPE)
        ctx.save_for_backward(centred, out, inverse_std, gamma, count)
        ctx.extra = extra
        ctx.mark_non_differentiable(mean, var, count)
        return out, mean, var, count

    @staticmethod
    def backward(ctx, grad: Tensor, _mean, _var, _count):
        centred, out, inverse_std, gamma, count = ctx.saved_tensors
        grad = torch.ops.aten.leaky_relu_backward(grad, out, SLOPE, True)
        grad_beta = grad.sum(dim=(0, 2))
        grad_gamma = (grad * centred).sum(dim=(0, 2)) * inverse_std
        means = total(torch.stack([grad_beta, grad_gamma * inverse_std])) / count
        offset, slope = (gamma * inverse_std * means)[:, :, None]
        last = centred[:, :, -1:]
        of_extra = ctx.extra * (offset + slope * last)
        grad = grad.mul_((gamma * inverse_std)[:, None]).sub_(offset).sub_(centred * slope)
        grad[:, :, -1:] -= of_extra
        return grad, grad_gamma, grad_beta, None, None
