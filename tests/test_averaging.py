"""What the averaged generator draws with, and the mirror images it learnt from."""

import time

import pytest
import torch

from perfnb.data.slices import Slices
from perfnb.models import averaging, training
from perfnb.models.batches import batches, draw_shifts, mirrored, one_ahead, shifted, toss
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


def test_film_mask_and_reference_are_mirrored_together_and_anew_in_each_epoch(splits, monkeypatch):
    draw, step, shown = training.inference.draw, training.discriminator_step, []
    read, tossed = Slices.__getitem__, []

    def lopsided(self, i):
        item = read(self, i)
        item["mask"][:, : item["mask"].shape[-1] // 3] = False
        return item

    def noted(*given):
        tossed.append(toss(*given))
        return tossed[-1]

    def drawn(generator, series, mask):
        shown.append([series, mask])
        return draw(generator, series, mask)

    def judged(nets, series, reference, generated):
        shown[-1].append(reference)
        return step(nets, series, reference, generated)

    settings = SETTINGS | {"batch_size": len(splits[0]), "shifting": 0, "mirroring": True}
    nets = training.make_networks("pix2pix", 64, settings, "cpu")
    monkeypatch.setattr(Slices, "__getitem__", lopsided)
    monkeypatch.setattr(training, "toss", noted)
    monkeypatch.setattr(training.inference, "draw", drawn)
    monkeypatch.setattr(training, "discriminator_step", judged)
    for epoch in range(3):
        training.train_epoch(nets, splits[0], settings, epoch)
    turned = [{ways(splits[0], one) for one in zip(*batch, strict=True)} for batch in shown]
    assert all(sorted(i for i, _ in epoch) == list(range(6)) for epoch in turned)
    assert any(flip for epoch in turned for _, flip in epoch)
    assert len({tuple(coins.tolist()) for coins in tossed}) > 1


def ways(slices, shown) -> tuple[int, bool]:
    """Return which slice is shown, and whether its film, mask and reference are mirrored."""
    found = []
    for i, kept in enumerate(slices[i] for i in range(len(slices))):
        parts = [torch.as_tensor(kept[name]) for name in ("series", "mask", "reference")]
        for flip in (False, True):
            expected = [part.flip(-1) if flip else part for part in parts]
            if all(map(torch.equal, expected, shown)):
                found.append((i, flip))
    assert len(found) == 1
    return found[0]


def test_the_average_follows_through_all_epochs_slower_and_slower(splits, monkeypatch):
    counted = []
    monkeypatch.setattr(averaging.Follower, "follow", lambda _, step: counted.append(step))
    nets = training.make_networks("pix2pix", 64, SETTINGS, "cpu")
    for epoch in range(3):
        training.train_epoch(nets, splits[0], SETTINGS | {"batch_size": 2}, epoch)
    assert counted == list(range(9))


def test_the_history_holds_the_error_of_a_brain_pixel(splits, monkeypatch):
    monkeypatch.setattr(training, "generator_step", lambda *_: (0.1, 0.0))
    settings = SETTINGS | {"batch_size": len(splits[0])}
    nets = training.make_networks("pix2pix", 64, settings, "cpu")
    found = training.train_epoch(nets, splits[0], settings, 0)["generator_l1"]
    brain = sum(splits[0][i]["mask"].mean() for i in range(6)) / 6
    assert 0 < brain < 0.9 and found == pytest.approx(0.1 / brain, rel=1e-5)


def test_batches_read_ahead_are_the_loaders_and_one_more_is_read_meanwhile():
    read, seen = [], []

    def reading():
        for i in range(5):
            read.append(i)
            yield i

    for i in one_ahead(reading()):
        seen.append(i)
        wait_until = time.monotonic() + 10
        while len(read) < min(i + 2, 5) and time.monotonic() < wait_until:
            time.sleep(0.001)
        assert read == list(range(min(i + 2, 5)))
    assert seen == read == list(range(5))


def test_an_error_in_reading_ahead_is_raised_in_its_turn():
    def reading():
        yield 1
        raise ValueError("slices changed")

    seen = []
    with pytest.raises(ValueError, match="slices changed"):
        seen.extend(one_ahead(reading()))
    assert seen == [1]


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


@pytest.mark.parametrize("averaging_decay", [0.9, 0])
def test_each_epoch_validates_an_average_with_statistics_of_its_own(
    splits, tmp_path, monkeypatch, averaging_decay
):
    renew, told = averaging.renew_statistics, []

    def noted(generator, slices, settings, epoch):
        told.append((epoch, slices.patients))
        renew(generator, slices, settings, epoch)

    validated = training.inference.validate
    monkeypatch.setattr(averaging, "renew_statistics", noted)
    monkeypatch.setattr(
        training.inference,
        "validate",
        lambda *given: told.append("validated") or validated(*given),
    )
    settings = SETTINGS | {"epochs": 2, "patience": 9, "averaging": averaging_decay}
    training.fit(tmp_path, "pix2pix", *splits, settings)
    renewed = [(epoch, splits[0].patients) for epoch in range(2)]
    with_average = [renewed[0], "validated", renewed[1], "validated"]
    assert told == (with_average if averaging_decay else ["validated"] * 2)
