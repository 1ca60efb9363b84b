"""Each step teaches its own player; a run stops at its plateau and goes on where it was cut."""

import copy
import json
import os
import threading
import time

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from perfnb import files
from perfnb.data.slices import Slices
from perfnb.models import averaging, checkpoints, devices, inference, training
from perfnb.models.networks import make_generator
from perfnb.models.training import Plateau
from perfnb.study import read_study

SETTINGS = read_study("tiny")["chapters"]["05_train"] | {"epochs": 3, "patience": 9}
WHOLE = sorted(checkpoints.ARTIFACTS)


@pytest.fixture
def fit(splits, tmp_path):
    """Return a function that trains into a folder with changed settings."""

    def train(folder="run", model_name="temp-pix2pix", init_from=None, restart=False, **changes):
        settings = SETTINGS | changes
        return training.fit(
            tmp_path / folder, model_name, *splits, settings, init_from, "cpu", restart
        )

    return train


def players(model_name="pix2pix", **changes):
    return training.make_networks(model_name, 64, SETTINGS | changes, "cpu")


def batch(seed=0, n=2):
    draw = torch.Generator().manual_seed(seed)
    series = torch.randn((n, 64, 64, 64), generator=draw)
    return series, torch.rand((n, 1, 64, 64), generator=draw) * 2 - 1


