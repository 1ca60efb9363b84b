"""The temporal path of temp-pix2pix, computed on brain voxels only and yet exactly.

Outside the brain mask a prepared series has one value, so every background pixel goes through
the convolutions over time with the same result. One stand-in voxel carries that result, and
counts in the batch statistics as often as there are background pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        n, frames, height, width = series.shape
        if mask is None:
            mask = torch.ones((n, height, width), dtype=torch.bool, device=series.device)
        x = _gather(series, mask)
        outside = int(mask.numel() - x.shape[-1] + 1)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            kernel = convolution.weight.squeeze(-1).contiguous(memory_format=torch.channels_last)
            x = F.conv2d(x, kernel, stride=(2, 1), padding=(1, 0))
            x = self._normalise(x.to(norm.weight.dtype), norm, outside)
        return _scatter(x, mask)

    def dense(self, series: Tensor) -> Tensor:
        """Compute the same function as the paper writes it: `Conv3d` on every pixel."""
        x = series[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.leaky_relu(norm(convolution(x)), SLOPE)
        return x[:, :, 0]

    def _normalise(self, x: Tensor, norm: nn.BatchNorm3d, outside: int) -> Tensor:
        """Batch norm and LeakyReLU of (1, C, T, voxels + 1), the last voxel counted `outside` x."""
        if not self.training:
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * scale
            x = torch.addcmul(shift[:, None, None], x, scale[:, None, None])
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
        count = total(x.new_tensor(x.shape[2] * (x.shape[3] + extra)))
        mean = total(x.sum(dim=(0, 2, 3)) + extra * x[0, :, :, -1].sum(dim=1)) / count
        centred = x - _column(mean)
        square = (centred * centred).sum(dim=(0, 2, 3))
        var = total(square + extra * (centred[0, :, :, -1] ** 2).sum(dim=1)) / count
        inverse_std = torch.rsqrt(var + eps)
        out = torch.addcmul(_column(beta), centred, _column(gamma * inverse_std))
        out = F.leaky_relu_(out, SLOPE)
        ctx.save_for_backward(centred, out, inverse_std, gamma, count)
        ctx.extra = extra
        ctx.mark_non_differentiable(mean, var, count)
        return out, mean, var, count

    @staticmethod
    def backward(ctx, grad: Tensor, _mean, _var, _count):
        centred, out, inverse_std, gamma, count = ctx.saved_tensors
        grad = torch.ops.aten.leaky_relu_backward(grad, out, SLOPE, True)
        grad_beta = grad.sum(dim=(0, 2, 3))
        grad_gamma = (grad * centred).sum(dim=(0, 2, 3)) * inverse_std
        means = total(torch.stack([grad_beta, grad_gamma * inverse_std])) / count
        offset, slope = gamma * inverse_std * means
        grad = grad.mul_(_column(gamma * inverse_std))
        grad.addcmul_(centred, _column(-slope)).sub_(_column(offset))
        last = centred[0, :, :, -1]
        grad[0, :, :, -1] -= ctx.extra * (offset[:, None] + slope[:, None] * last)
        return grad, grad_gamma, grad_beta, None, None


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]


def _gather(series: Tensor, mask: Tensor) -> Tensor:
    """Return brain voxels and one background voxel as (1, 1, T, voxels + 1)."""
    frames = series.shape[1]
    voxels = series.permute(0, 2, 3, 1)[mask]
    outside = (~mask).flatten().nonzero()[:1, 0]
    if len(outside):
        n, pixel = divmod(int(outside), mask[0].numel())
        standin = series[n].reshape(frames, -1)[:, pixel]
    else:
        standin = series.new_zeros(frames)
    columns = torch.cat([voxels, standin[None]]).T[None, None]
    return columns.contiguous(memory_format=torch.channels_last)  # half as fast again on a CPU


def _scatter(x: Tensor, mask: Tensor) -> Tensor:
    """Put (1, C, 1, voxels + 1) back on the slices: (N, C, H, W), the last voxel outside."""
    features = x[0, :, 0].T
    index = torch.full(mask.shape, features.shape[0] - 1, dtype=torch.long, device=mask.device)
    index[mask] = torch.arange(features.shape[0] - 1, device=mask.device)
    n, height, width = mask.shape
    return features[index.flatten()].reshape(n, height, width, -1).permute(0, 3, 1, 2)
