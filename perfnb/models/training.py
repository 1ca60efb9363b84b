"""Training as in the paper: a discriminator step, a generator step, and `fit` around them.

Fine-tuning is `fit` with `init_from`. A run that was killed goes on from its last whole epoch.
"""

import logging
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from accelerate.utils import broadcast_object_list
from torch import Tensor
from tqdm import tqdm

from perfnb.data.slices import Slices
from perfnb.files import alone_in, refuse_changed, stamps, write_atomic, write_json
from perfnb.maps import spec
from perfnb.models import averaging, checkpoints, devices, inference, snapshots
from perfnb.models.batches import batches, draw_shifts, mirrored, one_ahead, shifted, toss
from perfnb.models.players import Networks, learn, make_networks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plateau:
    """When to stop: no relative gain of `min_gain` in the validation error for `patience` epochs.

    Nor before `min_epochs`: a network may first learn little but the mean, and then more.

    The same rule for every model, so that architectures are compared where each has stopped
    getting better, never after the same seconds or epochs alone.
    """

    patience: int
    min_gain: float
    min_epochs: int = 0

    def stale_epochs(self, errors: list[float]) -> int:
        """Return how many epochs have passed since the last one that counts as better."""
        best, since = math.inf, 0
        for error in errors:
            since += 1
            if error < best * (1 - self.min_gain):
                best, since = error, 0
        return since

    def reached(self, errors: list[float]) -> bool:
        """Return whether the run has stopped getting better."""
        return len(errors) >= self.min_epochs and self.stale_epochs(errors) >= self.patience


def adversarial_loss(verdicts: Tensor, is_real: bool) -> Tensor:
    """Binary cross-entropy of patch verdicts (logits) against "all real" or "all generated"."""
    return F.binary_cross_entropy_with_logits(verdicts, torch.full_like(verdicts, float(is_real)))


def discriminator_step(
    nets: Networks, series: Tensor, reference: Tensor, generated: Tensor
) -> float:
    """Teach the discriminator: reference maps are real, generated ones are not."""
    with nets.accelerator.autocast():
        seen = nets.discriminator.look(series)
        real = adversarial_loss(nets.discriminator.judge(seen, reference), is_real=True)
        # detached: the generator must not learn from this loss
        fake = adversarial_loss(nets.discriminator.judge(seen, generated.detach()), is_real=False)
    loss = (real + fake) / 2
    learn(nets, "discriminator", loss)
    return loss.item()


def generator_step(
    nets: Networks, series: Tensor, reference: Tensor, generated: Tensor, settings: Mapping
) -> tuple[float, float]:
    """Teach the generator: fool the discriminator, and stay near the reference (L1)."""
    nets.discriminator.requires_grad_(False)  # only judges here
    with nets.accelerator.autocast():
        adversarial = adversarial_loss(nets.discriminator(series, generated), is_real=True)
    l1 = F.l1_loss(generated.to(reference.dtype), reference)
    loss = settings["adversarial_weight"] * adversarial + settings["l1_weight"] * l1
    learn(nets, "generator", loss)
    nets.discriminator.requires_grad_(True)
    return l1.item(), adversarial.item()


