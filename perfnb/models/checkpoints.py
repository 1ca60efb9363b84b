"""Weights and checkpoints as safetensors: whole or not at all, and never unpickled."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from perfnb.study import file_hash, refuse_other_settings, write_atomic

log = logging.getLogger(__name__)
PARTS = ("generator", "discriminator", "averaged")
TRAINED = PARTS[:2]
TRAINING_CODE = (  # below perfnb/
    *"models/networks models/temporal models/voxels models/folding models/normalisation".split(),
    *"models/players models/training models/batches models/averaging models/devices".split(),
    *"models/inference data/slices data/scaling".split(),
)
MANIFESTS = ("manifest.json", "evaluation/manifest.json")
ARTIFACTS = tuple(
    "checkpoint.safetensors weights.safetensors history.csv training.json snapshots.npy".split()
)


def save_weights(generator: nn.Module, path: Path) -> Path:
    """Write a generator's weights and running statistics."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in generator.state_dict().items()}
    with write_atomic(path) as temporary:
        temporary.write_bytes(to_bytes(tensors))
    return path


def load_weights(generator: nn.Module, path: Path) -> nn.Module:
    """Fill a generator with stored weights; ValueError says which ones don't fit."""
    tensors = _read(path)
    expected = {k: tuple(v.shape) for k, v in generator.state_dict().items()}
    found = {k: tuple(v.shape) for k, v in tensors.items()}
    if found != expected:
        wrong = sorted(k for k in {*found, *expected} if found.get(k) != expected.get(k))
        name = wrong[0]
        raise ValueError(
            f"{path} does not fit this network: {len(wrong)} of {len(expected)} tensors differ, "
            f"{name}: found {found.get(name)}, expected {expected.get(name)}; were they trained "
            "with another model_name, ngf or upsampling?"
        )
    generator.load_state_dict(tensors)
    return generator


def weights_hash(path: Path | None) -> str | None:
    """Return the hash of a weights file, None for no file."""
    return None if path is None else file_hash(path)


def code_hash() -> str:
    """Return a hash of the modules that decide what is trained: changed code trains anew."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in TRAINING_CODE:
        digest.update((folder / f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def save(run_dir: Path, nets, history: list[dict], identity: Mapping) -> None:
    """Write the networks, both optimisers, fp16's scaling and the history as one file."""
    tensors = {}
    for part in PARTS:
        for name, value in getattr(nets, part).state_dict().items():
            tensors[f"{part}/{name}"] = value
    for part in TRAINED:
        state = getattr(nets, f"{part}_optimizer").state_dict()["state"]
        for index, values in state.items():
            for name, value in values.items():
                tensors[f"{part}_optimizer/{index}/{name}"] = value
    tensors["random"] = torch.get_rng_state()
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    metadata = {"history": json.dumps(history), "identity": json.dumps(dict(identity))}
    if nets.accelerator.scaler is not None:  # fp16
        metadata["scaler"] = json.dumps(nets.accelerator.scaler.state_dict())
    with write_atomic(run_dir / "checkpoint.safetensors") as temporary:
        temporary.write_bytes(to_bytes(tensors, metadata))


def resume(run_dir: Path, nets, identity: Mapping, restart: bool = False) -> list[dict]:
    """Fill networks and optimisers from a run folder's checkpoint; return its history.

    An empty history means a fresh start, as where the best weights were deleted. A checkpoint
    that cannot be read or was made with other settings is refused with a ValueError, or removed
    with everything the run had written if `restart`.
    """
    path = run_dir / "checkpoint.safetensors"
    if not path.is_file() or not (run_dir / "weights.safetensors").is_file():
        return []
    try:
        tensors, metadata = _read_checkpoint(path)
        found, advice = json.loads(metadata["identity"]), "Give restart=True to start over"
        refuse_other_settings(run_dir, found, identity, advice)
    except ValueError as error:
        if not restart:
            raise
        log.warning("starting over: %s", error)
        distrust(run_dir)
        for name in ARTIFACTS:
            (run_dir / name).unlink(missing_ok=True)
        return []
    try:
        _restore(nets, tensors)
        if nets.accelerator.scaler is not None:
            nets.accelerator.scaler.load_state_dict(json.loads(metadata["scaler"]))
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} does not fit these networks ({str(error).splitlines()[0]}): delete it to "
            "start over"
        ) from error
    return json.loads(metadata["history"])


def distrust(run_dir: Path) -> None:
    """Remove the manifests of a run and of its evaluation: their weights are about to change."""
    for name in MANIFESTS:
        (run_dir / name).unlink(missing_ok=True)


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = _read(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if {"identity", "history"} - set(metadata):
        raise ValueError(
            f"{path} is not a checkpoint of perfnb: delete it, or give restart=True to start over"
        )
    return tensors, metadata


def _restore(nets, tensors: Mapping[str, Tensor]) -> None:
    for part in PARTS:
        weights = {k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{part}/")}
        getattr(nets, part).load_state_dict(weights)
    for part in TRAINED:
        optimizer = getattr(nets, f"{part}_optimizer")
        state: dict[int, dict] = {}
        for key, value in tensors.items():
            if key.startswith(f"{part}_optimizer/"):
                _, index, name = key.split("/")
                state.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    torch.set_rng_state(tensors["random"])


def _read(path: Path) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path} is missing. Chapter 05_train (06_finetune) makes it: run it first."
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}): it is truncated or another format; "
            "delete it and train again"
        ) from error
