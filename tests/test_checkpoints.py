"""Weights and checkpoints are written whole, never pickled, and refused where they do not fit."""

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from perfnb.models import checkpoints, players, training
from perfnb.models.networks import make_generator
from perfnb.study import read_study

SETTINGS = read_study("tiny")["chapters"]["05_train"]
IDENTITY = {"model_name": "pix2pix", "seed": 1}
HISTORY = [{"epoch": 1, "validation_mae": 0.123456789012345}]


def networks(seed=1, model_name="pix2pix"):
    """Return networks whose optimisers have made one step."""
    nets = training.make_networks(model_name, 64, SETTINGS | {"seed": seed}, "cpu")
    draw = torch.Generator().manual_seed(seed)
    series = torch.randn((2, 64, 64, 64), generator=draw)
    reference = torch.rand((2, 1, 64, 64), generator=draw)
    generated = nets.generator(series)
    training.discriminator_step(nets, series, reference, generated)
    training.generator_step(nets, series, reference, generated, SETTINGS)
    return nets


@pytest.fixture
def saved(tmp_path):
    """Return networks and the folder that they were saved to."""
    nets = networks()
    checkpoints.save(tmp_path, nets, HISTORY, IDENTITY)
    checkpoints.save_weights(nets.generator, tmp_path / "weights.safetensors")
    return nets, tmp_path


def state(nets) -> dict:
    found = {}
    for part in checkpoints.PARTS:
        found |= {f"{part}/{k}": v for k, v in getattr(nets, part).state_dict().items()}
        if part not in checkpoints.TRAINED:
            continue
        optimizer = getattr(nets, f"{part}_optimizer").state_dict()
        found |= {f"{part}/{i}/{k}": v for i, s in optimizer["state"].items() for k, v in s.items()}
    return {k: v.clone() for k, v in found.items()}


def same(a: dict, b: dict) -> bool:
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


def test_checkpoint_brings_back_networks_optimisers_history_and_random_state(saved):
    nets, folder = saved
    expected, drawn = state(nets), torch.rand(3)
    other = networks(seed=2)
    assert not same(state(other), expected)
    torch.manual_seed(77)
    assert checkpoints.resume(folder, other, IDENTITY) == HISTORY
    assert same(state(other), expected)
    assert torch.equal(torch.rand(3), drawn)
    groups = [n.generator_optimizer.param_groups[0]["betas"] for n in (nets, other)]
    assert groups[0] == groups[1] == players.BETAS


def test_checkpoint_brings_back_the_scaling_of_half_precision(saved):
    nets, folder = saved
    nets.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    nets.accelerator.scaler.scale(torch.zeros(1))
    checkpoints.save(folder, nets, HISTORY, IDENTITY)
    other = networks(seed=2)
    other.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    checkpoints.resume(folder, other, IDENTITY)
    assert other.accelerator.scaler.get_scale() == 8


def test_weights_bring_back_the_generator(saved):
    nets, folder = saved
    other = make_generator("pix2pix", 64, 2, 2, "transpose")
    checkpoints.load_weights(other, folder / "weights.safetensors")
    assert same(other.state_dict(), nets.generator.state_dict())
    assert checkpoints.weights_hash(None) is None
    assert len(checkpoints.weights_hash(folder / "weights.safetensors")) == 64


def test_weights_can_be_read_by_others(saved):
    umask = os.umask(0)
    os.umask(umask)
    mode = (saved[1] / "weights.safetensors").stat().st_mode
    assert stat.S_IMODE(mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    "other",
    [("temp-pix2pix", 2, 2, "transpose"), ("pix2pix", 4, 2, "transpose"),
     ("pix2pix", 2, 2, "nearest")],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_and_change_nothing(saved, other):
    model_name, *widths = other
    generator = make_generator(model_name, 64, *widths)
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"weights.safetensors does not fit .*found .*expected .*ngf"
    ):
        checkpoints.load_weights(generator, saved[1] / "weights.safetensors")
    assert same(before, generator.state_dict())


