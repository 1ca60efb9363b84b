"""What the averaged generator draws with, and the mirror images it learnt from."""

import torch

from perfnb.models import averaging, training
from perfnb.models.batches import batches, mirrored
from perfnb.study import read_study

SETTINGS = read_study("tiny")["chapters"]["05_train"]


def test_mirroring_turns_whole_slices_together_half_of_the_time():
    series = torch.randn(200, 3, 2, 4)
    mask = series[:, 0] > 0
    turned, turned_mask = mirrored(series, mask, coin=torch.Generator().manual_seed(3))
    flipped = (turned == series.flip(-1)).flatten(1).all(1)
    kept = (turned == series).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert 70 < flipped.sum() < 130
    assert torch.equal(turned_mask, turned[:, 0] > 0)


def test_every_epoch_tosses_other_coins_and_the_same_again():
    slices = torch.arange(400.0).view(50, 1, 1, 8)

    def toss(seed):
        return mirrored(slices, coin=torch.Generator().manual_seed(seed))[0]

    assert torch.equal(toss(1), toss(1))
    assert not torch.equal(toss(1), toss(2))


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
