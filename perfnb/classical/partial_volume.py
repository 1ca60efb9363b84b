"""How much of an arterial voxel is artery: told by the vein, in which all contrast agent drains.

What enters the brain leaves it, so the areas under the arterial and the venous curve are equal
(Lin et al. 2001, J Magn Reson Imaging 14:659). A thin artery shares its voxels with tissue and
its curve comes out too low; the sagittal sinus is wide enough for voxels of its own.

In a film whose motion was taken out, every vessel is blurred, the sinus too. There the share of
artery is told by the areas under the curves of voxels and tissue, and the tissue's part is taken
out: what a voxel holds adds up by volume, to first order.
"""

from __future__ import annotations

import numpy as np

from perfnb.classical.aif_features import curve_features, tissue_features
from perfnb.classical.aif_verdict import tissue_misfit

MIN_HEIGHT = 1.8  # peak over that of tissue
MIN_AREA = 1.5  # area over that of tissue
MAX_ROUGHNESS = 2.0
N_VOXELS = 3
ALIKE = 0.85  # of the largest areas: all voxels as pure are averaged, not only those noise lifts
MAX_MISFIT = 0.02  # of a venous curve's energy that the arterial input leaves unexplained
BLOOD_TO_TISSUE = 3.3
"""Area under blood's curve over that under tissue's: a relaxivity ratio of 1/7 and a CBV of
3 ml/100 g, between grey and white matter. Brains differ (simulated ones by 12 %), and with them
what rests on it."""
MAX_FACTOR = 1.7  # a larger one is an artefact, or the arterial voxels are hardly arteries


def find_vein(
    curves: np.ndarray,
    aif: np.ndarray,
    repetition_time_s: float,
    arrival: int,
    taken_s: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Find the purest venous curves.

    Parameters
    ----------
    curves : float array, shape (N, T)
        Delta R2* of the brain's voxels [1/s].
    aif : float array, shape (T,)
        Arterial input [1/s], whose later and wider image a venous curve is.
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        First frame of the bolus.
    taken_s : float array, shape (N,), or float
        When each voxel's slice was taken [s].

    Returns
    -------
    int array
        Indices of up to twelve curves that are tall, smooth, later than tissue, low again at the
        end of the series, and follow from the arterial input; empty where there are none.
    """
    features = curve_features(curves, repetition_time_s, arrival, taken_s)
    tissue = tissue_features(features)
    end = curves[:, -max(5, curves.shape[1] // 8) :].mean(axis=1)
    candidate = (
        (features["peak_s"] > tissue["peak_s"])
        & (features["height"] > MIN_HEIGHT * tissue["height"])
        & (features["area"] > MIN_AREA * tissue["area"])
        & (features["roughness"] < MAX_ROUGHNESS)
        & (features["noise"] < 0.1 * features["height"])
        & (np.abs(end) < 0.45 * features["height"])
    )
    found = np.flatnonzero(candidate)
    found = found[np.argsort(-features["area"][found])][: 4 * N_VOXELS]
    follows = [
        tissue_misfit(aif[None], curves[i], repetition_time_s, arrival)[0][0] < MAX_MISFIT
        for i in found
    ]
    found = found[np.array(follows, bool)]
    area = features["area"][found]
    return found[area >= ALIKE * area[:N_VOXELS].mean()] if len(found) else found


def partial_volume_factor(
    arterial_area: float, vessel_areas: tuple[float, ...]
) -> tuple[float, bool]:
    """Factor that lifts an arterial curve to the area of the purest vessel.

    Parameters
    ----------
    arterial_area : float
        Area of the arterial input.
    vessel_areas : tuple of float
        Areas of vein and single arteries, in the same unit.

    Returns
    -------
    factor : float
        At least 1: no voxel can be purer than a vessel.
    believable : bool
        False above MAX_FACTOR, and where there is no area to compare.
    """
    largest = max((*vessel_areas, arterial_area))
    if arterial_area <= 0 or not np.isfinite(largest):
        return 1.0, False
    factor = largest / arterial_area
    return (float(factor), True) if factor <= MAX_FACTOR else (1.0, False)


def arterial_share(area_ratio: float) -> float:
    """Share of artery in voxels that hold tissue besides, told by the areas of the first pass.

    Parameters
    ----------
    area_ratio : float
        Area under the voxels' curve over that of tissue.

    Returns
    -------
    float
        From 0, where the voxels show no more than tissue does, to 1.
    """
    return min(max((area_ratio - 1) / (BLOOD_TO_TISSUE - 1), 0.0), 1.0)


def without_tissue(curves: np.ndarray, tissue: np.ndarray, share: float) -> np.ndarray:
    """Take the tissue out of curves (..., T) of voxels that are artery to this share."""
    return (curves - (1 - share) * tissue) / share
