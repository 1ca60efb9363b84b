"""What the user gives for the arterial input: voxels or a curve, checked before it is believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perfnb.times import check_repetition_time

TIME_COLUMN, CURVE_COLUMN = "time_s", "dR2star"


def checked_mask(aif_mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the voxels of an artery as bool, or raise ValueError if they don't fit the grid."""
    values = np.nan_to_num(np.asarray(aif_mask, float))
    chosen = values > 0
    if chosen.shape != shape:
        raise ValueError(f"aif_mask has shape {chosen.shape}; expected the series' grid {shape}")
    if not chosen.any():
        raise ValueError("aif_mask is empty; mark at least one voxel of an artery")
    return chosen


def checked_curve(curve: np.ndarray, n_frames: int, source: str) -> np.ndarray:
    """Return a user's arterial curve, or raise ValueError if it cannot be one.

    Parameters
    ----------
    curve : float array, shape (T,)
        Delta R2* [1/s] at each frame.
    n_frames : int
        Frames of the series.
    source : str
        Parameter or file, for the message.

    Returns
    -------
    float array, shape (T,)

    Raises
    ------
    ValueError
        Another length, not finite, constant, negative on the whole, or with its peak at an end.
    """
    curve = np.asarray(curve, float)
    if curve.shape != (n_frames,):
        raise ValueError(
            f"{source} has shape {curve.shape}; expected one value for each of the {n_frames} "
            "frames: cut it to the series, or read it at its frames"
        )
    if not np.isfinite(curve).all():
        raise ValueError(f"{source} is not a number at frame {int(np.argmin(np.isfinite(curve)))}")
    if np.ptp(curve) == 0:
        raise ValueError(f"{source} is constant ({curve[0]:g}); expected a bolus in 1/s")
    peak = int(np.argmax(curve))
    if curve.sum() <= 0 or curve[peak] < -curve.min():
        raise ValueError(
            f"{source} is mostly negative (from {curve.min():g} to {curve.max():g}); expected "
            "delta R2* in 1/s, which rises with contrast agent: give that, not the signal"
        )
    if peak in (0, n_frames - 1):
        raise ValueError(
            f"{source} peaks in frame {peak} of {n_frames}; expected a baseline before the bolus "
            "and a fall after it"
        )
    return curve


def read_curve(path: Path, n_frames: int, repetition_time_s: float) -> np.ndarray:
    """Read an arterial curve from a tab-separated table.

    Parameters
    ----------
    path : Path
        Columns ``time_s`` [s] and ``dR2star`` [1/s] under a header line, or one column of delta
        R2* with or without a header, one line a frame.
    n_frames : int
        Frames of the series.
    repetition_time_s : float
        Repetition time [s].

    Returns
    -------
    float array, shape (T,)
        For ``find_aif(..., aif_curve=...)``.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file, no such columns, no numbers, times that are not the frames', or a curve that
        cannot be an input (`checked_curve`).
    """
    check_repetition_time(repetition_time_s)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected a table with column dR2star")
    names, values = _table(path)
    if TIME_COLUMN in names:
        _check_times(values[:, names.index(TIME_COLUMN)], repetition_time_s, path)
    return checked_curve(values[:, names.index(CURVE_COLUMN)], n_frames, str(path))


def _table(path: Path) -> tuple[list[str], np.ndarray]:
    """Column names and values (rows, columns) of a tab-separated file."""
    try:
        rows = [line.split("\t") for line in path.read_text().splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text: expected a tab-separated table") from None
    names = [CURVE_COLUMN]
    if rows and not _is_number(rows[0][0]):
        names = [name.strip() for name in rows.pop(0)]
        names = [CURVE_COLUMN] if len(names) == 1 else names
    if CURVE_COLUMN not in names:
        raise ValueError(
            f"{path} has columns {', '.join(names)}; expected {TIME_COLUMN} and {CURVE_COLUMN}, or "
            "one column of values"
        )
    try:
        values = np.array([[float(cell) for cell in row] for row in rows])
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected numbers, or rows of equal length") from None
    if values.ndim != 2 or values.shape[1] != len(names):
        raise ValueError(f"{path} has {values.shape} values; expected rows of {', '.join(names)}")
    return names, values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_times(times_s: np.ndarray, repetition_time_s: float, path: Path) -> None:
    """Raise ValueError unless the times go in steps of the repetition time."""
    steps = np.diff(times_s)
    off = np.abs(steps - repetition_time_s) > 0.02 * repetition_time_s
    if off.any() or not np.isfinite(times_s).all():
        first = int(np.argmax(off))
        raise ValueError(
            f"{path}: time step {steps[first]:g} s after row {first + 1} (steps from "
            f"{steps.min():g} to {steps.max():g} s); expected the series' repetition time "
            f"{repetition_time_s:g} s throughout: read the curve at the frames' times"
        )


def checked_motion(motion: np.ndarray | None, n_frames: int) -> np.ndarray | None:
    """Return shifts [mm] and turns [degrees] of each frame, or raise ValueError."""
    if motion is None:
        return None
    motion = np.asarray(motion, float)
    if motion.shape != (n_frames, 6) or not np.isfinite(motion).all():
        raise ValueError(
            f"motion has shape {motion.shape}; expected three shifts in mm and three turns in "
            f"degrees for each of the {n_frames} frames, all of them numbers"
        )
    return motion
