"""Batch norm whose statistics are those of the whole batch, however many processes share it.

torch's own SyncBatchNorm wants GPUs; this one also runs on processors.
"""

import torch
from torch import Tensor, nn

from perfnb.models.devices import process_count, total


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, with statistics summed over all processes that train together."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) by its own statistics in training, else by the running ones."""
        if not self.training or process_count() == 1:
            return super().forward(x)
        out, mean, var, count = _SharedNorm.apply(
            x.to(self.weight.dtype), self.weight, self.bias, self.eps
        )
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1).clamp(min=1)), self.momentum)
        return out


class _SharedNorm(torch.autograd.Function):
    """Batch norm over (N, H, W) of all processes (Ioffe and Szegedy 2015, section 3)."""

    @staticmethod
    def forward(ctx, x: Tensor, gamma: Tensor, beta: Tensor, eps: float):
        count = total(x.new_tensor(x.numel() // x.shape[1]))
        mean = total(x.sum(dim=(0, 2, 3))) / count
        centred = x - mean[:, None, None]
        var = total((centred * centred).sum(dim=(0, 2, 3))) / count
        inverse_std = torch.rsqrt(var + eps)
        ctx.save_for_backward(centred, inverse_std, gamma, count)
        ctx.mark_non_differentiable(mean, var, count)
        scale = (gamma * inverse_std)[:, None, None]
        return torch.addcmul(beta[:, None, None], centred, scale), mean, var, count

    @staticmethod
    def backward(ctx, grad: Tensor, _mean, _var, _count):
        centred, inverse_std, gamma, count = ctx.saved_tensors
        grad_beta = grad.sum(dim=(0, 2, 3))
        grad_gamma = (grad * centred).sum(dim=(0, 2, 3)) * inverse_std
        offset, slope = total(torch.stack([grad_beta, grad_gamma * inverse_std])) / count
        inner = grad - offset[:, None, None] - centred * slope[:, None, None]
        return inner * (gamma * inverse_std)[:, None, None], grad_gamma, grad_beta, None