def weights(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def changed(before, module) -> set[str]:
    return {name for name, p in module.named_parameters() if not torch.equal(before[name], p)}


def test_fooled_discriminator_has_the_higher_loss():
    sure = torch.full((2, 1, 4, 4), 3.0)
    assert training.adversarial_loss(sure, True) < training.adversarial_loss(-sure, True)
    assert training.adversarial_loss(-sure, False) < training.adversarial_loss(sure, False)
    guess = training.adversarial_loss(torch.zeros(2, 1, 4, 4), True)
    assert guess.item() == pytest.approx(0.6931, abs=1e-4)


def test_discriminator_step_teaches_the_discriminator_only():
    nets = players()
    series, reference = batch()
    generated = nets.generator(series)
    before = weights(nets.generator), weights(nets.discriminator)
    training.discriminator_step(nets, series, reference, generated)
    assert not changed(before[0], nets.generator)
    assert changed(before[1], nets.discriminator) == set(before[1])
    assert all(p.grad is None for p in nets.generator.parameters())


def test_generator_step_teaches_the_generator_only():
    nets = players()
    series, reference = batch()
    generated = nets.generator(series)
    training.discriminator_step(nets, series, reference, generated)
    before = weights(nets.generator), weights(nets.discriminator)
    gradients = [p.grad.clone() for p in nets.discriminator.parameters()]
    l1, _ = training.generator_step(nets, series, reference, generated, SETTINGS)
    assert changed(before[0], nets.generator) == set(before[0])
    assert not changed(before[1], nets.discriminator)
    assert all(
        torch.equal(a, p.grad)
        for a, p in zip(gradients, nets.discriminator.parameters(), strict=True)
    )
    assert all(p.requires_grad for p in nets.discriminator.parameters())
    assert l1 == pytest.approx((generated - reference).abs().mean().item(), rel=1e-5)


def test_discriminator_learns_to_tell_references_from_drawings():
    nets = players(learning_rate=2e-3)
    series, reference = batch()
    generated = torch.zeros_like(reference)
    losses = [training.discriminator_step(nets, series, reference, generated) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("l1_weight", "adversarial_weight"), [(1.0, 0.0), (0.0, 1.0)])
def test_generator_follows_the_losses_by_their_weights(l1_weight, adversarial_weight):
    nets = players(learning_rate=2e-3)
    series, _ = batch()
    reference = torch.full((2, 1, 64, 64), 0.4)
    for layer in nets.discriminator.layers[::3]:
        torch.nn.init.normal_(layer.weight, 0, 0.3)  # a judge with an opinion
    weighted = SETTINGS | {"l1_weight": l1_weight, "adversarial_weight": adversarial_weight}
    found = [
        training.generator_step(nets, series, reference, nets.generator(series), weighted)
        for _ in range(25)
    ]
    followed = 0 if l1_weight else 1
    assert found[-1][followed] < 0.9 * found[0][followed]


@pytest.mark.parametrize(
    ("decay", "step", "share"), [(0.0, 500, 0), (0.9, 500, 0.9), (0.9, 0, 0.1)]
)
def test_averaged_generator_follows_the_trained_one(decay, step, share):
    nets = players()
    assert not changed(weights(nets.generator), nets.averaged)
    before = weights(nets.averaged)
    training.generator_step(nets, *(b := batch()), nets.generator(b[0]), SETTINGS)
    trained = weights(nets.generator)
    averaging.Follower(nets.averaged, nets.generator, decay).follow(step)
    assert not changed(trained, nets.generator)
    for name, value in nets.averaged.named_parameters():
        expected = share * before[name] + (1 - share) * trained[name]
        torch.testing.assert_close(value, expected, msg=name)


@pytest.mark.parametrize(
    ("errors", "stale"),
    [
        ([1.0], 0),
        ([1.0, 0.9, 0.8], 0),
        ([1.0, 0.999, 0.998], 2),
        ([1.0, 0.996, 0.992, 0.988], 0),  # small gains add up to one that counts
        ([1.0, 0.5, 0.6, 0.7, 0.55], 3),
        ([1.0, float("nan"), 1.0], 2),
    ],
)
def test_plateau_counts_epochs_without_a_gain(errors, stale):
    plateau = Plateau(patience=3, min_gain=0.01)
    assert plateau.stale_epochs(errors) == stale
    assert plateau.reached(errors) is (stale >= 3)


def test_training_leaves_weights_history_and_summary_that_agree(fit, tmp_path, splits):
    table = fit(epochs=4, learning_rate=2e-3)
    folder = tmp_path / "run"
    assert sorted(p.name for p in folder.iterdir() if p.name != ".lock") == WHOLE
    stored = pd.read_csv(folder / "history.csv")
    pd.testing.assert_frame_equal(stored, table, check_exact=False)
    assert list(stored.epoch) == [1, 2, 3, 4]
    summary = json.loads((folder / "training.json").read_text())
    assert summary["best_epoch"] == 1 + stored.validation_mae.idxmin()
    assert summary["epochs"] == 4 and summary["plateau_reached"] is False
    generator = make_generator("temp-pix2pix", 64, 2, 2, "transpose")
    checkpoints.load_weights(generator, folder / "weights.safetensors")
    error = inference.validate(generator, splits[1])["validation_mae"]
    assert error == pytest.approx(summary["validation_mae"], rel=1e-5)
    assert stored.generator_l1.iloc[-1] < stored.generator_l1.iloc[0]


def test_kept_weights_are_those_of_the_first_best_epoch(fit, tmp_path, monkeypatch):
    errors = iter([0.5, 0.4, 0.45, 0.4])
    seen = []

    def validate(generator, slices):
        seen.append({k: v.clone() for k, v in generator.state_dict().items()})
        return {"validation_mae": next(errors), "validation_ssim": 0.5}

    monkeypatch.setattr(inference, "validate", validate)
    fit(epochs=4)
    kept = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.equal(kept[k], seen[1][k]) for k in kept)
    assert json.loads((tmp_path / "run" / "training.json").read_text())["best_epoch"] == 2


def test_run_stops_at_its_plateau(fit, tmp_path, monkeypatch):
    stays = {"validation_mae": 0.5, "validation_ssim": 0.5}
    monkeypatch.setattr(inference, "validate", lambda *_: dict(stays))
    assert len(fit(epochs=9, patience=2)) == 3
    assert len(fit("later", epochs=9, patience=2, min_epochs=5)) == 5
    assert json.loads((tmp_path / "run" / "training.json").read_text())["plateau_reached"]


