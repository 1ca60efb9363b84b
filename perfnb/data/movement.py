"""How a simulated head moves during the film, and what that does to the frames."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter

from perfnb.data.warp import rotation

MOTIONS = {"none": (0.0, 0.0), "mild": (0.5, 0.6), "considerable": (2.0, 2.5)}
"""Size of a patient's motion: shift [mm] and turn [degrees]."""
MOTION_COUNTS = {"none": 46, "mild": 19, "considerable": 15}
"""How many of 80 stroke patients moved so during perfusion imaging: 58, 24 and 19 %; mostly they
nodded (Moghari et al., Eur J Radiol 144:109979, 2021)."""
CHOICES = (*MOTIONS, "bolus", "drawn")
NODDING = np.array([0.5, 0.7, 1.0, 1.0, 0.4, 0.5])
FRAMES = 16  # frames moved at once: what one line of the cache holds
BLOCK = 16384  # voxels moved at once: small enough for the cache


def draw_class(rng: np.random.Generator, motion: str) -> str:
    """Name of the motion in MOTIONS or "bolus"; "drawn" draws it with the shares of patients.

    The generator's own numbers stay untouched: a drawn class moves as the same class asked for.
    """
    if motion != "drawn":
        return motion
    counts = np.array(list(MOTION_COUNTS.values()), float)
    return str(rng.spawn(1)[0].choice(list(MOTION_COUNTS), p=counts / counts.sum()))


def draw_motion(
    rng: np.random.Generator,
    motion: str,
    n_frames: int,
    passage: tuple[float, float] | None = None,
) -> np.ndarray:
    """Draw how the head moves: mostly a slow drift and sudden nods.

    Parameters
    ----------
    rng : numpy Generator
        Source of all draws.
    motion : str
        Name in MOTIONS; or "bolus": a little all the time, and a considerable nod within `passage`.
    n_frames : int
        Frames.
    passage : (float, float), optional
        First and last frame in which the nod may begin; needed for "bolus".

    Returns
    -------
    float array, shape (n_frames, 6)
        Shifts along x, y, z [mm] and turns about x, y, z [degrees]; the first frame is 0.
    """
    shift, turn = MOTIONS["mild" if motion == "bolus" else motion]
    sizes = NODDING * np.r_[[shift] * 3, [turn] * 3]
    walk = np.cumsum(rng.standard_normal((n_frames, 6)), axis=0) / np.sqrt(n_frames)
    jumps = (rng.uniform(size=(n_frames, 1)) < 3.0 / n_frames) * rng.standard_normal((n_frames, 6))
    path = sizes * (walk + np.cumsum(jumps, axis=0))
    if motion == "bolus":
        path = path + _nod(rng, n_frames, *passage)
    return path - path[0]


def _nod(rng: np.random.Generator, n_frames: int, first: float, last: float) -> np.ndarray:
    """One considerable nod between two frames, part of which is taken back, (n_frames, 6)."""
    shift, turn = MOTIONS["considerable"]
    frames = np.arange(n_frames)[:, None]
    start = min(rng.uniform(first, last), n_frames - 2.0)
    end = start + rng.uniform(2.0, 6.0)
    size = NODDING * np.r_[[shift] * 3, [turn] * 3] * rng.uniform(0.8, 1.6, 6)
    size *= rng.choice((-1.0, 1.0), 6)
    return size * ((frames >= start) - rng.uniform(0.3, 0.8) * (frames >= end))


def move(series: np.ndarray, motion: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Move each frame rigidly about the centre of the volume, with linear interpolation.

    Parameters
    ----------
    series : float32 array, shape (X, Y, Z, T)
        Film of a head that holds still; air around it stays as it is.
    motion : float array, shape (T, 6)
        Shifts [mm] and turns [degrees] of each frame.
    affine : float array, shape (4, 4)
        Diagonal voxel-to-scanner matrix [mm].

    Returns
    -------
    float32 array, shape (X, Y, Z, T)
        `series` itself where nothing moves.
    """
    if not (motion.any() and series.any()):
        return series
    size, centre = np.diag(affine)[:3], (np.array(series.shape[:3]) - 1) / 2
    near = _reached(series[..., 0], motion, size)
    voxels = np.stack(np.nonzero(near)).astype(np.float32)
    moved = series.copy()
    for first in range(0, len(motion), FRAMES):
        frames = np.ascontiguousarray(np.moveaxis(series[..., first : first + FRAMES], -1, 0))
        read = np.empty((len(frames), voxels.shape[1]), np.float32)
        for frame, out, (x, y, z, *turns) in zip(frames, read, motion[first:], strict=False):
            matrix = rotation(np.array(turns)).T * size[None, :] / size[:, None]
            back = np.array([sum(row * (centre + np.array([x, y, z]) / size)) for row in matrix])
            _interpolate(frame, voxels, matrix, centre - back, out)
        moved[near, first : first + FRAMES] = read.T
    moved[..., ~motion.any(1)] = series[..., ~motion.any(1)]
    return moved


def _reached(frame: np.ndarray, motion: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Voxels that the head may reach when it moves, shape (X, Y, Z).

    A rigid motion is largest at a corner of the box around the head.
    """
    head = frame > 1e-3 * frame.max()
    filled = [np.flatnonzero(head.any(tuple({0, 1, 2} - {k}))) for k in range(3)]
    ends = np.array([(line[0] - 0.5, line[-1] + 0.5) for line in filled])
    ends = (ends - (np.array(frame.shape)[:, None] - 1) / 2) * size[:, None]
    corners = np.stack(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    paths = [rotation(step[3:]) @ corners + step[:3, None] - corners for step in motion]
    reach = np.abs(paths).max(axis=(0, 2))
    return maximum_filter(head, tuple(2 * np.ceil(reach / size).astype(int) + 3))


def _interpolate(
    frame: np.ndarray, voxels: np.ndarray, matrix: np.ndarray, offset: np.ndarray, out: np.ndarray
) -> None:
    """Read a frame at matrix @ voxels + offset into `out`, linearly; its edge is held beyond."""
    shape, flat = frame.shape, frame.ravel()
    strides = (shape[1] * shape[2], shape[2], 1)
    matrix, offset = matrix.astype(np.float32), offset.astype(np.float32)
    steps = [stride if n > 1 else 0 for stride, n in zip(strides, shape, strict=True)]
    for first in range(0, out.size, BLOCK):
        block = slice(first, first + BLOCK)
        x, y, z = voxels[:, block]
        low, part = 0, []
        for k, row in enumerate(matrix):
            place = row[0] * x
            place += row[1] * y
            place += row[2] * z
            place += offset[k]
            np.clip(place, 0.0, max(shape[k] - 1.001, 0.0), out=place)
            whole = np.floor(place)
            low = low + whole.astype(np.int64) * strides[k]
            part.append(place - whole)  # both float32, so that the mixing is, too
        out[block] = _blend(flat, low, steps, part)


def _blend(flat: np.ndarray, low: np.ndarray, steps: list[int], part: list[np.ndarray]):
    """Mix the corners around each place, one axis after the other."""
    if not steps:
        return flat.take(low)
    near = _blend(flat, low, steps[1:], part[1:])
    far = _blend(flat, low + steps[0], steps[1:], part[1:])
    far -= near
    far *= part[0]
    near += far
    return near
