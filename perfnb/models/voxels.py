"""Convolutions over time for a list of voxels, as matrix products.

Voxels lie last, (T, C, voxels): the four frames under a kernel are then one matrix that needs no
copying, and the kernel is the other. A library's convolution, made for images, reaches a fraction
of the speed, and prepares itself anew for every number of voxels.
"""

import torch
from torch import Tensor

KERNEL, STRIDE, PAD = 4, 2, 1


def gather(series: Tensor, mask: Tensor) -> Tensor:
    """Return brain voxels and one background voxel, which stands for all, (T, 1, voxels + 1).

    Parameters
    ----------
    series : float tensor, shape (N, T, H, W)
        One value, the same in all frames, wherever `mask` is False.
    mask : bool tensor, shape (N, H, W)
        Brain. Without background the last voxel is 0, and counts for nothing.
    """
    pixels = series.flatten(2)
    inside = [pixels[n].index_select(1, where) for n, where in enumerate(_positions(mask))]
    outside = (~mask).flatten().nonzero()[:1, 0]
    if len(outside):
        n, pixel = divmod(int(outside), mask[0].numel())
        standin = pixels[n, :, pixel : pixel + 1]
    else:
        standin = series.new_zeros(series.shape[1], 1)
    return torch.cat([*inside, standin], dim=1)[:, None]


def scatter(features: Tensor, mask: Tensor) -> Tensor:
    """Put (C, voxels + 1) back on slices: (N, C, H, W), the last voxel wherever there is no brain."""
    return _Scatter.apply(features, mask)


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve (T, C, voxels) over time: (T // 2, D, voxels), as `Conv3d` (4, 1, 1) does.

    Parameters
    ----------
    x : float tensor, shape (T, C, voxels)
        One frame of zeros is thought before the first and behind the last.
    kernel : float tensor, shape (D, C, 4, 1, 1)
        Weights, with stride 2.
    """
    return _Convolution.apply(x, kernel)


def as_matrix(kernel: Tensor) -> Tensor:
    """Return a kernel (D, C, 4, 1, 1) as (D, 4 C): the columns are those of one frame, then the next."""
    return kernel.flatten(2).transpose(1, 2).flatten(1)


def multiply(x: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
    """Fill `out` (T // 2, D, voxels) with the convolution of (T, C, voxels) by `as_matrix`."""
    for t in range(len(out)):
        frames, columns = _window(t, *x.shape[:2])
        torch.mm(matrix[:, columns], x[frames].flatten(0, 1), out=out[t])
    return out


class _Convolution(torch.autograd.Function):
    """`multiply` with its gradients, each a matrix product as well."""

    @staticmethod
    def forward(ctx, x: Tensor, kernel: Tensor):
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x, kernel = (v.to(torch.get_autocast_dtype(device)) for v in (x, kernel))
        matrix = as_matrix(kernel).contiguous()
        ctx.save_for_backward(x, matrix)
        return multiply(x, matrix, x.new_empty(len(x) // STRIDE, len(matrix), x.shape[2]))

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, matrix = ctx.saved_tensors
        grad, channels = grad.contiguous(), x.shape[1]
        of_matrix = torch.zeros_like(matrix)
        for t in range(len(grad)):
            frames, columns = _window(t, *x.shape[:2])
            of_matrix[:, columns].addmm_(grad[t], x[frames].flatten(0, 1).T)
        of_kernel = of_matrix.unflatten(1, (KERNEL, channels)).transpose(1, 2)[..., None, None]
        of_x = _transposed(grad, matrix, torch.zeros_like(x)) if ctx.needs_input_grad[0] else None
        return of_x, of_kernel


def _transposed(grad: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
    """Fill `out` (T, C, voxels) with the gradient of `multiply` with respect to its input.

    Frames 2t - 1 and 2t saw the outputs t - 1 (by the kernel's second half) and t (by its first).
    """
    channels = out.shape[1]
    halves = torch.cat(matrix.split(STRIDE * channels, dim=1)[::-1]).T.contiguous()  # (2 C, 2 D)
    for t in range(len(grad) + 1):
        seen, by = slice(max(t - 1, 0), t + 1), slice(0, None)
        if t == 0:
            by = slice(len(matrix), None)
        elif t == len(grad):
            by = slice(0, len(matrix))
        first, last = STRIDE * t - 1, min(STRIDE * t + 1, len(out))
        rows = slice(max(-first, 0) * channels, (last - first) * channels)
        first = max(first, 0)
        if first < last:
            torch.mm(
                halves[rows, by], grad[seen].flatten(0, 1), out=out[first:last].flatten(0, 1)
            )
    return out


def _window(t: int, frames: int, channels: int) -> tuple[slice, slice]:
    """Return which frames output t sees, and which columns of the matrix belong to them."""
    start = STRIDE * t - PAD
    first, last = max(start, 0), min(start + KERNEL, frames)
    return slice(first, last), slice((first - start) * channels, (last - start) * channels)


class _Scatter(torch.autograd.Function):
    """Copies to brain and background, and their gradients without going through every pixel."""

    @staticmethod
    def forward(ctx, features: Tensor, mask: Tensor):
        n, height, width = mask.shape
        out = features.new_empty(n, len(features), height * width)
        out.copy_(features[:, -1:])
        places = _positions(mask)
        parts = features[:, :-1].split([len(where) for where in places], dim=1)
        for drawn, where, part in zip(out, places, parts, strict=True):
            drawn.index_copy_(1, where, part)
        ctx.save_for_backward(mask)
        return out.unflatten(2, (height, width))

    @staticmethod
    def backward(ctx, grad: Tensor):
        (mask,) = ctx.saved_tensors
        pixels = grad.flatten(2)
        inside = [pixels[n].index_select(1, where) for n, where in enumerate(_positions(mask))]
        outside = (pixels * ~mask.flatten(1)[:, None]).sum(dim=(0, 2))
        return torch.cat([*inside, outside[:, None]], dim=1), None


def _positions(mask: Tensor) -> list[Tensor]:
    return [inside.flatten().nonzero()[:, 0] for inside in mask]
