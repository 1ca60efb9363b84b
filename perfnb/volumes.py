"""NIfTI films in and maps out, and the brain mask."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from perfnb.files import write_atomic
from perfnb.grid import Grid  # noqa: F401 (offered here too)
from perfnb.times import film_times, slice_times

MIN_FRAMES = 10
MIN_HELD = 0.5  # of the voxels that hold a signal in the median frame, or a frame is empty
UNREADABLE = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
)


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
        The file is missing or unreadable, not a film, too short, or has empty frames, or a time
        is missing or has the wrong unit; the message says what was found and what to do.
    """
    path = Path(path)
    image = _load(path)
    data = np.asarray(image.dataobj, dtype=np.float32)
    if data.ndim == 5 and data.shape[3] == 1:
        data = data[:, :, :, 0]
    if data.ndim != 4 or not data.size:
        raise ValueError(
            f"{path} has shape {image.shape}; expected a 4-D film (X, Y, Z, T) or 5-D (X, Y, Z, 1, "
            "T): give the whole series, not one frame or a map"
        )
    if data.shape[3] < MIN_FRAMES:
        raise ValueError(
            f"{path} has {data.shape[3]} time points; expected at least {MIN_FRAMES}: a bolus "
            "cannot be seen in so few. Is the time axis the last one?"
        )
    times = film_times(path, repetition_time_s=repetition_time_s, echo_time_s=echo_time_s)
    _check_frames(data, path)
    finite = np.isfinite(data).all(axis=3)
    data = np.where(finite[..., None], data, np.float32(0))
    if not (data.max(axis=3) > data.min(axis=3)).any():
        raise ValueError(
            f"{path} never changes: every voxel is constant, zero or not a number; expected a "
            "signal that falls while the bolus passes: export the film again"
        )
    return Series(data, image.affine, image.header, *times, path, int((~finite).sum()))


def read_slice_times(film: Series) -> np.ndarray | None:
    """Return when each slice of a frame was taken, from `SliceTiming` in the film's sidecar.

    Parameters
    ----------
    film : Series
        Its third axis holds the slices, as BIDS has it by default. `SliceEncodingDirection` "k-"
        says that the times begin with the last of them.

    Returns
    -------
    float array, shape (1, 1, Z), or None
        Seconds after the start of the frame; None where the sidecar does not say.

    Raises
    ------
    ValueError
        The times are not one number a slice between 0 and the repetition time, or the slices lie
        along another axis.
    """
    found = slice_times(film.path, film.data.shape[2], film.repetition_time_s)
    return None if found is None else found[None, None]


def read_volume(path: Path, like: Series) -> np.ndarray:
    """Read a mask or a map that lies on the grid of a film; shape (X, Y, Z).

    Values that are not finite become 0.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is missing or unreadable, or lies on another grid than the film.
    """
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
    values = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    return np.nan_to_num(values, posinf=0, neginf=0)


def read_mask(path: Path, like: Series) -> np.ndarray:
    """Read a brain mask, bool (X, Y, Z); raise ValueError if it is empty."""
    mask = read_volume(path, like) > 0.5
    if not mask.any():
        raise ValueError(f"{path} is empty: expected voxels above 0.5 inside the brain")
    return mask


def write_volume(path: Path, data: np.ndarray, affine: np.ndarray, header=None) -> Path:
    """Write an array as NIfTI, whole or not at all; `header` lends its units, qform and sform.

    Bool and integer arrays stay what they are, everything else becomes float32.
    """
    data = np.asarray(data)
    kept = data.dtype if data.dtype.kind in "iu" else np.uint8 if data.dtype == bool else np.float32
    image = nib.Nifti1Image(data.astype(kept), affine)
    if header is not None:
        codes = {name: int(header[f"{name}_code"]) for name in ("qform", "sform")}
        own = np.allclose(header.get_best_affine(), affine, atol=1e-4)
        for name, code in codes.items():
            form = getattr(header, f"get_{name}")() if own and code else affine
            getattr(image, f"set_{name}")(form, code)
        if not any(codes.values()):
            image.set_sform(affine, 2)
        image.header.set_xyzt_units(*header.get_xyzt_units())
    with write_atomic(path) as temporary:
        nib.save(image, temporary)
    return Path(path)


def brain_mask(series: np.ndarray, affine: np.ndarray | None = None) -> np.ndarray:
    """Find the brain in a film's early frames: threshold, largest part, smooth border, no holes.

    Parameters
    ----------
    series : float array, shape (X, Y, Z, T)
        Signal, arbitrary units.
    affine : float array, shape (4, 4), optional
        Voxel to world [mm]: the film is then looked at from feet to head, slice by slice, however
        its axes are stored. By default its third axis holds the slices.

    Returns
    -------
    bool array, shape (X, Y, Z)

    Raises
    ------
    ValueError
        Nothing stands out from the background.
    """
    own = nib.io_orientation(np.eye(4) if affine is None else affine)
    early = np.ascontiguousarray(nib.orientations.apply_orientation(series[..., :10], own))
    mean = ndimage.gaussian_filter(early.mean(axis=3), (1, 1, 0))
    if not np.ptp(mean) > 0:
        raise ValueError("the film is constant: no brain can be told from background")
    bright = mean > 0.8 * threshold_otsu(mean.ravel())
    disk = ndimage.generate_binary_structure(2, 1)[..., None]
    labels, count = ndimage.label(ndimage.binary_opening(bright, disk, iterations=1))
    if count == 0:
        raise ValueError("no brain found in the film: give a mask file <patient>_mask.nii.gz")
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    closed = ndimage.binary_closing(np.pad(largest, ((3, 3), (3, 3), (0, 0))), disk, iterations=3)
    filled = [ndimage.binary_fill_holes(closed[3:-3, 3:-3, z]) for z in range(mean.shape[2])]
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), own)
    return nib.orientations.apply_orientation(np.stack(filled, axis=2), back)


def _load(path: Path) -> nib.Nifti1Image:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected a NIfTI file (.nii or .nii.gz)")
    try:
        image = nib.load(path)
        np.asarray(image.dataobj[..., -1:])
    except UNREADABLE as error:
        raise ValueError(
            f"{path} cannot be read as NIfTI ({error}): is it truncated or another format?"
        ) from error
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(
            f"{path} holds values of type {image.get_data_dtype()}; expected real numbers: convert "
            "it to magnitude, or to one value a voxel"
        )
    return image


def _check_frames(data: np.ndarray, path: Path) -> None:
    """Raise ValueError that names the empty frames of a film; one without any signal passes."""
    held = np.array([_count_held(data[..., t]) for t in range(data.shape[3])])
    if not held.any():
        return
    empty = np.flatnonzero(held < MIN_HELD * np.median(held[held > 0]))
    if len(empty):
        listed = ", ".join(map(str, empty))
        raise ValueError(
            f"{path}: {len(empty)} of {len(held)} frames are zero, constant or not a number in "
            f"most voxels (frames {listed}, counted from 0); expected a signal in each: export the "
            "film again, or cut such frames off its start or end"
        )


def _count_held(frame: np.ndarray) -> int:
    """Number of voxels with a signal: finite, not 0; none in a frame of one value."""
    values = frame[np.isfinite(frame)]
    alike = not values.size or values.min() == values.max()
    return 0 if alike else int(np.count_nonzero(values))
