"""Batches of training slices: their order, each process's share, and what is varied in them."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from perfnb.data.slices import Slices
from perfnb.models.devices import own_share


def batches(slices: Slices, batch_size: int, order: torch.Generator) -> DataLoader:
    """Return this process's share of full batches in a random order.

    The last, incomplete batch is left out, unless it is the only one.
    """
    whole = torch.randperm(len(slices), generator=order).split(batch_size)
    if len(whole) > 1 and len(whole[-1]) < batch_size:
        whole = whole[:-1]
    return DataLoader(slices, batch_sampler=[own_share(rows).tolist() for rows in whole])


def one_ahead(loader: Iterable) -> Iterator:
    """Yield the batches of a loader, and read the next one meanwhile, in a thread.

    A step computes outside of Python nearly all its time, so that reading hides behind it. One
    batch more is held; order and values are the loader's.
    """
    source, end = iter(loader), object()
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, source, end)
        while (batch := coming.result()) is not end:
            coming = reader.submit(next, source, end)
            yield batch


def toss(batch_size: int, coin: torch.Generator) -> Tensor:
    """Return for each of this process's slices of a batch whether it is mirrored, shape (N,)."""
    return own_share(torch.rand(batch_size, generator=coin) < 0.5)


def mirrored(images: Tensor, tossed: Tensor) -> Tensor:
    """Mirror the tossed slices of (N, ..., H, W) left to right.

    Either side of a brain may be ill, so this shows twice as many strokes. The paper has none.
    """
    tossed = tossed[: len(images)].to(images.device)
    return torch.where(tossed.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)


def draw_shifts(batch_size: int, largest: int, coin: torch.Generator) -> Tensor:
    """Return by how many frames each of this process's films begins earlier or later, (N,)."""
    return own_share(torch.randint(-largest, largest + 1, (batch_size,), generator=coin))


def shifted(series: Tensor, shifts: Tensor) -> Tensor:
    """Let films (N, T, H, W) come earlier or later; the first or last frame fills the gap.

    The bolus is found to arrive a frame too early in one film, too late in another. A network
    that never saw that takes a late one for an illness. The paper has none of this.
    """
    frames = series.shape[1]
    index = torch.arange(frames) - shifts[: len(series), None]
    index = index.clamp(0, frames - 1).to(series.device)
    return series.gather(1, index[:, :, None, None].expand_as(series))
