"""From prepared series to maps, in one documented network mode."""

import numpy as np
import torch
from torch import Tensor, nn

from perfnb.data.slices import BACKGROUND, Slices
from perfnb.metrics import images
from perfnb.models.folding import fold

BATCH = 4  # slices: their features stay in the cache on the way to the U-Net


@torch.inference_mode()
def predict(generator: nn.Module, series: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw one map for each slice of a patient.

    Batch norm uses the statistics gathered in training ("running statistics"), dropout is off:
    a slice's map does not depend on its neighbours in the batch. The published code keeps the
    network in training mode instead, with the statistics of the slice under test. The generator
    stays as it is: a folded copy draws (`perfnb.models.folding`).

    Parameters
    ----------
    generator : nn.Module
        Called as `generator(series, mask)`.
    series : float array, shape (Z, T, H, W)
        Scaled to [-1, 1], one value outside the mask.
    mask : bool array, shape (Z, H, W)
        Brain.

    Returns
    -------
    float32 array, shape (Z, H, W)
        The map scaled to [-1, 1]; -1 outside the mask.
    """
    folded = fold(generator)
    device = next(generator.parameters()).device
    drawn = np.empty(mask.shape, np.float32)
    for first in range(0, len(series), BATCH):
        part = slice(first, first + BATCH)
        batch = torch.as_tensor(series[part], dtype=torch.float32, device=device)
        inside = torch.as_tensor(mask[part], dtype=torch.bool, device=device)
        drawn[part] = draw(folded, batch, inside)[:, 0].cpu().numpy()
    return drawn


def draw(generator: nn.Module, series: Tensor, mask: Tensor) -> Tensor:
    """Let a generator draw slices and set what lies outside the brain to the background's -1.

    Training and test use the same function: neither loss nor score is spent on background.

    Parameters
    ----------
    generator : nn.Module
        Called as `generator(series, mask)`.
    series : float tensor, shape (N, T, H, W)
        Prepared slices.
    mask : bool tensor, shape (N, H, W)
        Brain.

    Returns
    -------
    float tensor, shape (N, 1, H, W)
    """
    return torch.where(mask[:, None], generator(series, mask), float(BACKGROUND))


def validate(generator: nn.Module, slices: Slices) -> dict[str, float]:
    """Return the error of a generator on validation patients, each patient counting the same.

    `validation_mae`: mean absolute error in the brain on [-1, 1] (the plateau rule's error).
    `validation_ssim`: whole-slice SSIM, the paper's way.
    """
    generator, errors, similarities = fold(generator), [], []
    for patient in slices.patients:
        prepared = slices.patient(patient)
        prediction = predict(generator, prepared.series, prepared.mask)
        difference = np.abs(prediction - prepared.reference)[prepared.mask]
        errors.append(float(difference.mean()))
        similarities.append(images.slice_scores(prepared.reference, prediction)["SSIM"])
    return {
        "validation_mae": float(np.mean(errors)),
        "validation_ssim": float(np.mean(similarities)),
    }
