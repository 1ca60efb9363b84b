"""What the averaged generator draws with, and the mirror images it learnt from."""

import pytest
import torch

from perfnb.data.slices import Slices
from perfnb.models import averaging, training
from perfnb.models.batches import batches, draw_shifts, mirrored, shifted, toss
from perfnb.study import read_study

SETTINGS = read_study("tiny")["chapters"]["05_train"]


def test_mirroring_turns_whole_slices_half_of_the_time():
    series = torch.randn(200, 3, 2, 4)
    tossed = toss(200, torch.Generator().manual_seed(3))
    turned = mirrored(series, tossed)
    assert torch.equal(turned[tossed], series[tossed].flip(-1))
    assert torch.equal(turned[~tossed], series[~tossed])
    assert 70 < tossed.sum() < 130
    assert torch.equal(mirrored(series[:, 0] > 0, tossed), turned[:, 0] > 0)


def test_coins_repeat_with_their_seed_only():
    def coins(seed):
        return toss(50, torch.Generator().manual_seed(seed))

    assert torch.equal(coins(1), coins(1))
    assert not torch.equal(coins(1), coins(2))


def test_shifted_film_shows_the_same_frames_at_other_times():
    series = torch.randn(4, 12, 2, 3)
    found = shifted(series, torch.tensor([0, 3, -2, -12]))
    assert torch.equal(found[0], series[0])
    assert torch.equal(found[1, 3:], series[1, :-3])
    assert torch.equal(found[1, :3], series[1, :1].expand(3, 2, 3))
    assert torch.equal(found[2, :-2], series[2, 2:])
    assert torch.equal(found[3], series[3, -1:].expand(12, 2, 3))


def test_shifts_go_both_ways_and_no_farther_than_asked():
    shifts = draw_shifts(500, 3, torch.Generator().manual_seed(1))
    assert set(shifts.tolist()) == set(range(-3, 4))


def test_a_map_that_counts_from_the_first_frame_sees_no_shift(splits, monkeypatch):
    def refuse(*_):
        raise AssertionError("shifted")

    monkeypatch.setattr(training, "shifted", refuse)
    ttp = Slices(splits[0].folder, "train", "TTP")
    nets = training.make_networks("pix2pix", 64, SETTINGS, "cpu")
    training.train_epoch(nets, ttp, SETTINGS | {"shifting": 3}, 0)
    with pytest.raises(AssertionError, match="shifted"):
        training.train_epoch(nets, splits[0], SETTINGS | {"shifting": 3}, 0)


def test_renewed_statistics_are_those_of_the_weights_that_draw(splits):
    settings = SETTINGS | {"batch_size": 6}
    for model_name in ("pix2pix", "temp-pix2pix"):
        nets = training.make_networks(model_name, 64, settings, "cpu")
        generator = nets.averaged
        with torch.no_grad():
            for weight in generator.parameters():
                weight.mul_(1.5)
        averaging.renew_statistics(generator, splits[0], settings, epoch=0)
        batch = next(iter(batches(splits[0], 6, torch.Generator())))
        with torch.no_grad():
            own = generator.train()(batch["series"], batch["mask"])
            drawn = generator.eval()(batch["series"], batch["mask"])
        torch.testing.assert_close(drawn, own, rtol=0, atol=0.03, msg=model_name)
        momenta = {m.momentum for m in generator.modules() if hasattr(m, "momentum")}
        assert momenta == {0.1}
