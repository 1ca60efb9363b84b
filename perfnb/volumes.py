"""NIfTI films in and maps out, the brain mask, and the grid that networks see."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.transform import resize

from perfnb.study import write_atomic

MIN_FRAMES = 10
TIME_LIMITS = {"repetition_time_s": (0.2, 10.0), "echo_time_s": (0.003, 0.2)}
SIDECAR_KEYS = {"repetition_time_s": "RepetitionTime", "echo_time_s": "EchoTime"}


@dataclass(frozen=True)
class Series:
    """One bolus film.

    Attributes
    ----------
    data : float32 array, shape (X, Y, Z, T)
        Signal, arbitrary units, finite; NaN and infinite voxels of the file are set to 0.
    affine : float array, shape (4, 4)
        Voxel to world [mm].
    repetition_time_s, echo_time_s : float
        Time between frames and echo time [s].
    path : Path
        The file that it was read from.
    not_finite : int
        Number of voxels in which the file held NaN or infinity.
    """

    data: np.ndarray
    affine: np.ndarray
    header: nib.Nifti1Header
    repetition_time_s: float
    echo_time_s: float
    path: Path
    not_finite: int = 0


def read_series(
    path: Path, repetition_time_s: float | None = None, echo_time_s: float | None = None
) -> Series:
    """Read a film, 4-D or 5-D with a singleton fourth axis, with its times.

    A time given here wins over the JSON sidecar beside the file (`RepetitionTime`, `EchoTime`,
    BIDS, in seconds). The header's own time step is not trusted: too many converters lose it.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is missing or unreadable, not a film, too short, or a time is missing or has the
        wrong unit; the message says what was found and what to do.
    """
    path = Path(path)
    image = _load(path)
    data = np.asarray(image.dataobj, dtype=np.float32)
    if data.ndim == 5 and data.shape[3] == 1:
        data = data[:, :, :, 0]
    if data.ndim != 4:
        raise ValueError(
            f"{path} has shape {image.shape}; expected a 4-D film (X, Y, Z, T) or 5-D (X, Y, Z, 1, "
            "T): give the whole series, not one frame or a map"
        )
    if data.shape[3] < MIN_FRAMES:
        raise ValueError(
            f"{path} has {data.shape[3]} time points; expected at least {MIN_FRAMES}: a bolus "
            "cannot be seen in so few. Is the time axis the last one?"
        )
    times = _times(path, repetition_time_s=repetition_time_s, echo_time_s=echo_time_s)
    finite = np.isfinite(data).all(axis=3)
    data = np.where(finite[..., None], data, np.float32(0))
    if not (data.max(axis=3) > data.min(axis=3)).any():
        raise ValueError(f"{path} never changes: every voxel is constant, zero or not a number")
    return Series(data, image.affine, image.header, *times, path, int((~finite).sum()))


def read_volume(path: Path, like: Series) -> np.ndarray:
    """Read a mask or a map that lies on the grid of a film; shape (X, Y, Z), NaN set to 0."""
    image = _load(Path(path))
    shape = like.data.shape[:3]
    if image.shape[:3] != shape or np.prod(image.shape) != np.prod(shape):
        raise ValueError(
            f"{path} has shape {image.shape}, but its film {like.path} has {shape}: resample it to "
            "the film's grid first"
        )
    if not np.allclose(image.affine, like.affine, atol=1e-2):
        raise ValueError(
            f"{path} does not lie where its film {like.path} lies (their affines differ by up to "
            f"{np.abs(image.affine - like.affine).max():.3g}): resample it to the film's grid first"
        )
    return np.nan_to_num(np.asarray(image.dataobj, dtype=np.float32).reshape(shape))


def read_mask(path: Path, like: Series) -> np.ndarray:
    """Read a brain mask, bool (X, Y, Z); raise ValueError if it is empty."""
    mask = read_volume(path, like) > 0.5
    if not mask.any():
        raise ValueError(f"{path} is empty: expected voxels above 0.5 inside the brain")
    return mask


def write_volume(path: Path, data: np.ndarray, affine: np.ndarray, header=None) -> Path:
    """Write an array as NIfTI, whole or not at all; `header` lends its units and codes.

    Bool and integer arrays stay what they are, everything else becomes float32.
    """
    data = np.asarray(data)
    kept = data.dtype if data.dtype.kind in "iu" else np.uint8 if data.dtype == bool else np.float32
    image = nib.Nifti1Image(data.astype(kept), affine)
    if header is not None:
        for name in ("qform", "sform"):
            code = int(header[f"{name}_code"])
            getattr(image, f"set_{name}")(affine, code)
        if not int(header["qform_code"]) and not int(header["sform_code"]):
            image.set_sform(affine, 2)
        image.header.set_xyzt_units(*header.get_xyzt_units())
    with write_atomic(path) as temporary:
        nib.save(image, temporary)
    return Path(path)


def brain_mask(series: np.ndarray) -> np.ndarray:
    """Find the brain in a film's early frames: threshold, largest part, smooth border, no holes.

    Parameters
    ----------
    series : float array, shape (X, Y, Z, T)
        Signal, arbitrary units.

    Returns
    -------
    bool array, shape (X, Y, Z)

    Raises
    ------
    ValueError
        Nothing stands out from the background.
    """
    mean = ndimage.gaussian_filter(series[..., :10].mean(axis=3), (1, 1, 0))
    if not np.ptp(mean) > 0:
        raise ValueError("the film is constant: no brain can be told from background")
    bright = mean > 0.8 * threshold_otsu(mean)
    disk = ndimage.generate_binary_structure(2, 1)[..., None]
    labels, count = ndimage.label(ndimage.binary_opening(bright, disk, iterations=1))
    if count == 0:
        raise ValueError("no brain found in the film: give a mask file <patient>_mask.nii.gz")
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    closed = ndimage.binary_closing(np.pad(largest, ((3, 3), (3, 3), (0, 0))), disk, iterations=3)
    filled = [ndimage.binary_fill_holes(closed[3:-3, 3:-3, z]) for z in range(mean.shape[2])]
    return np.stack(filled, axis=2)


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


def _resize(array: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    if array.shape == tuple(shape):
        return array
    if array.dtype == bool or order == 0:
        return resize(array, shape, order=0, preserve_range=True).astype(array.dtype)
    anti_aliasing = any(n > m for n, m in zip(array.shape, shape, strict=True))
    kept = array.astype(np.float32)
    return resize(kept, shape, order=order, mode="edge", anti_aliasing=anti_aliasing)


def _load(path: Path) -> nib.Nifti1Image:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected a NIfTI file (.nii or .nii.gz)")
    try:
        image = nib.load(path)
        np.asarray(image.dataobj[..., -1:])
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as NIfTI ({error}): is it truncated or another format?"
        ) from error
    return image


def _times(path: Path, **given: float | None) -> list[float]:
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    sidecar = path.with_name(f"{stem}.json")
    try:
        known = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{sidecar} is not valid JSON ({error})") from error
    times = []
    for name, value in given.items():
        key, (low, high) = SIDECAR_KEYS[name], TIME_LIMITS[name]
        value = known.get(key) if value is None else value
        source = "given" if given[name] is not None else str(sidecar)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(
                f"{path} has no {name}: found {value!r} for {key} in {sidecar}; expected seconds "
                f"there, or the parameter {name}"
            )
        if not low <= value <= high:
            hint = ": this looks like milliseconds, divide by 1000" if value > high else ""
            raise ValueError(
                f"{name}={value} of {path.name} ({source}); expected {low} to {high} s{hint}"
            )
        times.append(float(value))
    return times
