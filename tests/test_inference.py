"""A prediction depends on the slice alone, and says -1 outside the brain."""

import numpy as np
import pytest
import torch
from accelerate.state import PartialState

from perfnb.metrics import images
from perfnb.models import inference
from perfnb.models.devices import choose_device, make_accelerator
from perfnb.models.inference import draw, predict, validate
from perfnb.models.networks import make_generator

SLICES = 5


def patient(seed=0, n=SLICES):
    rng = np.random.default_rng(seed)
    mask = np.zeros((n, 64, 64), bool)
    mask[:, 16:50, 20:44] = True
    mask[0] = False  # above the head
    series = np.where(mask[:, None], rng.normal(size=(n, 64, 64, 64)), -1).astype(np.float32)
    return series, mask


@pytest.fixture(params=["pix2pix", "temp-pix2pix"])
def generator(request):
    """Return a generator whose running statistics are not those of the data."""
    torch.manual_seed(2)
    made = make_generator(request.param, 64, 2, 2, "transpose")
    for module in made.modules():
        if hasattr(module, "running_mean"):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return made.train()


def test_prediction_is_the_network_in_the_brain_and_background_outside(generator):
    series, mask = patient()
    drawn = predict(generator, series, mask)
    assert drawn.shape == mask.shape and drawn.dtype == np.float32
    assert (drawn[~mask] == -1).all()
    assert np.abs(drawn[mask]).max() < 1 and drawn[mask].std() > 0
    with torch.no_grad():
        expected = generator.eval()(torch.tensor(series), torch.tensor(mask))[:, 0].numpy()
    np.testing.assert_allclose(drawn[mask], expected[mask], atol=1e-5)


def test_mask_may_be_of_numbers_and_cover_the_first_corner(generator):
    series, mask = patient()
    mask[:, :20, :30] = True
    expected = predict(generator, series, mask)
    np.testing.assert_array_equal(predict(generator, series, mask.astype(np.uint8)), expected)


def test_film_of_other_length_is_refused(generator):
    series, mask = patient()
    with pytest.raises(ValueError, match="a film of 80 frames; this network sees 64"):
        predict(generator, np.pad(series, [(0, 0), (0, 16), (0, 0), (0, 0)]), mask)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_prediction_does_not_depend_on_the_batch(generator, monkeypatch, size):
    series, mask = patient()
    whole = predict(generator, series, mask)
    monkeypatch.setattr(inference, "BATCH", size)
    np.testing.assert_allclose(predict(generator, series, mask), whole, atol=2e-6)
    np.testing.assert_allclose(predict(generator, series[2:3], mask[2:3]), whole[2:3], atol=2e-6)


def test_prediction_changes_neither_network_nor_series(generator):
    series, mask = patient()
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    kept = series.copy()
    first = predict(generator, series, mask)
    assert all(torch.equal(before[k], v) for k, v in generator.state_dict().items())
    np.testing.assert_array_equal(series, kept)
    np.testing.assert_array_equal(predict(generator, series, mask), first)


def test_drawing_in_training_sends_no_gradient_through_the_background(generator):
    series, mask = (torch.tensor(a) for a in patient())
    drawn = draw(generator, series, mask)
    assert drawn.shape == (SLICES, 1, 64, 64)
    assert (drawn[~mask[:, None]] == -1).all()
    drawn[~mask[:, None]].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in generator.parameters())


class TwoPatients:
    """Two patients, one with twice the brain of the other, as `validate` reads them."""

    patients = ("a", "b")

    def patient(self, name):
        series, mask = patient(seed=ord(name))
        mask[:, :, 32:] &= name == "a"
        slab = type("Slab", (), {})()
        slab.series, slab.mask = np.where(mask[:, None], series, -1).astype(np.float32), mask
        slab.reference = np.where(mask, 0.25 if name == "a" else -0.5, -1).astype(np.float32)
        return slab


def test_validation_counts_each_patient_the_same(generator):
    cohort = TwoPatients()
    errors, similar = [], []
    for name in cohort.patients:
        slab = cohort.patient(name)
        drawn = predict(generator, slab.series, slab.mask)
        errors.append(np.abs(drawn - slab.reference)[slab.mask].mean())
        similar.append(images.slice_scores(slab.reference, drawn)["SSIM"])
    found = validate(generator, cohort)
    assert found["validation_mae"] == pytest.approx(np.mean(errors), rel=1e-6)
    assert found["validation_ssim"] == pytest.approx(np.mean(similar), rel=1e-6)


def test_device_is_a_gpu_only_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == "cpu"
    with pytest.raises(
        ValueError, match="'cuda' but torch finds no GPU: use device='cpu' or 'auto'"
    ):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device() == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(ValueError, match="'cuda:2' but torch finds 2 GPU"):
        choose_device("cuda:2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'mps' but torch finds no GPU"):
        choose_device("mps")


@pytest.mark.parametrize("name", ["gpu", "cudax", "cpu:", "cuda:first"])
def test_unknown_device_is_refused(name):
    with pytest.raises(ValueError, match=f"{name!r} is unknown; expected auto, cpu or cuda"):
        choose_device(name)


def test_a_training_gets_the_device_it_asks_for_whatever_was_used_before(monkeypatch):
    make_accelerator("cpu")
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("cuda", 0))
    assert make_accelerator("cpu").device.type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="'cuda' is not to be had: accelerate took"):
            make_accelerator("cuda")
    assert make_accelerator("cpu").device.type == "cpu"
