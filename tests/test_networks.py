"""The networks have the paper's shapes and sizes, and refuse slices that they cannot halve."""

import pytest
import torch

from perfnb.models.networks import (
    PatchDiscriminator,
    Pix2PixGenerator,
    TempPix2PixGenerator,
    count_parameters,
    make_generator,
)

UPSAMPLING = ("transpose", "nearest")


def masked(n=2, frames=64, side=64):
    series = torch.full((n, frames, side, side), -1.0)
    mask = torch.zeros((n, side, side), dtype=torch.bool)
    mask[:, 20:40, 24:44] = True
    draw = torch.Generator().manual_seed(1)
    series.permute(0, 2, 3, 1)[mask] = torch.randn((int(mask.sum()), frames), generator=draw)
    return series, mask


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("model_name", ["pix2pix", "temp-pix2pix"])
@pytest.mark.parametrize("side", [64, 128])
def test_a_series_becomes_one_map_of_its_size_between_minus_one_and_one(
    model_name, upsampling, side
):
    generator = make_generator(model_name, 64, 2, 2, upsampling)
    drawn = generator(*masked(side=side))
    assert drawn.shape == (2, 1, side, side)
    assert drawn.abs().max() <= 1
    assert drawn.std() > 0


@pytest.mark.parametrize("model_name", ["pix2pix", "temp-pix2pix"])
@pytest.mark.parametrize("size", [(96, 64), (64, 32), (63, 64)])
def test_slices_that_cannot_be_halved_six_times_are_refused(model_name, size):
    generator = make_generator(model_name, 64, 2, 2, "transpose")
    with pytest.raises(ValueError, match=rf"{size[0]}, {size[1]}.*multiples of 64"):
        generator(torch.zeros(1, 64, *size))


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'cyclegan' is unknown; known: pix2pix, temp-pix2pix"):
        make_generator("cyclegan", 64, 2, 2, "transpose")
    with pytest.raises(ValueError, match="'cubic' is unknown; known: transpose, nearest"):
        make_generator("pix2pix", 64, 2, 2, "cubic")


def test_sizes_are_those_of_the_published_networks():
    """Millions of trained numbers at the widths of the paper's code."""
    with torch.device("meta"):
        generators = {
            "transpose": Pix2PixGenerator(80, 128, "transpose"),
            "nearest": Pix2PixGenerator(80, 128, "nearest"),
            "temp transpose": TempPix2PixGenerator(80, 128, 16, "transpose"),
            "temp nearest": TempPix2PixGenerator(80, 128, 16, "nearest"),
        }
    millions = {name: count_parameters(g) / 1e6 for name, g in generators.items()}
    assert millions["transpose"] == pytest.approx(117.1, abs=0.1)
    assert millions["nearest"] == pytest.approx(85.4, abs=0.1)
    assert 12.7 <= millions["temp nearest"] <= millions["temp transpose"] <= 13.3


def test_generators_start_from_the_seed():
    def first():
        torch.manual_seed(3)
        return make_generator("temp-pix2pix", 64, 2, 2, "transpose").state_dict()

    a, b = first(), first()
    assert all(torch.equal(a[k], b[k]) for k in a)
    weight = a["unet.down.3.0.weight"]
    assert weight.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize(
    ("strides", "field", "side"), [((2, 2, 2, 2), 46, 4), ((2, 2, 1, 1), 34, 14)]
)
def test_discriminator_judges_patches(strides, field, side):
    judge = PatchDiscriminator(64, 2, strides).double().eval()
    series = torch.zeros(1, 64, 64, 64, dtype=torch.float64)
    drawn = torch.randn(1, 1, 64, 64, dtype=torch.float64, requires_grad=True)
    verdicts = judge(series, drawn)
    assert verdicts.shape == (1, 1, side, side)
    verdicts[0, 0, side // 2, side // 2].backward()
    seen = drawn.grad[0, 0].nonzero()
    assert (seen.max(dim=0).values - seen.min(dim=0).values + 1).tolist() == [field, field]


def test_discriminator_looks_at_series_and_map():
    judge = PatchDiscriminator(64, 2).eval()
    series, mask = masked(1)
    drawn = torch.zeros(1, 1, 64, 64)
    first = judge(series, drawn)
    assert not torch.equal(first, judge(series, drawn + mask[:, None]))
    assert not torch.equal(first, judge(series + 1, drawn))


def test_pix2pix_does_not_use_the_mask():
    series, mask = masked()
    generator = make_generator("pix2pix", 64, 2, 2, "transpose").eval()
    assert torch.equal(generator(series, mask), generator(series))
