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
    inside = [pixels[n].index_select(1, where) for n, where in enumerate(map(_positions, mask))]
    outside = (~mask).flatten().nonzero()[:1, 0]
    if len(outside):
        n, pixel = divmod(int(outside), mask[0].numel())
        standin = pixels[n, :, pixel : pixel + 1]
    else:
        standin = series.new_zeros(series.shape[1], 1)
    return torch.cat([*inside, standin], dim=1)[:, None]


def scatter(features: Tensor, mask: Tensor) -> Tensor:
    """Put (C, voxels + 1) back on slices, (N, C, H, W): the last voxel is the background's."""
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
    """Return a kernel (D, C, 4, 1, 1) as (D, 4 C): all channels of a frame, then of the next."""
    return kernel.flatten(2).transpose(1, 2).flatten(1)


def multiply(x: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
    """Fill `out` (T // 2, D, voxels) with the convolution of (T, C, voxels) by `as_matrix`."""
    inner, edges = _outputs(*x.shape[:2], len(out))
    if inner.stop > inner.start:
        windows = _windows(x, inner)
        torch.bmm(matrix.expand(len(windows), -1, -1), windows, out=out[inner])
    for t, frames, columns in edges:
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
        inner, edges = _outputs(*x.shape[:2], len(grad))
        of_matrix = torch.bmm(grad[inner], _windows(x, inner).transpose(1, 2)).sum(dim=0)
        for t, frames, columns in edges:
            of_matrix[:, columns] += grad[t] @ x[frames].flatten(0, 1).T
        of_kernel = of_matrix.unflatten(1, (KERNEL, channels)).transpose(1, 2)[..., None, None]
        of_x = _transposed(grad, matrix, torch.zeros_like(x)) if ctx.needs_input_grad[0] else None
        return of_x, of_kernel


def _transposed(grad: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
    """Fill `out` (T, C, voxels) with the gradient of `multiply` with respect to its input.

    Frames 2t - 1 and 2t saw the outputs t - 1 (by the kernel's second half) and t (by its first).
    """
    halves = torch.cat(matrix.split(STRIDE * out.shape[1], dim=1)[::-1]).T  # (2 C, 2 D)
    before, after = halves.split(len(matrix), dim=1)
    inner = len(grad) - 1
    if inner:
        seen = grad.as_strided((inner, 2 * grad.shape[1], grad.shape[2]), grad.stride())
        pairs = out[1 : 1 + STRIDE * inner].view(inner, -1, out.shape[2])
        torch.bmm(halves.contiguous().expand(inner, -1, -1), seen, out=pairs)
    torch.mm(after[out.shape[1] :], grad[0], out=out[0])
    last = out[1 + STRIDE * inner :]
    torch.mm(before[: len(last) * out.shape[1]], grad[-1], out=last.view(-1, out.shape[2]))
    return out


def _outputs(frames: int, channels: int, count: int) -> tuple[slice, list]:
    """Return the outputs that see four frames, and (t, frames seen, columns) of the others."""
    edges = []
    for t in (0, count - 1)[: min(count, 2)]:
        start = STRIDE * t - PAD
        first, last = max(start, 0), min(start + KERNEL, frames)
        columns = slice((first - start) * channels, (last - start) * channels)
        edges.append((t, slice(first, last), columns))
    return slice(1, max(count - 1, 1)), edges


def _windows(x: Tensor, inner: slice) -> Tensor:
    """Return the four frames under the kernel, (outputs, 4 C, voxels), as views that overlap."""
    frames, channels, voxels = x.shape
    step = channels * voxels
    shape = (inner.stop - inner.start, KERNEL * channels, voxels)
    return x.as_strided(shape, (STRIDE * step, voxels, 1), x.storage_offset() + step)


class _Scatter(torch.autograd.Function):
    """Copies rows of channels, so that slices come channels last, as convolutions like them."""

    @staticmethod
    def forward(ctx, features: Tensor, mask: Tensor):
        inside = _positions(mask)
        row = torch.full((mask.numel(),), features.shape[1] - 1, device=mask.device)
        row[inside] = torch.arange(len(inside), device=mask.device)
        ctx.save_for_backward(mask)
        out = features.T.contiguous().index_select(0, row)
        return out.view(*mask.shape, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (mask,) = ctx.saved_tensors
        rows = grad.permute(0, 2, 3, 1).flatten(0, 2)
        outside = (rows * ~mask.reshape(-1, 1)).sum(dim=0)
        return torch.cat([rows.index_select(0, _positions(mask)), outside[None]]).T, None


def _positions(mask: Tensor) -> Tensor:
    return mask.flatten().nonzero()[:, 0]
