"""A trained generator made ready to draw: batch norm folded into the convolutions before it.

At test time batch norm is one factor and one offset a channel, which the weights before it can
carry. What is left of a layer is a product and a LeakyReLU, small enough to stay in the cache.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfnb.models import voxels
from perfnb.models.temporal import SLOPE, TemporalPath

BLOCK = 1024  # voxels, on a processor: what passes from layer to layer stays in its cache


def fold(generator: nn.Module) -> nn.Module:
    """Return a copy of a generator, in eval mode, that draws the same maps with less arithmetic.

    Batch norm with running statistics is gone, and the temporal path works through blocks of
    voxels. The copy cannot be trained; folded once more, it is returned as it is.

    Parameters
    ----------
    generator : nn.Module
        Of `perfnb.models.networks`, called as `generator(series, mask)`.
    """
    if getattr(generator, "is_folded", False):
        return generator
    folded = copy.deepcopy(generator).eval().requires_grad_(False)
    folded.is_folded = True
    if isinstance(getattr(folded, "temporal", None), TemporalPath):
        folded.temporal = FoldedPath(folded.temporal)
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
    return folded.to(memory_format=torch.channels_last)


class FoldedPath(nn.Module):
    """The temporal path with batch norm folded, on brain voxels, block by block.

    Parameters
    ----------
    path : TemporalPath
        Its running statistics are those that the maps are drawn with.
    block : int
        Voxels that go through all six layers together.
    """

    def __init__(self, path: TemporalPath, block: int = BLOCK):
        super().__init__()
        self.block = block
        self.matrices, self.offsets = [], []
        for convolution, norm in zip(path.convolutions, path.norms, strict=True):
            scale, offset = scale_and_offset(norm)
            self.matrices.append((voxels.as_matrix(convolution.weight) * scale[:, None]).detach())
            self.offsets.append(offset[:, None].detach())

    def forward(self, series: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map a series (N, T, H, W) to features (N, C, H, W), as `TemporalPath` does."""
        if mask is None:
            mask = torch.ones_like(series[:, 0], dtype=torch.bool)
        x = voxels.gather(series, mask)
        features = x.new_empty(len(self.offsets[-1]), x.shape[2])
        size = self.block if x.device.type == "cpu" else x.shape[2]
        for first in range(0, x.shape[2], size):
            part = slice(first, first + size)
            features[:, part] = self._layers(x[:, :, part].contiguous())
        return voxels.scatter(features, mask)

    def _layers(self, x: Tensor) -> Tensor:
        for matrix, offset in zip(self.matrices, self.offsets, strict=True):
            out = x.new_empty(len(x) // voxels.STRIDE, len(matrix), x.shape[2])
            x = F.leaky_relu_(voxels.multiply(x, matrix, out).add_(offset), SLOPE)
        return x[0]


def scale_and_offset(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return what batch norm multiplies each channel by and adds to it at test time."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _fold_sequence(layers: nn.Sequential) -> None:
    """Fold each batch norm of a sequence into the convolution right before it."""
    for i, norm in enumerate(layers):
        if isinstance(norm, nn.BatchNorm2d):
            convolution = layers[i - 1]
            scale, offset = scale_and_offset(norm)
            channel = 1 if isinstance(convolution, nn.ConvTranspose2d) else 0
            shape = [-1 if axis == channel else 1 for axis in range(convolution.weight.ndim)]
            if convolution.bias is not None:
                offset = offset + scale * convolution.bias
            convolution.weight = nn.Parameter(convolution.weight * scale.view(shape), False)
            convolution.bias = nn.Parameter(offset, False)
            layers[i] = nn.Identity()
