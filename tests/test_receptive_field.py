"""Arithmetic and gradient agree on what one verdict of the discriminator sees."""

import numpy as np
import pytest
import torch
from torch import nn

from perfnb.models import receptive_field
from perfnb.models.networks import PatchDiscriminator, initialise


@pytest.mark.parametrize(("strides", "field"), [((2, 2, 2, 2), 46), ((2, 2, 1, 1), 34)])
def test_verdict_sees_a_square_of_the_size_that_arithmetic_says(strides, field):
    torch.manual_seed(0)
    network = PatchDiscriminator(4, 3, strides).apply(initialise)
    layers = receptive_field.convolutions_of(network)
    assert layers == [(4, stride) for stride in strides]
    size, step = receptive_field.field_and_step(layers)
    assert (size, step) == (field, np.prod(strides))
    pair = torch.zeros(2, 4, 128, 128), torch.zeros(2, 1, 128, 128)
    middle = network(*pair).shape[-1] // 2
    seen = receptive_field.seen_pixels(network, *pair, output=(middle, middle))
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    assert len(rows) == len(columns) == field and seen.sum() == field**2
    beside = receptive_field.seen_pixels(network, *pair, output=(middle + 1, middle))
    assert np.flatnonzero(beside.any(axis=1))[0] - rows[0] == step
    assert network.training and not any(p.grad is not None for p in network.parameters())


def test_field_at_the_border_is_cut_and_gaps_are_not_filled():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1))
    image = torch.zeros(1, 1, 16, 16)
    assert receptive_field.field_and_step([(3, 1), (3, 1)]) == (5, 1)
    assert receptive_field.seen_pixels(network, image, output=(0, 0)).sum() == 3 * 3
    sparse = nn.Conv2d(1, 1, 2, dilation=4)
    assert receptive_field.seen_pixels(sparse, image, output=(5, 5)).sum() == 4
    assert receptive_field.field_and_step([]) == (1, 1)
