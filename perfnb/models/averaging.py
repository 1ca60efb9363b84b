"""The generator's moving average, which validates and draws the maps."""

import itertools
from collections.abc import Mapping

import torch
from torch import nn

from perfnb.data.slices import Slices
from perfnb.models.batches import batches

STATISTICS_BATCHES = 25


class Follower:
    """Lets an averaged generator follow a trained one: w <- decay w + (1 - decay) new.

    The last steps of a GAN jump about; their mean over some hundred steps draws steadier maps
    (Yazici et al. 2019). The paper has no averaging: decay 0.
    """

    def __init__(self, averaged: nn.Module, trained: nn.Module, decay: float):
        self.decay = decay
        pairs = list(
            zip(averaged.state_dict().values(), trained.state_dict().values(), strict=True)
        )
        self._floating = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take one step; the first steps follow faster."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*map(list, zip(*self._floating, strict=True)), 1 - decay)
        for value, newest in self._counts:
            value.copy_(newest)


@torch.no_grad()
def renew_statistics(generator: nn.Module, slices: Slices, settings: Mapping, epoch: int) -> None:
    """Measure the batch-norm statistics of averaged weights on some training batches.

    Averages of the statistics belong to none of the networks they came from (Izmailov et al.
    2018, section 3.2), and a generator with statistics not its own draws maps that are off.
    """
    device = next(generator.parameters()).device
    norms = [module for module in generator.modules() if hasattr(module, "running_mean")]
    momenta = [norm.momentum for norm in norms]
    order = torch.Generator().manual_seed(settings["seed"] * 10_009 + epoch)
    loader = batches(slices, settings["batch_size"], order)
    generator.train()
    for seen, batch in enumerate(itertools.islice(loader, STATISTICS_BATCHES), start=1):
        for norm in norms:
            norm.momentum = 1 / seen  # the plain mean over all batches
        generator(batch["series"].to(device), batch["mask"].to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
