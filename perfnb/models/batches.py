"""Batches of training slices: their order, and their mirror images."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from perfnb.data.slices import Slices


def batches(slices: Slices, batch_size: int, order: torch.Generator) -> DataLoader:
    """Full batches in a random order; the last, incomplete one is left out."""
    last = len(slices) > batch_size
    return DataLoader(slices, batch_size, shuffle=True, generator=order, drop_last=last)


def mirrored(*images: Tensor, coin: torch.Generator) -> tuple[Tensor, ...]:
    """Mirror half of a batch's slices left to right, by the toss of a coin; (N, ..., H, W) each.

    Either side of a brain may be ill, so this shows twice as many strokes. The paper has none.
    """
    tossed = torch.rand(len(images[0]), generator=coin) < 0.5
    return tuple(
        torch.where(tossed.to(x.device).view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
        for x in images
    )