def train_epoch(nets: Networks, slices: Slices, settings: Mapping, epoch: int) -> dict[str, float]:
    """Show the training slices in an order drawn from seed and epoch, in full batches.

    Returns the epoch's mean losses; the generator's L1 per brain pixel, since background is met
    exactly and would only dilute it.
    """
    device = next(nets.generator.parameters()).device
    order = torch.Generator().manual_seed(settings["seed"] * 10_007 + epoch)
    coin = torch.Generator().manual_seed(settings["seed"] * 10_037 + epoch)
    loader = batches(slices, settings["batch_size"], order)
    nets.generator.train(), nets.discriminator.train()
    follower = averaging.Follower(nets.averaged, nets.generator, settings["averaging"])
    sums = {"generator_l1": 0.0, "generator_adversarial": 0.0, "discriminator": 0.0}
    steps = 0
    for batch in one_ahead(loader):
        series, reference, mask = (batch[k].to(device) for k in ("series", "reference", "mask"))
        if settings["mirroring"]:
            tossed = toss(settings["batch_size"], coin)
            series, reference, mask = (mirrored(x, tossed) for x in (series, reference, mask))
        if settings["shifting"] and not spec(slices.map_name).counts_from_start:
            shifts = draw_shifts(settings["batch_size"], settings["shifting"], coin)
            series = shifted(series, shifts)
        with nets.accelerator.autocast():
            generated = inference.draw(nets.generator, series, mask)
        taught = discriminator_step(nets, series, reference, generated)
        l1, adversarial = generator_step(nets, series, reference, generated, settings)
        follower.follow(epoch * len(loader) + steps)
        _refuse_nan_step(epoch, steps, batch, l1, adversarial, taught)
        brain = max(mask.float().mean().item(), 1 / mask.numel())  # 0 in slices above the head
        in_brain = l1 / brain  # comparable with the validation error
        for name, value in zip(sums, (in_brain, adversarial, taught), strict=True):
            sums[name] += value
        steps += 1
    means = torch.tensor(list(sums.values()), device=device) / max(steps, 1)
    means = devices.total(means) / devices.process_count()
    return dict(zip(sums, means.tolist(), strict=True))


def fit(
    run_dir: Path,
    model_name: str,
    training: Slices,
    validation: Slices,
    settings: Mapping,
    init_from: Path | None = None,
    device: str = "cpu",
    restart: bool = False,
) -> pd.DataFrame:
    """Train one model to its plateau and keep the weights of its best epoch.

    Parameters
    ----------
    run_dir : Path
        Gets `weights.safetensors`, `history.csv`, `training.json`, `snapshots.npy` and, while
        running, `checkpoint.safetensors`.
    model_name : str
        `pix2pix` or `temp-pix2pix`.
    training, validation : Slices
        Prepared slices of one map.
    settings : mapping
        Widths, losses, optimiser, plateau rule: one chapter's section of a study file.
    init_from : Path, optional
        Weights that the generator starts from (fine-tuning).
    device : str
        Of torch, such as `cpu` or `cuda`.
    restart : bool
        Start over where the folder holds a run with other settings, instead of refusing.

    Returns
    -------
    DataFrame
        One row an epoch: losses, validation errors, seconds.

    Raises
    ------
    ValueError
        The folder holds a run with other settings, the weights don't fit, or prepared slices
        changed meanwhile.
    FloatingPointError
        A loss is not a number; says at which step and slices. The last checkpoint stays.
    MemoryError
        The networks don't fit; says what to lower.
    """
    _refuse_bad_start(training, validation, restart)
    read = {
        data.folder / "slices": stamps(data.folder / "slices") for data in (training, validation)
    }
    identity = {"model_name": model_name, "map_name": training.map_name, **settings}
    identity |= {"data": training.fingerprint, "init_from": checkpoints.weights_hash(init_from)}
    identity |= {"code": checkpoints.code_hash()}
    with devices.explain_memory(settings):
        nets = make_networks(model_name, training.frames, settings, device)
    process = nets.accelerator
    lock = alone_in(run_dir) if process.is_main_process else nullcontext()
    with devices.explain_memory(settings), lock:
        process.wait_for_everyone()  # the main process writes, and holds the folder's lock
        if init_from is not None:
            for network in (nets.generator, nets.averaged):
                checkpoints.load_weights(network, init_from)
        with process.main_process_first():
            history = checkpoints.resume(run_dir, nets, identity, restart)
        plateau = Plateau(*(settings[name] for name in ("patience", "min_gain", "min_epochs")))
        if len(history) < settings["epochs"] and not _ended(history, plateau):
            checkpoints.distrust(run_dir)
        bar = tqdm(total=settings["epochs"], initial=len(history), unit="epoch", leave=False)
        while len(history) < settings["epochs"] and not _ended(history, plateau):
            history.append(_epoch(nets, training, validation, settings, len(history)))
            for folder, before in read.items():
                refuse_changed(folder, before)
            if process.is_main_process:
                snapshots.keep(run_dir, nets.averaged, validation, len(history))
                _keep(run_dir, nets, history, identity)
            bar.update(1)
        bar.close()
        if process.is_main_process:
            _finish(run_dir, history, plateau, training.fingerprint)
        process.wait_for_everyone()
        return pd.DataFrame(history)


