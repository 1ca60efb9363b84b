"""A small game teaches both players as the training does, and shows what happened."""

import numpy as np
import pytest
import torch

from perfnb import plots
from perfnb.models import games, summaries, training
from perfnb.models.networks import count_parameters, make_generator
from perfnb.models.players import make_networks
from perfnb.study import read_study

SETTINGS = read_study("tiny")["chapters"]["05_train"] | {"steps": 12, "batch_size": 2}


@pytest.fixture
def play(splits):
    """Return a function that plays with changed settings and watches the validation patient."""
    slab = splits[1].patient(splits[1].patients[0])

    def game(speed=1.0, rows=range(6), **changes):
        watched = slab.series, slab.mask
        return games.play(splits[0], rows, SETTINGS | changes, watched, speed)

    return game


def test_a_step_is_the_training_step():
    draw = torch.Generator().manual_seed(0)
    series, mask = torch.randn((2, 64, 64, 64), generator=draw), torch.ones(2, 64, 64).bool()
    reference = torch.rand((2, 1, 64, 64), generator=draw) * 2 - 1
    ours, theirs = (make_networks("pix2pix", 64, SETTINGS, "cpu") for _ in range(2))
    found = games.play_step(ours, series, reference, mask, SETTINGS)
    generated = theirs.generator(series)
    judged = training.discriminator_step(theirs, series, reference, generated)
    l1, adversarial = training.generator_step(theirs, series, reference, generated, SETTINGS)
    assert found["discriminator"] == pytest.approx(judged, rel=1e-5)
    assert (found["l1"], found["adversarial"]) == pytest.approx((l1, adversarial), rel=1e-5)
    for part in ("generator", "discriminator"):
        pairs = zip(*(getattr(nets, part).parameters() for nets in (ours, theirs)), strict=True)
        assert all(torch.allclose(a, b, atol=1e-7) for a, b in pairs)


def test_a_game_is_repeatable_and_follows_its_weights(play):
    first, again = play(), play()
    assert list(first.maps) == list(again.maps) and max(first.maps) == 12
    np.testing.assert_array_equal(first.maps[12], again.maps[12])
    assert list(first.losses.index) == list(range(1, 13))
    near = play(l1_weight=1.0, adversarial_weight=0.0, learning_rate=5e-3, steps=40).losses.l1
    assert near.iloc[-5:].mean() < 0.8 * near.iloc[:5].mean()
    away = play(l1_weight=0.0, adversarial_weight=0.0)
    start = play(steps=1, l1_weight=0.0, adversarial_weight=0.0).generator
    pairs = zip(away.generator.parameters(), start.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)  # no loss, no learning


def test_a_discriminator_that_learns_has_the_lower_loss_than_one_that_does_not(play):
    still, quick = (play(speed, learning_rate=2e-3, steps=30, ndf=8) for speed in (0.0, 5.0))
    ends = [game.losses.discriminator.iloc[-5:].mean() for game in (still, quick)]
    assert ends[1] < ends[0]
    with pytest.raises(ValueError, match="1 slices for batches of 2"):
        play(rows=[0])


def test_losses_by_step_draws_every_game_in_every_panel(play):
    tables = {"one": play().losses, "two": play(seed=5).losses}
    columns = {"l1": "L1", "right": "right"}
    figure = plots.losses_by_step(tables, columns, window=4)
    assert [ax.get_ylabel() for ax in figure.axes] == ["L1", "right"]
    drawn = figure.axes[0].lines[1].get_ydata()
    np.testing.assert_allclose(drawn[5], tables["two"].l1.iloc[2:6].mean())
    with pytest.raises(ValueError, match=r"columns \['other'\]"):
        plots.losses_by_step(tables, {"other": "x"})


def test_layer_shapes_follow_the_network():
    generator = make_generator("pix2pix", 64, 2, 2, "transpose")
    layers = {f"down {i}": layer for i, layer in enumerate(generator.unet.down)}
    table = summaries.layer_shapes(layers, generator, torch.zeros(1, 64, 64, 64))
    assert list(table["in"])[:2] == ["64 × 64 × 64", "2 × 32 × 32"]
    assert list(table["out"])[-1] == "16 × 1 × 1"
    assert table.weights.sum() == count_parameters(generator.unet.down)
    assert not any(layer._forward_hooks for layer in layers.values())
