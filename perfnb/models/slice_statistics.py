"""Which batch statistics at test time? Those stored in training, or those of what is drawn.

The published code never leaves training mode, so that batch norm normalises each slice by its
own mean and variance. `inference.predict` uses the running statistics of training instead. The
slices of one patient together are a third way.
"""

import copy

import numpy as np
import pandas as pd
import torch
from torch import nn

from perfnb.data.slices import Slices
from perfnb.metrics import images
from perfnb.models import inference

KINDS = ("running", "of the slice", "of the patient")


@torch.inference_mode()
def predict_by_own(
    generator: nn.Module, series: np.ndarray, mask: np.ndarray, together: int = 1
) -> np.ndarray:
    """Draw maps with the batch statistics of the slices that are drawn together.

    One at a time is what the published code did. The networks have no dropout, so the statistics
    are all that training mode changes. The generator given is left as it is.

    Parameters
    ----------
    generator, series, mask
        As in `inference.predict`.
    together : int
        Slices that share their statistics.

    Returns
    -------
    float32 array, shape (Z, H, W)
        The map scaled to [-1, 1]; -1 outside the mask.
    """
    copied = copy.deepcopy(generator).train()
    device = next(copied.parameters()).device
    drawn = []
    for z in range(0, len(series), together):
        part = slice(z, z + together)
        batch = torch.as_tensor(series[part], dtype=torch.float32, device=device)
        inside = torch.as_tensor(mask[part], device=device)
        drawn.append(inference.draw(copied, batch, inside)[:, 0].cpu().numpy())
    return np.concatenate(drawn)


def compare(generator: nn.Module, slices: Slices) -> pd.DataFrame:
    """Score a generator in all three ways on every patient with a reference.

    Returns
    -------
    DataFrame
        One row a patient and kind of statistics: `MAE` and `SSIM` over whole slices on [-1, 1],
        the paper's way, and `tissue_MAE` [unit of the map].
    """
    rows = []
    for patient in slices.patients:
        slab = slices.patient(patient)
        seen = generator, slab.series, slab.mask
        ways = (
            inference.predict(*seen),
            predict_by_own(*seen),
            predict_by_own(*seen, len(slab.mask)),
        )
        for kind, drawn in zip(KINDS, ways, strict=True):
            scores = images.slice_scores(slab.reference, drawn)
            physical = slices.scaling.backward(slices.map_name, drawn)
            errors = images.physical_errors(slab.reference_physical, physical, slab.tissue)
            row = {"patient": patient, "statistics": kind, "tissue_MAE": errors["MAE"]}
            rows.append(row | {name: scores[name] for name in ("MAE", "SSIM")})
    return pd.DataFrame(rows, columns=["patient", "statistics", "MAE", "SSIM", "tissue_MAE"])


def summarise(table: pd.DataFrame, unit: str) -> tuple[pd.DataFrame, str]:
    """Return means over patients, and in one sentence how often the running statistics lose.

    Parameters
    ----------
    table : DataFrame
        From `compare`.
    unit : str
        Of the map.
    """
    means = table.drop(columns="patient").groupby("statistics", sort=False).mean()
    means = means.rename(columns={"tissue_MAE": f"MAE in tissue [{unit}]"})
    wide = table.pivot(index="patient", columns="statistics", values="tissue_MAE")
    if wide.empty:
        return means, "No patient has a reference: there is nothing to compare."
    count = len(wide)
    said = [f"{kind} in {(wide[kind] < wide[KINDS[0]]).sum()} of {count}" for kind in KINDS[1:]]
    return means, (
        "Nearer to the reference in tissue than the running statistics are those "
        f"{', those '.join(said)} patients."
    )
