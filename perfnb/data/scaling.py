"""From physical values to the scale of the networks, [-1, 1], and back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

BACKGROUND = np.float32(-1)
STORED = np.float16  # of prepared series: half the disk, and far finer than their noise


@dataclass(frozen=True)
class Scaling:
    """The linear way from physical values to [-1, 1] and back; nothing is clipped.

    `ranges` holds (lowest, highest) of `series` and of each map, over the training patients.
    """

    ranges: Mapping[str, tuple[float, float]]

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


def read_scaling(folder: Path) -> Scaling:
    """Read a prepared cohort's scaling."""
    ranges = json.loads((Path(folder) / "scaling.json").read_text())
    return Scaling({name: tuple(limits) for name, limits in ranges.items()})
