"""Arteries and a vein as thin tubes in template space, and the territories that they feed.

The centre lines are drawn by hand in MNI coordinates after textbook anatomy. Radii are apparent
radii on echo-planar images, a little wider than the lumen, because susceptibility blooms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from perfnb.data.warp import Warp

STEP_MM = 0.5
DISC_POINTS = 24


@dataclass(frozen=True)
class Tube:
    """One vessel: centre line in MNI mm (right side), radius [mm] and delay [s] at its ends."""

    name: str
    points: tuple[tuple[float, float, float], ...]
    radius_mm: tuple[float, float]
    delay_s: tuple[float, float]
    paired: bool = True


ARTERIES = (
    Tube("ICA", ((18, -8, -46), (14, 0, -36), (13, 5, -27), (15, 2, -17)), (3.0, 2.8), (0.0, 0.05)),
    Tube("M1", ((15, 2, -17), (22, 4, -17), (30, 5, -17), (37, 3, -14)), (2.6, 2.5), (0.05, 0.2)),
    Tube(
        "M2 superior",
        ((37, 3, -14), (40, 7, -4), (41, 12, 6), (45, 14, 16)),
        (2.4, 2.0),
        (0.2, 0.5),
    ),
    Tube(
        "M3 superior",
        ((45, 14, 16), (51, 8, 24), (54, 2, 34), (50, -6, 44)),
        (1.6, 1.0),
        (0.5, 1.0),
    ),
    Tube(
        "M2 inferior",
        ((37, 3, -14), (41, -6, -6), (42, -16, 4), (46, -26, 14)),
        (2.4, 2.0),
        (0.2, 0.5),
    ),
    Tube(
        "M3 inferior",
        ((46, -26, 14), (52, -36, 20), (52, -48, 28), (46, -58, 36)),
        (1.6, 1.0),
        (0.5, 1.0),
    ),
    Tube(
        "M2 middle", ((37, 3, -14), (40, 0, -4), (41, -3, 8), (48, -8, 20)), (2.1, 1.6), (0.2, 0.6)
    ),
    Tube("A1", ((15, 2, -17), (8, 8, -16), (3, 14, -13)), (1.8, 1.8), (0.05, 0.15)),
    Tube("A2", ((3, 14, -13), (2, 26, -6), (2, 35, 6), (2, 32, 18)), (1.9, 1.7), (0.15, 0.45)),
    Tube("A3", ((2, 32, 18), (2, 18, 28), (2, -2, 36), (2, -24, 42)), (1.5, 1.0), (0.45, 1.0)),
    Tube(
        "basilar",
        ((0, -17, -48), (0, -18, -36), (0, -16, -24)),
        (2.6, 2.5),
        (0.1, 0.2),
        paired=False,
    ),
    Tube(
        "PCA",
        ((0, -16, -24), (12, -20, -19), (22, -32, -11), (18, -48, -3)),
        (2.1, 1.7),
        (0.2, 0.6),
    ),
    Tube("P3", ((18, -48, -3), (12, -62, 4), (9, -76, 8)), (1.5, 1.0), (0.6, 1.1)),
)
# Superior sagittal sinus: an arc just inside the template's brain mask on the midline.
SINUS = Tube(
    "sagittal sinus",
    ((0, 58, 28), (0, 40, 49), (0, 20, 60), (0, 0, 67), (0, -25, 71), (0, -50, 65), (0, -70, 53),
     (0, -88, 30), (0, -98, 8)),
    (2.8, 4.2), (0.0, 0.6), paired=False,
)  # fmt: skip

TERRITORIES = ("ACA", "MCA", "PCA", "VB")
_SEEDS = {
    "ACA": ((6, 58, -8), (8, 60, 14), (7, 42, 34), (7, 20, 54), (7, -8, 62), (7, -34, 60),
            (7, 30, 8), (6, 5, 34), (6, -18, 38)),
    "MCA": ((46, 4, 14), (40, 28, 6), (42, 30, 28), (56, -22, 34), (46, -48, 34), (54, -10, -8),
            (46, 8, -28), (26, 2, 4), (56, -44, 10), (44, 0, 46), (28, -20, 24), (26, 24, 14)),
    "PCA": ((10, -88, 4), (10, -66, 8), (26, -76, -4), (30, -52, -14), (26, -24, -22), (10, -20, 6),
            (10, -66, 30), (24, -84, 20)),
    "VB": ((6, -28, -36), (20, -60, -38), (38, -62, -42), (6, -68, -30), (30, -46, -44)),
}  # fmt: skip


def seeds() -> list[tuple[float, float, float]]:
    """MNI points of the right hemisphere spread over all territories [mm]."""
    return [seed for group in _SEEDS.values() for seed in group]


def territory_distances(template_mm: np.ndarray) -> dict[str, np.ndarray]:
    """Distance of template points to each territory's seeds on their own side [mm].

    Parameters
    ----------
    template_mm : float array, shape (3, N)
        MNI coordinates [mm].

    Returns
    -------
    dict of float arrays, shape (N,)
        The nearest territory feeds the point; half a difference is the distance to a border.
    """
    folded = np.stack([np.abs(template_mm[0]), template_mm[1], template_mm[2]])
    nearest = {}
    for name, seeds in _SEEDS.items():
        square = [((folded - np.array(seed, float)[:, None]) ** 2).sum(0) for seed in seeds]
        nearest[name] = np.sqrt(np.min(square, axis=0))
    return nearest


def draw_tubes(
    rng: np.random.Generator, tubes: tuple[Tube, ...], warp: Warp, affine: np.ndarray, shape: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Fill a patient's voxels with vessels: volume fraction and delay of their blood.

    Each tube is a cloud of points that carry its volume, so partial volume is exact on any grid.

    Parameters
    ----------
    rng : numpy Generator
        Source of each patient's bends and calibres.
    tubes : tuple of Tube
        Vessels to draw; paired ones are drawn on both sides, differently.
    warp : Warp
        Brings template points into the scanner.
    affine : float array, shape (4, 4)
        Diagonal voxel-to-scanner matrix [mm].
    shape : tuple
        Voxels (X, Y, Z).

    Returns
    -------
    fraction : float array, shape (X, Y, Z)
        Part of the voxel's volume that is vessel, 0 to 1.
    delay_s : float array, shape (X, Y, Z)
        Mean delay of the blood in it [s]; 0 without vessel.
    """
    size = np.diag(affine)[:3]
    volume, delay = np.zeros(shape).ravel(), np.zeros(shape).ravel()
    for tube in tubes:
        for side in (-1, 1) if tube.paired else (1,):
            points, amount, late = _cloud(rng, tube, side)
            index = np.rint((warp.to_scanner(points) - affine[:3, 3:]) / size[:, None]).astype(int)
            inside = ((index >= 0) & (index < np.array(shape)[:, None])).all(0)
            flat = np.ravel_multi_index(index[:, inside], shape)
            volume += np.bincount(flat, amount[inside], volume.size)
            delay += np.bincount(flat, (amount * late)[inside], volume.size)
    mean_delay = np.divide(delay, volume, out=np.zeros_like(delay), where=volume > 0)
    return np.minimum(volume / size.prod(), 1.0).reshape(shape), mean_delay.reshape(shape)


