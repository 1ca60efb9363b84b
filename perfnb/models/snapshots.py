"""How one slice of a test patient was drawn after each epoch: a run's film strip.

Snapshots are for looking at. They take no part in training and in no checkpoint's identity.
"""

import logging
from pathlib import Path

import numpy as np
from torch import nn

from perfnb.data.slices import Slab, Slices
from perfnb.files import write_atomic
from perfnb.models import inference

log = logging.getLogger(__name__)
FILE = "snapshots.npy"


def fixed_slice(validation: Slices) -> tuple[Slab, int]:
    """Return the first test patient, and this patient's slice with the most tissue.

    The first validation patient where the cohort has no test patient with a reference.
    """
    test = Slices(validation.folder, "test", validation.map_name, validation.scaling)
    watched = test if test.patients else validation
    slab = watched.patient(watched.patients[0])
    return slab, int(slab.tissue.sum(axis=(1, 2)).argmax())


def keep(run_dir: Path, generator: nn.Module, validation: Slices, epoch: int) -> None:
    """Add the fixed slice as drawn after an epoch (1, 2, ...) to the run's snapshots.

    What a killed or an older run left for this epoch or a later one is dropped.
    """
    slab, z = fixed_slice(validation)
    drawn = inference.predict(generator, slab.series[z : z + 1], slab.mask[z : z + 1])
    kept = np.full((epoch, *drawn.shape[1:]), np.nan, np.float32)
    before = read(run_dir)[: epoch - 1]
    if before.shape[1:] == drawn.shape[1:]:
        kept[: len(before)] = before
    kept[-1] = drawn[0]
    with write_atomic(Path(run_dir) / FILE) as temporary, open(temporary, "wb") as file:
        np.save(file, kept)


def read(run_dir: Path) -> np.ndarray:
    """Return the snapshots of a run, one an epoch, scaled to [-1, 1].

    Returns
    -------
    float32 array, shape (epochs, H, W)
        NaN for an epoch that is not known; no epochs at all where there is no readable file.
    """
    path, kept = Path(run_dir) / FILE, np.empty(0)
    if path.is_file():
        try:
            kept = np.load(path)
        except (EOFError, ValueError) as error:  # a picture less is no reason to stop a training
            log.warning("%s can't be read (%s): the film strip begins anew", path, error)
    return kept if kept.ndim == 3 else np.empty((0, 0, 0), np.float32)


def choose_epochs(known: int, count: int) -> list[int]:
    """Return at most `count` epochs between the first and the last, dense at first.

    Networks change most in the beginning: the epochs grow by a factor, not by a step.
    """
    if known < 1 or count < 2:
        raise ValueError(f"known={known}, count={count}: expected at least 1 epoch and 2 pictures")
    return sorted({int(epoch) for epoch in np.rint(np.geomspace(1, known, count))})
