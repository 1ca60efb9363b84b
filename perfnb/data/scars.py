"""What age leaves behind: white-matter lesions and old infarcts. Seen on the film, not acute.

White-matter lesions surround the ventricles and dot the deep white matter; old infarcts are
cavities filled with fluid and a rim of scarred tissue. Both are common in patients with stroke
(Wardlaw et al., Lancet Neurol 12:822, 2013; Vermeer et al., Lancet Neurol 6:611, 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from perfnb.data.vessels import seeds
from perfnb.data.warp import Warp, sample, smooth_field

OLD_INFARCTS = (0.78, 0.15, 0.07)
"""Shares of patients with none, one and two."""
VENTRICLE_MM = ((14, 28, 8), (12, 14, 16), (12, 0, 22), (16, -25, 20), (26, -42, 14), (24, -60, 8))
"""MNI points along the right lateral ventricle; the left one is its mirror image."""


@dataclass(frozen=True)
class Scars:
    """Scars of the N mask voxels; all from 0 to 1, shape (N,).

    `cavity` is the share of tissue that fluid has replaced; `gliosis` the share of what is left
    that is scarred: bright on T2*, and with less flow.
    """

    cavity: np.ndarray
    gliosis: np.ndarray
    count: int


def draw_scars(
    rng: np.random.Generator, points_mm: np.ndarray, template_mm: np.ndarray, warp: Warp
) -> Scars:
    """Draw a patient's scars.

    Parameters
    ----------
    rng : numpy Generator
        Source of all draws.
    points_mm, template_mm : float arrays, shape (3, N)
        Scanner and MNI coordinates of the mask voxels [mm].
    warp : Warp
        The patient's head.

    Returns
    -------
    Scars
    """
    diffuse, focal = rng.spawn(2)
    patches = sample(smooth_field(diffuse, 9.0), points_mm)
    load = diffuse.normal(0.0, 1.0)
    score = 3.2 * np.exp(-_from_ventricles(template_mm) / 7.0) + 0.8 * patches + 0.9 * load
    gliosis = expit((score - 3.9) / 0.35)
    count = int(focal.choice(len(OLD_INFARCTS), p=OLD_INFARCTS))
    cavity = np.zeros(points_mm.shape[1])
    for _ in range(count):
        depth = _infarct_depth(focal, points_mm, warp)
        cavity = np.maximum(cavity, expit(depth / 1.2))
        gliosis = np.maximum(gliosis, expit((depth + 4.0) / 1.5))
    return Scars(0.9 * cavity, gliosis, count)


def _from_ventricles(template_mm: np.ndarray) -> np.ndarray:
    """Distance of MNI points to the walls of the lateral ventricles, about, shape (N,) [mm]."""
    knots = np.array(VENTRICLE_MM, float)
    steps = np.linspace(0, len(knots) - 1, 4 * len(knots))
    axis = np.stack([np.interp(steps, np.arange(len(knots)), column) for column in knots.T])
    folded = np.stack([np.abs(template_mm[0]), template_mm[1], template_mm[2]])
    square = [((folded - point[:, None]) ** 2).sum(0) for point in axis.T]
    return np.maximum(np.sqrt(np.min(square, axis=0)) - 8.0, 0.0)


def _infarct_depth(rng: np.random.Generator, points_mm: np.ndarray, warp: Warp) -> np.ndarray:
    """Signed distance of points to the edge of one old infarct, inside positive [mm]."""
    places = seeds()
    centre = np.array(places[int(rng.integers(len(places)))], float)
    centre = (centre + rng.normal(0.0, 6.0, 3)) * (rng.choice((-1, 1)), 1, 1)
    radius, stretch = rng.uniform(5.0, 15.0), rng.uniform(0.7, 1.4, 3)
    away = (points_mm - warp.to_scanner(centre[:, None])) / stretch[:, None]
    ragged = 2.0 * sample(smooth_field(rng, 9.0), points_mm)
    return radius + ragged - np.sqrt((away**2).sum(0))