def test_missing_weights_name_the_chapter_that_makes_them(tmp_path):
    generator = make_generator("pix2pix", 64, 2, 2, "transpose")
    with pytest.raises(FileNotFoundError, match="w.safetensors is missing. Chapter 05_train"):
        checkpoints.load_weights(generator, tmp_path / "w.safetensors")


@pytest.mark.parametrize("damage", [b"", b"not weights", None])
def test_unreadable_files_are_named_and_restart_starts_over(saved, damage):
    _, folder = saved
    for name in ("weights", "checkpoint"):
        path = folder / f"{name}.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    nets = networks(seed=2)
    before = state(nets)
    with pytest.raises(ValueError, match="weights.safetensors cannot be read .*train again"):
        checkpoints.load_weights(nets.generator, folder / "weights.safetensors")
    with pytest.raises(ValueError, match="checkpoint.safetensors cannot be read .*train again"):
        checkpoints.resume(folder, nets, IDENTITY)
    assert checkpoints.resume(folder, nets, IDENTITY, restart=True) == []
    assert same(before, state(nets))
    assert not list(folder.iterdir())


def test_foreign_checkpoint_is_refused(saved):
    _, folder = saved
    save_file({"a": torch.zeros(2)}, folder / "checkpoint.safetensors")
    with pytest.raises(ValueError, match="not a checkpoint of perfnb: delete it, or give restart"):
        checkpoints.resume(folder, networks(), IDENTITY)


def test_checkpoint_of_other_networks_is_refused(saved):
    _, folder = saved
    with pytest.raises(ValueError, match="does not fit these networks .*delete it to start over"):
        checkpoints.resume(folder, networks(model_name="temp-pix2pix"), IDENTITY)


def test_checkpoint_of_other_settings_is_refused_and_restart_removes_the_run(saved):
    nets, folder = saved
    for name in ("manifest.json", "history.csv", "mine.txt"):
        (folder / name).write_text("{}")
    other = IDENTITY | {"seed": 2}
    with pytest.raises(ValueError, match="seed: found 1, expected 2.*Give restart=True"):
        checkpoints.resume(folder, nets, other)
    assert len(list(folder.iterdir())) == 5
    assert checkpoints.resume(folder, nets, other, restart=True) == []
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("missing", ["checkpoint", "weights"])
def test_run_without_checkpoint_or_best_weights_starts_afresh(saved, missing):
    nets, folder = saved
    (folder / f"{missing}.safetensors").unlink()
    before = state(nets)
    assert checkpoints.resume(folder, nets, IDENTITY) == []
    assert same(before, state(nets))


def test_a_checkpoint_is_on_the_disk_before_its_name_is_and_the_name_before_training_goes_on(
    saved, monkeypatch
):
    """A power cut must neither leave an empty file under the name nor bring back the old one."""
    nets, folder = saved
    done, sync, rename = [], os.fsync, os.replace

    def fsync(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def replace(source, target):
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    checkpoints.save(folder, nets, HISTORY, IDENTITY)
    assert done == ["file", "rename", "folder"]


@pytest.mark.parametrize(
    ("name", "matters"),
    [("temporal.py", True), ("scaling.py", True), ("slices.py", True), ("snapshots.py", False)],
)
def test_changed_code_trains_anew_where_it_changes_what_is_trained(monkeypatch, name, matters):
    """Also the code that scales slices on reading, which their fingerprint says nothing about."""
    before, read = checkpoints.code_hash(), Path.read_bytes
    assert checkpoints.code_hash() == before
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + b"#" * (p.name == name))
    assert (checkpoints.code_hash() != before) is matters


def test_failed_writing_keeps_the_last_checkpoint(saved, monkeypatch):
    nets, folder = saved
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="checkpoint.safetensors could not be written .*PERFNB_HOME"):
        checkpoints.save(folder, nets, HISTORY * 2, IDENTITY)
    with pytest.raises(OSError, match="weights.safetensors could not be written .*PERFNB_HOME"):
        checkpoints.save_weights(nets.generator, folder / "weights.safetensors")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