def describe(summary: Mapping) -> str:
    """Return in one sentence how a training ended; `summary` is its `training.json`."""
    where = (
        "at its plateau" if summary["plateau_reached"] else "before a plateau, at its last epoch"
    )
    return f"Ended {where}, after {summary['epochs']} epochs; the best is {summary['best_epoch']}."


def _epoch(
    nets: Networks, training: Slices, validation: Slices, settings: Mapping, epoch: int
) -> dict[str, float]:
    """Train and validate once; all processes get the main one's row of the history."""
    started = time.perf_counter()
    row = {"epoch": epoch + 1, **train_epoch(nets, training, settings, epoch)}
    if settings["averaging"]:
        averaging.renew_statistics(nets.averaged, training, settings, epoch)
    if nets.accelerator.is_main_process:
        row |= inference.validate(nets.averaged, validation)
    row["seconds"] = round(time.perf_counter() - started, 3)
    (row,) = broadcast_object_list([row])
    _refuse_nan(row)
    return row


def _keep(run_dir: Path, nets: Networks, history: list[dict], identity: Mapping) -> None:
    """Write the weights if they are the best so far, and the checkpoint."""
    if min(history, key=lambda row: row["validation_mae"]) is history[-1]:
        checkpoints.save_weights(nets.averaged, run_dir / "weights.safetensors")
    checkpoints.save(run_dir, nets, history, identity)


def _ended(history: list[dict], plateau: Plateau) -> bool:
    return plateau.reached([row["validation_mae"] for row in history])


def _refuse_bad_start(training: Slices, validation: Slices, restart: bool) -> None:
    if not isinstance(restart, bool):
        raise ValueError(
            f"restart={restart!r} is a {type(restart).__name__}; expected True or False"
        )
    for name, slices in (("training", training), ("validation", validation)):
        if not slices.patients:
            raise ValueError(
                f"{slices.folder} holds no {name} patient with {slices.map_name}: it was prepared "
                "with trained_on to apply another cohort's model, or has no references; prepare it "
                "again without trained_on to train on it"
            )


def _finish(run_dir: Path, history: list[dict], plateau: Plateau, fingerprint: str) -> None:
    table = pd.DataFrame(history)
    with write_atomic(run_dir / "history.csv") as temporary:
        table.to_csv(temporary, index=False)
    summary = {
        "plateau_reached": _ended(history, plateau),
        "best_epoch": int(table.validation_mae.idxmin()) + 1,
        "epochs": len(table),
        "validation_mae": float(table.validation_mae.min()),
        "data": fingerprint,
    }
    write_json(run_dir / "training.json", summary)


def _refuse_nan(row: Mapping) -> None:
    if not math.isfinite(row["validation_mae"]):
        raise FloatingPointError(
            f"the validation error became {row['validation_mae']} in epoch {row['epoch']}: lower "
            "learning_rate, or look at the validation films; the last whole epoch is kept"
        )


def _refuse_nan_step(epoch: int, step: int, batch: Mapping, *losses: float) -> None:
    if not all(map(math.isfinite, losses)):
        patients = sorted(set(batch["patient"]))
        raise FloatingPointError(
            f"a loss became {losses} in epoch {epoch + 1}, step {step + 1}, on slices of "
            f"{patients}: look at these films, or lower learning_rate; the last whole epoch is kept"
        )
