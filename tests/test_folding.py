"""A folded generator draws what the network in eval mode draws, whatever the blocks."""

import pytest
import torch
from torch import nn

from perfnb.models import folding
from perfnb.models.networks import make_generator


def trained(model_name: str, upsampling: str) -> nn.Module:
    """Return a generator in float64 with weights and statistics far from their initial state."""
    torch.manual_seed(6)
    generator = make_generator(model_name, 64, 3, 2, upsampling).double()
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.1)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.3)
        elif hasattr(module, "running_mean"):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2)
    return generator.eval()


def slices(n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(7)
    mask = torch.rand((n, 64, 64), generator=draw) < 0.3
    series = torch.randn((n, 64, 64, 64), generator=draw, dtype=torch.float64)
    return torch.where(mask[:, None], series, torch.tensor(-1.0, dtype=torch.float64)), mask


@torch.no_grad()
@pytest.mark.parametrize("upsampling", ["transpose", "nearest"])
@pytest.mark.parametrize("model_name", ["pix2pix", "temp-pix2pix"])
def test_folded_generator_draws_the_same_maps(model_name, upsampling):
    generator = trained(model_name, upsampling)
    series, mask = slices()
    expected = generator(series, mask)
    folded = folding.fold(generator)
    torch.testing.assert_close(folded(series, mask), expected, rtol=0, atol=1e-10)
    assert expected.std() > 1e-4
    assert not any("Norm" in type(module).__name__ for module in folded.modules())
    assert any("Norm" in type(module).__name__ for module in generator.modules())
    torch.testing.assert_close(generator(series, mask), expected, rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("block", [1, 7, 500, 100_000])
def test_size_of_the_blocks_does_not_matter(block):
    generator = trained("temp-pix2pix", "transpose")
    series, mask = slices(1)
    mask[:, 24:] = False
    series[:, :, 24:] = -1
    expected = generator.temporal.dense(series)
    folded = folding.FoldedPath(generator.temporal, block)
    torch.testing.assert_close(folded(series, mask), expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_folding_again_and_films_without_a_mask():
    generator = trained("temp-pix2pix", "nearest")
    series, _ = slices(2)
    once = folding.fold(generator)
    twice = folding.fold(once)
    assert twice is once
    torch.testing.assert_close(twice(series), generator(series), rtol=0, atol=1e-10)
