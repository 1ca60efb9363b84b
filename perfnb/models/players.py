"""The two players of the game, and how each of them learns from a loss."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from perfnb.models import devices
from perfnb.models.networks import PatchDiscriminator, initialise, make_generator

BETAS = (0.5, 0.999)


@dataclass
class Networks:
    """Both players, their optimisers, the generator's moving average, which draws the maps, and
    the accelerator that places them.
    """

    generator: nn.Module
    discriminator: nn.Module
    averaged: nn.Module
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    accelerator: Accelerator


def make_networks(model_name: str, frames: int, settings: Mapping, device: str) -> Networks:
    """Build generator, discriminator and their Adam optimisers from a study's settings."""
    accelerator = devices.make_accelerator(device, settings["precision"])
    device = accelerator.device
    torch.manual_seed(settings["seed"])
    generator = make_generator(
        model_name, frames, settings["ngf"], settings["unet_ngf"], settings["upsampling"]
    ).to(device)
    discriminator = PatchDiscriminator(frames, settings["ndf"]).apply(initialise).to(device)
    adam = [
        accelerator.prepare_optimizer(
            torch.optim.Adam(network.parameters(), settings["learning_rate"], BETAS, fused=True)
        )
        for network in (generator, discriminator)
    ]
    return Networks(generator, discriminator, copy.deepcopy(generator), *adam, accelerator)


def learn(nets: Networks, player: str, loss: Tensor) -> None:
    """Let one player take one step down its loss: that of all processes' slices together."""
    network, optimizer = getattr(nets, player), getattr(nets, f"{player}_optimizer")
    optimizer.zero_grad()
    nets.accelerator.backward(loss)
    devices.average_gradients(network)
    optimizer.step()
