"""Smooth random fields and the warp that turns one template into many brains.

Everything here lives on one coarse lattice in scanner millimetres that does not depend on the
image grid: the same seed gives the same brain at every resolution.
Matrix products are written out, so that no threaded library decides the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

LATTICE_MM = 8.0
LATTICE_SHAPE = (32, 34, 30)
LATTICE_ORIGIN_MM = (-124.0, -150.0, -112.0)
SQUARINGS = 6


def smooth_field(rng: np.random.Generator, length_mm: float) -> np.ndarray:
    """Draw a smooth random field with mean 0 and standard deviation 1.

    Parameters
    ----------
    rng : numpy Generator
        Source of the white noise.
    length_mm : float
        Standard deviation of the Gaussian that smooths the noise [mm].

    Returns
    -------
    float array, shape LATTICE_SHAPE
        Field on the lattice; read it anywhere with `sample`.
    """
    noise = gaussian_filter(rng.standard_normal(LATTICE_SHAPE), length_mm / LATTICE_MM, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def sample(field: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Read a lattice field at points, linearly between nodes.

    Parameters
    ----------
    field : float array, shape LATTICE_SHAPE or (3, *LATTICE_SHAPE)
        Scalar or vector field on the lattice.
    points_mm : float array, shape (3, N)
        Scanner coordinates [mm].

    Returns
    -------
    float array, shape (N,) or (3, N)
    """
    index = [(points_mm[i] - LATTICE_ORIGIN_MM[i]) / LATTICE_MM for i in range(3)]
    if field.ndim == 4:
        return np.stack([map_coordinates(part, index, order=1, mode="nearest") for part in field])
    return map_coordinates(field, index, order=1, mode="nearest")


def lattice_points() -> np.ndarray:
    """Scanner coordinates of the lattice nodes, shape (3, *LATTICE_SHAPE) [mm]."""
    axes = [LATTICE_ORIGIN_MM[i] + LATTICE_MM * np.arange(LATTICE_SHAPE[i]) for i in range(3)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def exponential(velocity_mm: np.ndarray) -> np.ndarray:
    """Integrate a stationary velocity field into a displacement, by scaling and squaring.

    The negative field gives the inverse displacement (Arsigny et al., MICCAI 2006).

    Parameters
    ----------
    velocity_mm : float array, shape (3, *LATTICE_SHAPE)
        Velocity, integrated over unit time [mm].

    Returns
    -------
    float array, shape (3, *LATTICE_SHAPE)
        Displacement [mm].
    """
    nodes = lattice_points()
    displacement = velocity_mm / 2**SQUARINGS
    for _ in range(SQUARINGS):
        moved = (nodes + displacement).reshape(3, -1)
        displacement = displacement + sample(displacement, moved).reshape(displacement.shape)
    return displacement


def apply_matrix(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Multiply a (3, 3) matrix with points of shape (3, N), without BLAS."""
    return np.stack(
        [row[0] * points[0] + row[1] * points[1] + row[2] * points[2] for row in matrix]
    )


@dataclass(frozen=True)
class Warp:
    """A one-to-one map between scanner space and template space, both in mm, RAS."""

    matrix: np.ndarray
    inverse_matrix: np.ndarray
    shift_mm: np.ndarray
    forward_mm: np.ndarray
    backward_mm: np.ndarray

    def to_template(self, points_mm: np.ndarray) -> np.ndarray:
        """Template coordinates of scanner points, shape (3, N) [mm]."""
        moved = points_mm + sample(self.forward_mm, points_mm)
        return apply_matrix(self.matrix, moved) + self.shift_mm[:, None]

    def to_scanner(self, points_mm: np.ndarray) -> np.ndarray:
        """Scanner coordinates of template points, shape (3, N) [mm]."""
        moved = apply_matrix(self.inverse_matrix, points_mm - self.shift_mm[:, None])
        return moved + sample(self.backward_mm, moved)


def rotation(degrees: np.ndarray) -> np.ndarray:
    """Rotation about x, then y, then z, shape (3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return apply_matrix(turn_z, apply_matrix(turn_y, turn_x))


def draw_warp(rng: np.random.Generator, ventricles: float = 0.0) -> Warp:
    """Draw one patient's head: size, tilt in the scanner, and a strong asymmetric deformation.

    Parameters
    ----------
    rng : numpy Generator
        Source of all draws.
    ventricles : float
        Enlargement of the lateral ventricles, 0 (template) to about 0.6.

    Returns
    -------
    Warp
    """
    coarse = np.stack([smooth_field(rng, 32.0) for _ in range(3)])
    fine = np.stack([smooth_field(rng, 15.0) for _ in range(3)])
    velocity = 4.5 * coarse + 1.8 * fine + ventricles * _ventricle_pull(rng)
    turns = rotation(rng.normal(0.0, (5.0, 3.0, 3.0)))
    scale = 1.0 / rng.normal(1.0, (0.04, 0.04, 0.04)).clip(0.9, 1.1)
    matrix = turns * scale[:, None]
    shift = rng.normal(0.0, (2.0, 3.0, 3.0))
    inverse = turns.T / scale[None, :]
    return Warp(matrix, inverse, shift, exponential(velocity), exponential(-velocity))


def _ventricle_pull(rng: np.random.Generator) -> np.ndarray:
    """Velocity that reads the template nearer the ventricles' axes: they look larger."""
    nodes = lattice_points()
    pull = np.zeros_like(nodes)
    for x, y, z in ((14, 5, 15), (14, -20, 18), (20, -38, 12)):
        for side in (-1, 1):
            centre = np.array([side * x, y, z], float)[:, None, None, None]
            away = nodes - centre
            reach = np.exp(-0.5 * (away**2).sum(0) / 13.0**2)
            pull -= rng.uniform(0.6, 1.4) * away * reach
    return pull