@pytest.mark.parametrize("model_name", ["pix2pix", "temp-pix2pix"])
@pytest.mark.parametrize("place", ["save", "validate"])
def test_interrupted_run_goes_on_and_ends_like_an_uninterrupted_one(
    fit, tmp_path, monkeypatch, model_name, place
):
    fit("whole", model_name)
    module = checkpoints if place == "save" else inference
    original, calls = getattr(module, place), []

    def interrupt(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, place, interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit("cut", model_name)
    assert not (tmp_path / "cut" / "history.csv").exists()
    torch.manual_seed(99)
    fit("cut", model_name)
    assert len(calls) == 4  # the cut epoch is the only one done twice
    a, b = (load_file(tmp_path / folder / "weights.safetensors") for folder in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    a, b = (load_file(tmp_path / folder / "checkpoint.safetensors") for folder in ("whole", "cut"))
    assert set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)
    a, b = (pd.read_csv(tmp_path / folder / "history.csv") for folder in ("whole", "cut"))
    pd.testing.assert_frame_equal(a.drop(columns="seconds"), b.drop(columns="seconds"))


def test_complete_run_is_not_trained_again(fit, tmp_path, monkeypatch):
    fit()
    for name in ("manifest.json", "evaluation/manifest.json"):
        path = tmp_path / "run" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    monkeypatch.setattr(training, "train_epoch", None)
    assert len(fit()) == 3
    assert (tmp_path / "run" / "evaluation" / "manifest.json").exists()


def test_weights_in_change_are_not_trusted(fit, tmp_path, monkeypatch):
    """A manifest of an earlier training must not vouch for weights that are being replaced."""
    fit()
    manifests = [tmp_path / "run" / n for n in ("manifest.json", "evaluation/manifest.json")]
    for changes in ({"restart": True, "seed": 3}, {}):
        for path in manifests:
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        (tmp_path / "run" / "checkpoint.safetensors").unlink(missing_ok=not changes)
        with monkeypatch.context() as patch:
            patch.setattr(training, "train_epoch", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fit(**changes)
        assert not any(path.exists() for path in manifests)


def interrupted(*arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1e-3}, "learning_rate: found 0.0001, expected 0.001"),
        ({"seed": 13}, "seed: found 12, expected 13"),
        ({"model_name": "pix2pix"}, "model_name: found temp-pix2pix, expected pix2pix"),
        ({"ngf": 3}, "ngf: found 2, expected 3"),
    ],
)
def test_folder_of_other_settings_is_refused_and_left_alone(fit, tmp_path, changes, message):
    fit(epochs=1)
    (tmp_path / "run" / "manifest.json").write_text("{}")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(ValueError, match=f"{message}.*Give restart=True to start over"):
        fit(**{"epochs": 1} | changes)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


def test_other_slices_are_other_settings(fit, splits, monkeypatch):
    fit(epochs=1)
    monkeypatch.setattr(splits[0], "fingerprint", "other")
    with pytest.raises(ValueError, match="data: found .*, expected other"):
        fit(epochs=1)


def test_other_code_is_other_settings(fit, monkeypatch):
    fit(epochs=1)
    monkeypatch.setattr(checkpoints, "code_hash", lambda: "other")
    with pytest.raises(ValueError, match="code: found .*, expected other"):
        fit(epochs=1)


