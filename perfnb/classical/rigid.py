"""Rigid motion of a head as six numbers: shifts along x, y, z [mm] and turns about them [degrees].

Along the grid's axes and about the volume's centre: a point x goes to R x + shift, R turning
about x first, then y, then z.
"""

from __future__ import annotations

import numpy as np


def rotation(degrees: np.ndarray) -> np.ndarray:
    """Rotation about x, then y, then z, shape (3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Pose (6,) of a head moved by `inner`, then by `outer`; shifts [mm], turns [degrees]."""
    first, then = rotation(inner[3:]), rotation(outer[3:])
    return _pose(then @ first, then @ inner[:3] + outer[:3])


def invert(pose: np.ndarray) -> np.ndarray:
    """Pose (6,) that undoes a pose."""
    back = rotation(pose[3:]).T
    return _pose(back, -back @ pose[:3])


def _pose(matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Pose (6,) of a rotation (3, 3) and a shift (3,) [mm]."""
    about_x, about_z = (
        np.arctan2(matrix[2, 1], matrix[2, 2]),
        np.arctan2(matrix[1, 0], matrix[0, 0]),
    )
    about_y = np.arcsin(np.clip(-matrix[2, 0], -1, 1))
    return np.r_[shift, np.rad2deg([about_x, about_y, about_z])]


def move_points(pose: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Where a pose takes points (3, N), counted from the centre of the volume [mm]."""
    return rotation(pose[3:]) @ points_mm + pose[:3, None]


def grid_points(shape: tuple[int, ...], size_mm: np.ndarray) -> np.ndarray:
    """Voxel centres from the centre of the volume, along the grid's axes, shape (3, N) [mm]."""
    centre = (np.array(shape) - 1) / 2
    return (np.indices(shape).reshape(3, -1) - centre[:, None]) * np.asarray(size_mm)[:, None]


def displacement(parameters: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Mean displacement of a brain's voxels by rigid motion.

    Parameters
    ----------
    parameters : float array, shape (T, 6)
        Shifts [mm] and turns [degrees], as in `Motion`.
    mask : bool array, shape (X, Y, Z)
        Brain.
    affine : float array, shape (4, 4) or (3,)
        Affine, or voxel size [mm].

    Returns
    -------
    float array, shape (T,)
        [mm]; NaN where a parameter is.
    """
    return displacement_between(parameters, np.zeros_like(parameters), mask, affine)


def displacement_between(
    parameters: np.ndarray, others: np.ndarray, mask: np.ndarray, affine: np.ndarray
) -> np.ndarray:
    """Mean distance of a brain's voxels moved by one or the other motion, shape (T,) [mm].

    With the true motion as the other, it is the displacement that a correction leaves behind.
    """
    if np.shape(parameters) != np.shape(others) or np.shape(parameters)[1:] != (6,):
        raise ValueError(
            f"parameters have shapes {np.shape(parameters)} and {np.shape(others)}; "
            "expected (T, 6) each"
        )
    mask = np.asarray(mask, bool)
    points = grid_points(mask.shape, voxel_size(affine))[:, mask.ravel()]
    between = [
        move_points(a, points) - move_points(b, points)
        for a, b in zip(parameters, others, strict=True)
    ]
    return np.array([np.linalg.norm(step, axis=0).mean() for step in between])


def voxel_size(affine: np.ndarray) -> np.ndarray:
    """Voxel size [mm], shape (3,), of an affine (4, 4) or of a voxel size given as such.

    Raises
    ------
    ValueError
        Another shape, or a size that is not above 0.
    """
    affine = np.asarray(affine, float)
    if affine.shape not in ((3,), (4, 4)):
        raise ValueError(
            f"affine has shape {affine.shape}; expected (4, 4), or three voxel sizes [mm]"
        )
    size_mm = affine if affine.ndim == 1 else np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(size_mm).all() and (size_mm > 0).all()):
        raise ValueError(
            f"voxel size is {size_mm.tolist()} mm; expected three sizes above 0: check the header"
        )
    return size_mm


def interpolate(volume: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Read a volume (X, Y, Z) between its voxels, linearly; its edge is held.

    Parameters
    ----------
    volume : float array, shape (X, Y, Z)
        Values.
    index : float array, shape (3, N)
        Places in voxels.

    Returns
    -------
    float32 array, shape (N,)
    """
    import torch  # twice as fast as scipy's map_coordinates

    last = np.array(volume.shape)[:, None] - 1
    place = np.asarray(index, np.float32) * (2 / np.maximum(last, 1)).astype(np.float32) - 1
    grid = torch.from_numpy(np.ascontiguousarray(place[::-1].T))  # from -1 to 1, z first
    image = torch.from_numpy(np.ascontiguousarray(volume, np.float32))
    found = torch.nn.functional.grid_sample(
        image[None, None],
        grid[None, None, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return found.numpy().ravel()
