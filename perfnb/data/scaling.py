"""How a network sees a film and a map: values on [-1, 1], and the bolus where it is expected."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from perfnb.classical.baseline import MIN_BASELINE_FRAMES
from perfnb.files import write_json
from perfnb.maps import spec

BACKGROUND = np.float32(-1)
SAME_TIME = 0.05  # by how much repetition times may differ
STORED = np.float16  # of prepared series: half the disk, and far finer than their noise


@dataclass(frozen=True)
class Scaling:
    """The linear way from physical values to [-1, 1] and back; nothing is clipped.

    Attributes
    ----------
    ranges : dict of (float, float)
        (lowest, highest) of `series` and of each map, over the training patients.
    arrival_frame : int, optional
        Frame in which the bolus arrives in every film that a network sees, but for maps that
        count from the film's start. None, as in the paper: films begin as they come.
    repetition_time_s : float, optional
        Of the training films: networks count frames, not seconds. None: not known.
    """

    ranges: Mapping[str, tuple[float, float]]
    arrival_frame: int | None = None
    repetition_time_s: float | None = None

    def forward(self, name: str, values: np.ndarray) -> np.ndarray:
        """Scale physical values of the series or a map."""
        low, high = self.ranges[name]
        return ((values - low) * (2 / (high - low)) - 1).astype(np.float32)

    def backward(self, name: str, scaled: np.ndarray) -> np.ndarray:
        """Undo `forward`."""
        low, high = self.ranges[name]
        return ((scaled + 1) * ((high - low) / 2) + low).astype(np.float32)

    def inside(self, name: str, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Scale what lies in a mask (Z, H, W), as the networks see it; BACKGROUND elsewhere.

        `values` are maps (Z, H, W) or series (Z, T, H, W).
        """
        where = mask if values.ndim == mask.ndim else np.expand_dims(mask, -3)
        wide = torch.from_numpy(np.array(values)).float().numpy()  # numpy widens float16 slowly
        scaled = self.forward(name, wide)
        np.copyto(scaled, BACKGROUND, where=~where)
        return scaled

    def film(self, map_name: str, series: np.ndarray, mask: np.ndarray, arrival: int) -> np.ndarray:
        """Scale a prepared film, and let it begin where the network of a map expects it.

        Parameters
        ----------
        map_name : str
            The map that is to be drawn.
        series : float array, shape (..., T, H, W)
            As `preparation.Prepared.series`.
        mask : bool array, shape (..., H, W)
            Brain.
        arrival : int
            Frame in which the bolus arrives, `classical.baseline.Baseline.arrival`.

        Returns
        -------
        float32 array, shape (..., T, H, W)
        """
        return self.inside("series", begun(series, self.lead(map_name, arrival)), mask)

    def lead(self, map_name: str, arrival: int) -> int:
        """Return by how many frames the network of a map sees the bolus come later."""
        if self.arrival_frame is None or spec(map_name).counts_from_start:
            return 0
        return self.arrival_frame - int(arrival)


def begun(series: np.ndarray, later: int) -> np.ndarray:
    """Let all of a film (..., T, H, W) come some frames later, earlier where `later` is below 0.

    When the bolus comes says when the injector was started, nothing about the brain. The first or
    the last frame fills the gap; what leaves the film at the other end is lost.
    """
    if later == 0:
        return series
    frames = series.shape[-3]
    return np.take(series, np.clip(np.arange(frames) - later, 0, frames - 1), axis=-3)


def check_arrival(frame: int | None, frames: int) -> None:
    """Raise ValueError unless the bolus may arrive in this one of a network's frames."""
    if frame is not None and not MIN_BASELINE_FRAMES <= frame < frames // 2:
        raise ValueError(
            f"arrival_frame={frame}: expected null, or a frame from {MIN_BASELINE_FRAMES} to "
            f"{frames // 2 - 1}, so that networks see baseline and bolus in {frames} frames"
        )


def check_ranges(scaling: Scaling) -> None:
    """Raise ValueError if the training patients' series or one of their maps is one value."""
    for name, (low, high) in scaling.ranges.items():
        if not high > low:
            raise ValueError(f"{name} is {low} everywhere in the training patients: check the maps")


def check_same_time(patient: str, found_s: float, expected_s: float) -> None:
    """Raise ValueError unless a film was taken as fast as those that a network learns from."""
    if abs(found_s / expected_s - 1) > SAME_TIME:
        raise ValueError(
            f"{patient}: repetition time {found_s:g} s, expected {expected_s:g} s as in the films "
            f"that the network learns from (within {SAME_TIME:.0%}): it sees frames, not seconds. "
            "Resample the film in time, or train on films like it, in a folder of their own"
        )


def read_scaling(folder: Path) -> Scaling:
    """Read a prepared cohort's scaling."""
    told = json.loads((Path(folder) / "scaling.json").read_text())
    ranges = {name: tuple(limits) for name, limits in told["ranges"].items()}
    return Scaling(ranges, told["arrival_frame"], told["repetition_time_s"])


def write_scaling(folder: Path, scaling: Scaling) -> None:
    """Write a cohort's scaling for `read_scaling`."""
    ranges = {name: list(limits) for name, limits in scaling.ranges.items()}
    told = {
        "ranges": ranges,
        "arrival_frame": scaling.arrival_frame,
        "repetition_time_s": scaling.repetition_time_s,
    }
    write_json(Path(folder) / "scaling.json", told)