def _cloud(rng: np.random.Generator, tube: Tube, side: int) -> tuple[np.ndarray, ...]:
    """Points in a tube, shape (3, N) [mm], the volume [mm3] and delay [s] that each carries."""
    knots = np.array(tube.points, float).T
    bends = rng.normal(0.0, 1.5, knots.shape)
    bends[:, [0, -1]] = 0.0  # the ends stay, so that vessels stay joined
    knots = (knots + bends) * np.array([[side], [1], [1]])
    calibre = rng.uniform(0.9, 1.1)
    length = np.r_[0.0, np.cumsum(np.sqrt((np.diff(knots, axis=1) ** 2).sum(0)))]
    along = np.arange(STEP_MM / 2, length[-1], STEP_MM)
    centre = PchipInterpolator(length, knots, axis=1)(along)
    tangent = np.gradient(centre, axis=1)
    tangent /= np.sqrt((tangent**2).sum(0))
    part = along / length[-1]
    radius = calibre * (tube.radius_mm[0] + part * np.diff(tube.radius_mm)[0])
    late = tube.delay_s[0] + part * np.diff(tube.delay_s)[0]
    points = _discs(centre, tangent, radius)
    amount = np.pi * radius**2 * STEP_MM / DISC_POINTS
    return points, np.repeat(amount, DISC_POINTS), np.repeat(late, DISC_POINTS)


def _discs(centre: np.ndarray, tangent: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Spread DISC_POINTS evenly over each cross-section: (3, N) to (3, N * DISC_POINTS)."""
    helper = np.zeros_like(tangent)
    helper[np.argmin(np.abs(tangent), axis=0), np.arange(tangent.shape[1])] = 1.0
    first = np.cross(tangent, helper, axis=0)
    first /= np.sqrt((first**2).sum(0))
    second = np.cross(tangent, first, axis=0)
    order = np.arange(DISC_POINTS)
    angle, reach = order * np.pi * (3 - np.sqrt(5)), np.sqrt((order + 0.5) / DISC_POINTS)
    offset = first[..., None] * (reach * np.cos(angle)) + second[..., None] * (
        reach * np.sin(angle)
    )
    return (centre[..., None] + radius[:, None] * offset).reshape(3, -1)
