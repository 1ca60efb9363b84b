"""The grid that networks see: one orientation, a square, one size; and the way back."""

from dataclasses import dataclass, field
from functools import cache

import nibabel as nib
import numpy as np
from skimage.transform import resize


@dataclass(frozen=True)
class Grid:
    """The way from a patient's own grid to the one that networks see, and back.

    Forward: turn to RAS orientation, pad in-plane to a square, resize to `matrix` pixels and
    `slices` slices (the paper: 128 and 21), slices first. Backward undoes each step.
    """

    shape: tuple[int, int, int]
    matrix: int
    slices: int
    affine: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, affine: np.ndarray, shape: tuple[int, ...], matrix: int, slices: int) -> "Grid":
        """Return the grid of a film from its affine and its shape (X, Y, Z, ...)."""
        return cls(tuple(shape[:3]), matrix, slices, np.asarray(affine))

    def forward(self, volume: np.ndarray, order: int = 1) -> np.ndarray:
        """Return (Z, H, W) of a volume (X, Y, Z), or (Z, T, H, W) of a series (X, Y, Z, T)."""
        if volume.shape[:3] != self.shape:
            raise ValueError(f"volume of shape {volume.shape[:3]} on a grid of shape {self.shape}")
        turned = nib.orientations.apply_orientation(volume, self._orientation)
        padded = np.pad(turned, [*self._padding, *[(0, 0)] * (volume.ndim - 2)])
        target = (self.matrix, self.matrix, self.slices, *volume.shape[3:])
        axes = (2, 1, 0) if volume.ndim == 3 else (2, 3, 1, 0)
        return np.ascontiguousarray(_resize(padded, target, order).transpose(axes))

    def backward(self, slices: np.ndarray, order: int = 1) -> np.ndarray:
        """Return (X, Y, Z) on the patient's own grid of slices (Z, H, W)."""
        x, y, z = self._turned_shape
        side = max(x, y)
        padded = _resize(slices.transpose(2, 1, 0), (side, side, z), order)
        (x0, _), (y0, _) = self._padding
        turned = padded[x0 : x0 + x, y0 : y0 + y]
        back = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.io_orientation(self.affine)
        )
        return nib.orientations.apply_orientation(turned, back)

    def forward_inside(self, volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return (Z, H, W) of a map (X, Y, Z) that means nothing outside a mask (X, Y, Z).

        Only voxels of the mask are averaged, so that the map does not fade at the brain's edge;
        0 where none of them is near.
        """
        weight = self.forward(mask.astype(np.float32))
        return _average(self.forward(np.where(mask, volume, 0)), weight, least=0.01)

    def backward_inside(self, slices: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return (X, Y, Z) of a map (Z, H, W) that means nothing outside a mask (Z, H, W).

        0 where less than half of a voxel's weight lies in the mask.
        """
        weight = self.backward(mask.astype(np.float32))
        return _average(self.backward(np.where(mask, slices, 0)), weight, least=0.5)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel that networks see [ml]."""
        x, y, z = self._turned_shape
        own = abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0
        return own * max(x, y) ** 2 * z / (self.matrix**2 * self.slices)

    @property
    def _orientation(self) -> np.ndarray:
        return nib.orientations.io_orientation(self.affine)

    @property
    def _turned_shape(self) -> tuple[int, int, int]:
        turned = [0, 0, 0]
        for axis, (target, _) in enumerate(self._orientation):
            turned[int(target)] = self.shape[axis]
        return tuple(turned)

    @property
    def _padding(self) -> list[tuple[int, int]]:
        x, y, _ = self._turned_shape
        missing = [max(x, y) - n for n in (x, y)]
        return [(n // 2, n - n // 2) for n in missing]


def _average(sums: np.ndarray, weight: np.ndarray, least: float) -> np.ndarray:
    return np.where(weight >= least, sums / np.maximum(weight, least), 0).astype(np.float32)


def _resize(array: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    if array.shape == tuple(shape):
        return array
    if array.dtype == bool or order == 0:
        kept = resize(array, shape, order=0, preserve_range=True, anti_aliasing=False)
        return kept.astype(array.dtype)
    kept = array.astype(np.float32)
    for axis, (n, m) in enumerate(zip(array.shape, shape, strict=True)):
        if n != m:
            kept = np.moveaxis(np.tensordot(_weights(n, m, order), kept, (1, axis)), 0, axis)
    return kept


@cache
def _weights(n: int, m: int, order: int) -> np.ndarray:
    """Return the matrix (m, n) that resizes one axis: interpolation is linear, axis by axis."""
    unit = np.eye(n, dtype=np.float32)
    return resize(unit, (m, n), order=order, mode="edge", anti_aliasing=n > m)
