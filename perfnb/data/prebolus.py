"""A floor: what a small network draws that sees the film only until the bolus comes.

Before the bolus a film shows anatomy, and anatomy alone tells something about perfusion: grey
matter has more of it. What a network owes to the bolus begins where this one ends.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import nn

from perfnb.data.slices import Slab, Slices
from perfnb.files import read_table

NAME = "pre-bolus only"
SCALES = (1.0, 2.0, 4.0, 8.0)  # pixels of 64 a side
VOXELS, STEPS, CHECK, BATCH, WIDTH = 60_000, 1200, 60, 512, 48


def draw_before_bolus(
    folder: Path, map_names: Sequence[str], wanted: Sequence[str], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Train on the training patients' frames before the bolus; draw all maps of other patients.

    One network learns every map at once, voxel by voxel, from `features`, with the L1 loss. The
    weights that do best on the validation patients are kept.

    Parameters
    ----------
    folder : Path
        `data/<study>/<cohort>`.
    map_names : sequence of str
        Maps to learn; only patients with a reference of each are learnt from.
    wanted : sequence of str
        Patients to draw.
    seed : int
        Of the voxels that are drawn and of the weights.

    Returns
    -------
    dict of patient to dict of map name to float32 array, shape (Z, H, W)
        In the unit of the map, 0 outside the mask; empty where nobody can be learnt from.
    """
    rng, table = np.random.default_rng(seed), read_table(folder / "patients.csv")
    baselines = table.set_index("patient")[["baseline_first", "baseline_last"]]
    splits = [{n: Slices(folder, part, n) for n in map_names} for part in ("train", "validation")]
    voxels = [_voxels(data, baselines, rng) for data in splits]
    if any(part is None for part in voxels):
        return {}
    network = _train(*voxels, seed)
    return {patient: _draw(network, splits[0], patient, baselines) for patient in wanted}


def _voxels(data: Mapping[str, Slices], baselines: pd.DataFrame, rng) -> tuple | None:
    """Features (N, features) and scaled references (N, maps) of voxels of a split's patients."""
    patients = sorted(set.intersection(*(set(part.patients) for part in data.values())))
    inputs, targets = [], []
    for patient in patients:
        slab = next(iter(data.values())).patient(patient)
        chosen = rng.permutation(int(slab.mask.sum()))[: VOXELS // len(patients)]
        inputs.append(features(_before(slab, baselines.loc[patient]), slab.mask)[chosen])
        references = [part.scaled_reference(patient)[slab.mask] for part in data.values()]
        targets.append(np.stack(references, axis=1)[chosen])
    return (np.concatenate(inputs), np.concatenate(targets)) if patients else None


def features(before: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What the network sees of each voxel: its signal, its surroundings, and where it lies.

    Parameters
    ----------
    before : float array, shape (Z, F, H, W)
        The frames before the bolus.
    mask : bool array, shape (Z, H, W)
        Brain.

    Returns
    -------
    float32 array, shape (voxels of the mask, features)
    """
    level = np.where(mask, before.mean(axis=1), 0)
    wobble = np.where(mask, before.std(axis=1), 0)
    around = [_smooth(level, mask, width * mask.shape[1] / 64) for width in SCALES]
    contrast = np.sqrt(np.maximum(_smooth(level**2, mask, 1.5) - _smooth(level, mask, 1.5) ** 2, 0))
    edge = np.stack([np.hypot(*np.gradient(image)) for image in around[0]])
    depth = np.stack([ndimage.distance_transform_edt(flat) for flat in mask])
    mirrored = around[1] - around[1][..., ::-1]
    shown = [level, wobble, *around, contrast, edge, depth, mirrored]
    columns = [image[mask] for image in shown]
    for axis in np.nonzero(mask):  # from -1 to 1 across the brain
        place = 2 * (axis - axis.min()) / max(np.ptp(axis), 1) - 1
        columns += [place, place**2]
    return np.stack(columns, axis=1).astype(np.float32)


def _before(slab: Slab, row: pd.Series) -> np.ndarray:
    """Frames [first, last) of the scanner's film (Z, T, H, W), as far as the slab holds them."""
    first, last = (int(row[f"baseline_{end}"]) + slab.lead for end in ("first", "last"))
    return slab.series[:, max(first, 0) : last]


def _smooth(values: np.ndarray, mask: np.ndarray, width: float) -> np.ndarray:
    """Gaussian average (Z, H, W) within each slice, over the mask only."""
    sigma = (0, width, width)
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(mask, values, 0).astype(np.float32), sigma)
    return np.where(mask, total / np.maximum(weight, 1e-6), 0)


def _train(training: tuple, validation: tuple, seed: int) -> nn.Module:
    """Fit two hidden layers by Adam; inputs (N, features), targets (N, maps) on [-1, 1]."""
    (x, y), (x_held, y_held) = [map(torch.from_numpy, part) for part in (training, validation)]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(x.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
        network = nn.Sequential(_Standard(x), *layers, nn.Linear(WIDTH, y.shape[1]))
    nn.init.zeros_(network[-1].weight)  # begins as the constant
    network[-1].bias.data = y.median(dim=0).values
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    best, kept = np.inf, None
    for step in range(STEPS + 1):
        if step % CHECK == 0:
            with torch.inference_mode():
                error = (network(x_held) - y_held).abs().mean().item()
            if error < best:
                best, kept = error, copy.deepcopy(network.state_dict())
        rows = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
        loss = (network(x[rows]) - y[rows]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.load_state_dict(kept)
    return network


class _Standard(nn.Module):
    """Every feature less its mean over its standard deviation in the training voxels."""

    def __init__(self, inputs: torch.Tensor):
        super().__init__()
        self.register_buffer("mean", inputs.mean(dim=0))
        self.register_buffer("spread", inputs.std(dim=0).clamp(min=1e-6))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return ((inputs - self.mean) / self.spread).clamp(-6, 6)


def _draw(
    network: nn.Module, data: Mapping[str, Slices], patient: str, baselines: pd.DataFrame
) -> dict[str, np.ndarray]:
    """All maps of one patient."""
    slab = next(iter(data.values())).patient(patient)
    seen = features(_before(slab, baselines.loc[patient]), slab.mask)
    with torch.inference_mode():
        drawn = network(torch.from_numpy(seen)).numpy()
    maps = {}
    for column, (name, slices) in zip(drawn.T, data.items(), strict=True):
        maps[name] = np.zeros(slab.mask.shape, np.float32)
        maps[name][slab.mask] = slices.scaling.backward(name, column)
    return maps
