"""The temporal path on brain voxels is the same function as the paper's dense convolutions."""

import copy

import pytest
import torch

from perfnb.models.temporal import TemporalPath

FRAMES, WIDTHS = 80, [2, 3, 4, 4, 4, 4]
CLOSE = dict(rtol=1e-9, atol=1e-11)


def prepared(kind: str, n: int = 3, side: int = 6):
    """Return prepared slices (N, T, H, W) with one background value, and their mask."""
    draw = torch.Generator().manual_seed(4)
    inside = torch.rand((n, side, side), generator=draw) < 0.4
    inside = {"part": inside, "full": torch.ones_like(inside), "one": torch.zeros_like(inside)}[
        kind
    ]
    if kind == "one":
        inside[1, 2, 3] = True
    series = torch.randn((n, FRAMES, side, side), generator=draw, dtype=torch.float64)
    return torch.where(inside[:, None], series, torch.tensor(-1.0, dtype=torch.float64)), inside


def twins() -> tuple[TemporalPath, TemporalPath]:
    """Return two copies of one network in float64, away from its initial state."""
    torch.manual_seed(5)
    path = TemporalPath(FRAMES, WIDTHS).double()
    for norm in path.norms:
        torch.nn.init.normal_(norm.weight, 1, 0.3)
        torch.nn.init.normal_(norm.bias, 0, 0.3)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return path, copy.deepcopy(path)


@pytest.mark.parametrize("kind", ["part", "full", "one"])
@pytest.mark.parametrize("training", [True, False])
def test_brain_voxels_only_gives_the_dense_result_everywhere(kind, training):
    series, inside = prepared(kind)
    fast, dense = twins()
    fast.train(training), dense.train(training)
    for _ in range(2):  # running statistics accumulate
        found, expected = fast(series, inside), dense.dense(series)
    torch.testing.assert_close(found, expected, **CLOSE)
    for (name, a), b in zip(fast.named_buffers(), dense.buffers(), strict=True):
        torch.testing.assert_close(a, b, **CLOSE, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("kind", ["part", "full", "one"])
@pytest.mark.parametrize("training", [True, False])
def test_brain_voxels_only_gives_the_dense_gradients(kind, training):
    series, inside = prepared(kind)
    weights = torch.randn((3, WIDTHS[-1], 6, 6), dtype=torch.float64)
    gradients = []
    for network, mask in zip(twins(), (inside, None), strict=True):
        network.train(training)
        given = series.clone().requires_grad_()
        drawn = network.dense(given) if mask is None else network(given, mask)
        (drawn * weights).sum().backward()
        at_brain = given.grad.permute(0, 2, 3, 1)[inside]
        gradients.append([at_brain, *(p.grad for p in network.parameters())])
    assert gradients[1][0].abs().max() > 1e-6
    names = ["series", *(name for name, _ in twins()[0].named_parameters())]
    for name, fast, dense in zip(names, *gradients, strict=True):
        torch.testing.assert_close(fast, dense, **CLOSE, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("training", [True, False])
def test_without_a_mask_every_pixel_is_computed(training):
    series, _ = prepared("full")
    series[0, :, 0, 0] = 7  # no background value to rely on
    fast, dense = twins()
    fast.train(training), dense.train(training)
    torch.testing.assert_close(fast(series), dense.dense(series), **CLOSE)


def test_every_other_slice_of_a_batch_is_as_good_as_a_batch_of_its_own():
    series, inside = prepared("part", n=4)
    gradients = []
    for network, own in zip(twins(), (lambda x: x[::2], lambda x: x[::2].clone()), strict=True):
        network(own(series), own(inside)).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    torch.testing.assert_close(*gradients, **CLOSE)


def test_background_gets_one_value_that_depends_on_the_batch_in_training_only():
    series, inside = prepared("part")
    network, _ = twins()
    drawn = network.eval()(series, inside)
    outside = drawn.permute(0, 2, 3, 1)[~inside]
    assert (outside == outside[0]).all()
    alone = network(series[:1], inside[:1])
    torch.testing.assert_close(alone, drawn[:1], **CLOSE)


def test_without_gradients_the_result_and_the_series_stay_the_same():
    series, inside = prepared("part")
    network, _ = twins()
    before = series.clone()
    expected = network.eval()(series, inside)
    with torch.inference_mode():
        torch.testing.assert_close(network(series, inside), expected, **CLOSE)
    assert torch.equal(series, before)


@pytest.mark.parametrize(("frames", "fits"), [(63, False), (64, True), (127, True), (128, False)])
def test_frames_must_leave_one_time_point(frames, fits):
    if fits:
        series = torch.zeros(1, frames, 2, 2)
        assert TemporalPath(frames, WIDTHS).eval()(series).shape == (1, WIDTHS[-1], 2, 2)
    else:
        with pytest.raises(ValueError, match=f"frames={frames}.*expected 64 to 127"):
            TemporalPath(frames, WIDTHS)