def test_restart_starts_over(fit, tmp_path, caplog):
    fit("fresh", seed=13)
    fit("run")
    fit("run", seed=13, restart=True)
    assert "starting over" in caplog.text and "seed: found 12, expected 13" in caplog.text
    a, b = (load_file(tmp_path / folder / "weights.safetensors") for folder in ("fresh", "run"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_fine_tuning_starts_from_the_given_weights(fit, tmp_path):
    fit("source", epochs=1)
    source = tmp_path / "source" / "weights.safetensors"
    fit("tuned", init_from=source, epochs=1, learning_rate=0.0)
    a, b = (load_file(tmp_path / folder / "weights.safetensors") for folder in ("source", "tuned"))
    trained = [name for name in a if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(a[name], b[name]) for name in trained)
    fit("source", epochs=1, seed=4, restart=True)
    with pytest.raises(ValueError, match="init_from: found"):
        fit("tuned", init_from=source, epochs=1, learning_rate=0.0)
    with pytest.raises(ValueError, match="does not fit this network: .*another model_name, ngf"):
        fit("other", "pix2pix", init_from=source, epochs=1)


def test_order_of_slices_depends_on_seed_and_epoch_only(splits):
    def order(epoch, **changes):
        seen = []
        nets = players("temp-pix2pix")
        slices = copy.copy(splits[0])
        slices.__class__ = type("Spy", (Slices,), {"__getitem__": spy(seen)})
        training.train_epoch(nets, slices, SETTINGS | {"batch_size": 2} | changes, epoch)
        return seen

    def spy(seen):
        return lambda self, i: seen.append(i) or Slices.__getitem__(self, i)

    first = order(0)
    assert sorted(first) == list(range(6))
    assert order(0) == first
    assert order(1) != first or order(2) != first
    assert order(0, seed=99) != first or order(0, seed=98) != first


@pytest.mark.parametrize("batch_size", [1, 6, 64])
def test_every_batch_size_learns(splits, batch_size):
    nets = players("temp-pix2pix", batch_size=batch_size)
    before = weights(nets.generator)
    settings = SETTINGS | {"batch_size": batch_size}
    losses = training.train_epoch(nets, splits[0], settings, 0)
    assert changed(before, nets.generator)
    assert losses["discriminator"] == pytest.approx(0.69, abs=0.2)


def test_slices_without_brain_do_no_harm(splits, monkeypatch):
    empty = {
        "mask": lambda m: m & False,
        "series": lambda s: s * 0 - 1,
        "reference": lambda r: r * 0 - 1,
    }
    original = Slices.__getitem__

    def above_the_head(self, i):
        return {k: empty[k](v) if k in empty else v for k, v in original(self, i).items()}

    monkeypatch.setattr(Slices, "__getitem__", above_the_head)
    losses = training.train_epoch(players("temp-pix2pix"), splits[0], SETTINGS, 0)
    assert losses["generator_l1"] == 0


def test_loss_that_is_not_a_number_names_step_and_patients(fit, splits, tmp_path, monkeypatch):
    fit(epochs=1)
    original = Slices.__getitem__

    def broken(self, i):
        item = original(self, i)
        return item | {"reference": item["reference"] * float("nan")}

    monkeypatch.setattr(Slices, "__getitem__", broken)
    with pytest.raises(
        FloatingPointError, match=r"epoch 1, step 1, on slices of \['p\d'"
    ) as caught:
        fit("other", epochs=1)
    assert set(splits[0].patients) >= set(
        str(caught.value).split("[")[1].split("]")[0][1:3].split()
    )
    assert not (tmp_path / "other" / "weights.safetensors").exists()


def test_validation_that_is_not_a_number_is_refused(fit, monkeypatch, tmp_path):
    nothing = {"validation_mae": float("nan"), "validation_ssim": 0.0}
    monkeypatch.setattr(inference, "validate", lambda *_: dict(nothing))
    with pytest.raises(FloatingPointError, match="validation error became nan in epoch 1: lower"):
        fit()
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_slices_that_change_under_a_run_are_refused_and_the_last_checkpoint_stays(
    fit, splits, tmp_path, monkeypatch
):
    whole = fit("whole", epochs=2)
    original, calls = inference.validate, []
    changed = splits[0].folder / "slices" / "mask.npy"
    stamp = changed.stat().st_mtime_ns

    def touch(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.utime(changed, ns=(stamp, stamp + 1))
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(inference, "validate", touch)
        with pytest.raises(ValueError, match=r"mask.npy in .*slices changed .*run it again"):
            fit(epochs=2)
    resumed = fit(epochs=2)
    assert len(calls) == 2
    columns = [name for name in whole if name != "seconds"]
    pd.testing.assert_frame_equal(resumed[columns], whole[columns], check_exact=True)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError("Unable to allocate 9 GiB for an array"),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_lack_of_memory_says_what_to_lower(fit, tmp_path, monkeypatch, error):
    original = training.train_epoch

    def lacking(nets, slices, settings, epoch):
        if epoch == 1:
            raise error
        return original(nets, slices, settings, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_epoch", lacking)
        with pytest.raises(MemoryError, match=r"lower batch_size \(now \d+\), ngf .*is kept"):
            fit(epochs=2)
    kept = checkpoints._read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")[1]
    assert len(json.loads(kept["history"])) == 1


@pytest.mark.parametrize(("module", "name"), [(training, "make_networks"), (checkpoints, "save")])
def test_lack_of_memory_outside_an_epoch_says_so_too(fit, monkeypatch, module, name):
    def lacking(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(module, name, lacking)
    with pytest.raises(MemoryError, match="lower batch_size"):
        fit(epochs=1)


def test_other_errors_of_torch_keep_their_words():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        with devices.explain_memory(SETTINGS):
            torch.zeros(2, 3) @ torch.zeros(2, 3)


def test_folder_in_use_is_refused_after_waiting(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
    with files.alone_in(tmp_path / "run"):
        with pytest.raises(TimeoutError, match="another run has been working in .*run"):
            fit()


def test_notebook_that_runs_again_keeps_its_folder_and_nobody_else_gets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
    files.hold(tmp_path, again=True)
    lock = files.hold(tmp_path, again=True)
    with pytest.raises(TimeoutError, match="another run has been working in"):
        files.hold(tmp_path)
    lock.release(force=True)
    files.hold(tmp_path).release()


def test_folder_in_use_is_waited_for(tmp_path):
    held, ended = threading.Event(), []

    def other_run():
        with files.alone_in(tmp_path / "run"):
            held.set()
            time.sleep(1)
            ended.append(time.monotonic())

    other = threading.Thread(target=other_run)
    other.start()
    held.wait()
    with files.alone_in(tmp_path / "run"):
        assert ended and time.monotonic() >= ended[0]
    other.join()


@pytest.mark.parametrize("model_name", ["pix2pix", "temp-pix2pix"])
def test_half_precision_learns_nearly_the_same_and_keeps_weights_in_full(fit, tmp_path, model_name):
    tables, kept = [], []
    for precision in ("fp32", "bf16"):
        tables.append(fit(precision, model_name, precision=precision, learning_rate=2e-3))
        kept.append(load_file(tmp_path / precision / "checkpoint.safetensors"))
    full, half = (table.validation_mae for table in tables)
    assert half.tolist() == pytest.approx(full.tolist(), rel=0.02)
    assert half.tolist() != full.tolist()
    assert {k: v.dtype for k, v in kept[1].items()} == {k: v.dtype for k, v in kept[0].items()}


@pytest.mark.parametrize("name", ["weights", "checkpoint"])
def test_full_disk_while_training_keeps_the_last_whole_epoch(fit, tmp_path, monkeypatch, name):
    whole = fit("whole", epochs=2)
    original, calls = checkpoints.to_bytes, []

    def full(*arguments):
        calls.append(1)
        if len(calls) == (3 if name == "weights" else 4):
            raise OSError(28, "No space left on device")
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "to_bytes", full)
        errors = iter([0.5, 0.4])
        real = inference.validate
        patch.setattr(
            inference, "validate", lambda g, s: real(g, s) | {"validation_mae": next(errors)}
        )
        with pytest.raises(OSError, match=f"{name}.safetensors could not be written"):
            fit("run", epochs=2)
    assert not list((tmp_path / "run").glob(".*partial*"))
    assert len(checkpoints._read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")) == 2
    assert len(fit("run", epochs=2)) == len(whole)
