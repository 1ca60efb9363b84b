"""Two processes that share a batch learn what one process learns from the whole of it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from perfnb.models import devices, inference, training
from perfnb.models.batches import batches, draw_shifts, toss
from perfnb.study import read_study

HERE = Path(__file__).parent
SCRIPT = """
import sys, torch
sys.path.insert(0, {here!r})
from test_processes import step
torch.save(step(sys.argv[1]), sys.argv[2] + f"/{{sys.argv[1]}}-{{torch.distributed.get_rank()}}.pt")
"""
FIT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from perfnb.data.slices import Slices
from perfnb.models import training
from perfnb.study import read_study
settings = read_study("tiny")["chapters"]["05_train"] | {{"batch_size": 2, "epochs": 2}}
splits = [Slices(Path(sys.argv[1]), split, "Tmax") for split in ("train", "validation")]
training.fit(Path(sys.argv[2]), "temp-pix2pix", *splits, settings)
"""
SETTINGS = {"seed": 3, "ngf": 2, "unet_ngf": 2, "ndf": 2, "upsampling": "transpose",
            "learning_rate": 1e-3, "precision": "fp32", "l1_weight": 1.0,
            "adversarial_weight": 0.5}  # fmt: skip


def step(model_name: str) -> dict[str, torch.Tensor]:
    """Return gradients, weights and running statistics after one step of both players."""
    nets = training.make_networks(model_name, 64, SETTINGS, "cpu")
    for network in (nets.generator, nets.discriminator):
        network.double().train()
    draw = torch.Generator().manual_seed(8)
    series = torch.randn((4, 64, 64, 64), generator=draw, dtype=torch.float64)
    reference = torch.rand((4, 1, 64, 64), generator=draw, dtype=torch.float64)
    mask = (
        torch.rand((4, 64, 64), generator=draw) < torch.tensor([0.1, 0.5, 0.9, 0.3])[:, None, None]
    )
    series = torch.where(mask[:, None], series, torch.tensor(-1.0, dtype=torch.float64))
    series, reference, mask = (devices.own_share(x) for x in (series, reference, mask))
    generated = inference.draw(nets.generator, series, mask)
    training.discriminator_step(nets, series, reference, generated)
    training.generator_step(nets, series, reference, generated, SETTINGS)
    found = {}
    for name in ("generator", "discriminator"):
        network = getattr(nets, name)
        found |= {f"{name} gradient {n}": p.grad for n, p in network.named_parameters()}
        found |= {f"{name} {n}": v.clone() for n, v in network.state_dict().items()}
    return found


def in_two_processes(script: str, *arguments: str) -> list[subprocess.Popen]:
    """Start a script twice, as `accelerate launch` does on two processors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    runs = []
    for rank in "01":
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_PORT": port}
        place |= {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}
        command = [sys.executable, "-c", script.format(here=str(HERE)), *arguments]
        runs.append(subprocess.Popen(command, env={**os.environ, **place}))
    return runs


@pytest.mark.parametrize("model_name", ["pix2pix", "temp-pix2pix"])
def test_two_processes_have_the_gradients_of_one(model_name, tmp_path):
    runs = in_two_processes(SCRIPT, model_name, str(tmp_path))
    alone = step(model_name)
    assert [run.wait(timeout=240) for run in runs] == [0, 0]
    for rank in (0, 1):
        together = torch.load(tmp_path / f"{model_name}-{rank}.pt", weights_only=True)
        assert set(together) == set(alone)
        for name, expected in alone.items():
            torch.testing.assert_close(
                together[name].to(expected.dtype), expected, rtol=1e-6, atol=1e-9, msg=name
            )


def test_two_processes_train_one_run(splits, tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    runs = in_two_processes(FIT, str(splits[0].folder), str(together))
    settings = read_study("tiny")["chapters"]["05_train"] | {"batch_size": 2, "epochs": 2}
    expected = training.fit(alone, "temp-pix2pix", *splits, settings)
    assert [run.wait(timeout=240) for run in runs] == [0, 0]
    found = pd.read_csv(together / "history.csv")
    for column in ("generator_l1", "discriminator", "validation_mae"):
        assert found[column].tolist() == pytest.approx(expected[column].tolist(), rel=0.02), column


def test_coins_and_shifts_of_two_processes_belong_to_the_same_slices_as_those_of_one(monkeypatch):
    def drawn():
        coin = torch.Generator().manual_seed(5)
        rows = batches(range(12), 4, torch.Generator().manual_seed(6)).batch_sampler
        return toss(4, coin).tolist(), draw_shifts(4, 9, coin).tolist(), [*rows][1]

    whole = drawn()
    monkeypatch.setattr(devices, "process_count", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        assert drawn() == tuple(values[rank::2] for values in whole)


def test_one_process_keeps_the_whole_batch():
    batch = torch.arange(5)
    assert devices.process_count() == 1
    assert torch.equal(devices.own_share(batch), batch)
    assert devices.total(batch) is batch


def test_batch_that_does_not_divide_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "process_count", lambda: 2)
    with pytest.raises(
        ValueError, match="3 slices does not divide among 2 processes: .*batch_size"
    ):
        devices.own_share(torch.arange(3))


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        ("cpu", "fp8", "precision='fp8' is unknown; known: fp32, bf16, fp16"),
        ("cpu", "fp16", "precision='fp16' needs a GPU, device='cpu': take bf16 or fp32"),
    ],
)
def test_precision_that_is_not_to_be_had_is_refused(device, precision, message):
    with pytest.raises(ValueError) as refusal:
        devices.make_accelerator(device, precision)
    assert str(refusal.value) == message
