"""The game of two losses on a few slices, step by step: small, quick, and all on the table.

`training` is what models are trained with. This is the same step in plain sight: no averaging,
no plateau, no checkpoint, and the share of right verdicts beside the losses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate

from perfnb.data.slices import Slices
from perfnb.models import averaging, inference
from perfnb.models.players import Networks, learn, make_networks
from perfnb.models.snapshots import choose_epochs
from perfnb.models.training import adversarial_loss

FRAMES = 9


@dataclass(frozen=True)
class Game:
    """How a game went.

    Attributes
    ----------
    generator : nn.Module
        As it was after the last step.
    losses : DataFrame
        One row a step, counted from 1: l1 [scaled, per brain pixel], adversarial, discriminator,
        and right, the share of right verdicts.
    maps : {step: float32 array, shape (N, H, W)}
        The watched slices as drawn after some of the steps, scaled; the last step is the last.
    """

    generator: nn.Module
    losses: pd.DataFrame
    maps: dict[int, np.ndarray]


def play_step(
    nets: Networks, series: Tensor, reference: Tensor, mask: Tensor, settings: Mapping
) -> dict[str, float]:
    """Let the discriminator learn to judge, then the generator to be near and to be believed."""
    generated = inference.draw(nets.generator, series, mask)
    real = nets.discriminator(series, reference)
    fake = nets.discriminator(series, generated.detach())
    judged = (adversarial_loss(real, is_real=True) + adversarial_loss(fake, is_real=False)) / 2
    learn(nets, "discriminator", judged)

    adversarial = adversarial_loss(nets.discriminator(series, generated), is_real=True)
    l1 = F.l1_loss(generated, reference)
    loss = settings["adversarial_weight"] * adversarial + settings["l1_weight"] * l1
    learn(nets, "generator", loss)

    right = ((real > 0).float().mean() + (fake < 0).float().mean()) / 2
    brain = max(mask.float().mean().item(), 1 / mask.numel())
    values = {"adversarial": adversarial, "discriminator": judged, "right": right}
    return {"l1": l1.item() / brain} | {name: value.item() for name, value in values.items()}


def play(
    slices: Slices,
    rows: Sequence[int],
    settings: Mapping,
    watched: tuple[np.ndarray, np.ndarray],
    discriminator_speed: float = 1.0,
) -> Game:
    """Train a small pix2pix for some steps, and watch it.

    Parameters
    ----------
    slices : Slices
        Prepared slices of one map.
    rows : list of int
        Which of them to learn from.
    settings : mapping
        As in chapter 05, and `steps`.
    watched : (float array (N, T, H, W), bool array (N, H, W))
        Scaled films and their masks, drawn after some of the steps.
    discriminator_speed : float
        Learning rate of the discriminator over that of the generator.

    Raises
    ------
    ValueError
        Fewer slices than a batch needs.
    """
    if len(rows) < settings["batch_size"]:
        raise ValueError(f"{len(rows)} slices for batches of {settings['batch_size']}: give more")
    nets = make_networks("pix2pix", slices.frames, settings, "cpu")
    nets.discriminator_optimizer.param_groups[0]["lr"] *= discriminator_speed
    rng, losses, maps = np.random.default_rng(settings["seed"]), [], {}
    shown = choose_epochs(settings["steps"], FRAMES)
    for step in range(1, settings["steps"] + 1):
        chosen = rng.choice(rows, settings["batch_size"], replace=False)
        batch = default_collate([slices[int(row)] for row in chosen])
        nets.generator.train()
        seen = (batch[key] for key in ("series", "reference", "mask"))
        losses.append(play_step(nets, *seen, settings))
        if step in shown:  # after few steps the stored statistics lag far behind the weights
            averaging.renew_statistics(nets.generator, slices, settings, step)
            maps[step] = inference.predict(nets.generator, *watched)
    steps = pd.RangeIndex(1, settings["steps"] + 1, name="step")
    return Game(nets.generator, pd.DataFrame(losses, steps), maps)
