"""Small films of a round brain, written as a scanner would, and prepared for the networks."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from synthetic_curves import small_series

from perfnb.data import cohorts, slices
from perfnb.maps import MAPS
from perfnb.study import Run, start

REPETITION_TIME_S, ECHO_TIME_S = 1.5, 0.03
AFFINE = nib.affines.from_matvec(np.diag([3.0, 3.0, 5.0]), [-36, -36, 0])


def write_film(
    folder: Path,
    name: str,
    seed: int = 0,
    frames: int = 60,
    maps: tuple[str, ...] = tuple(MAPS),
    mask: bool = True,
    affine: np.ndarray = AFFINE,
    arrival_frame: int = 12,
    **sidecar,
) -> Path:
    """Write a film (24, 24, 3, frames) with its times, mask and maps; return its path."""
    series, truth = small_series(seed=seed, n_frames=frames, arrival_frame=arrival_frame)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(series.astype(np.float32), affine), path)
    times = {"RepetitionTime": REPETITION_TIME_S, "EchoTime": ECHO_TIME_S} | sidecar
    (folder / f"{name}.json").write_text(json.dumps(times))
    if mask:
        write_volume(folder / f"{name}_mask.nii.gz", truth["mask"].astype(np.uint8), affine)
    for map_name in maps:
        volume = reference(map_name, truth, seed)
        write_volume(folder / f"{name}_{map_name}.nii.gz", volume, affine)
    return path


def write_volume(path: Path, volume: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Write a volume as NIfTI."""
    nib.save(nib.Nifti1Image(volume, affine), path)


def reference(map_name: str, truth: dict, seed: int = 0) -> np.ndarray:
    """Draw a map with two levels in the brain, 0 outside; higher in patient `seed`."""
    low, high = MAPS[map_name].limits
    level = low + (high - low) * np.where(truth["delayed"], 0.4, 0.2) * (1 + 0.1 * seed)
    noise = np.random.default_rng(seed).uniform(0.95, 1.0, truth["mask"].shape)
    return np.where(truth["mask"], level * noise, 0).astype(np.float32)


def write_folder(folder: Path, count: int = 4, **options) -> Path:
    """Write a folder of films of `count` patients, whose boluses arrive in different frames."""
    for i in range(count):
        write_film(folder, f"p{i}", seed=i, **{"arrival_frame": 9 + 4 * (i % 3)} | options)
    return folder


def preparation(folder: Path, **changes) -> Run:
    """Return the run of chapter 04 for a folder of films, with 64x64x3 voxels and 64 frames."""
    run = start("04_prepare", "tiny", str(folder))
    settings = {**run.settings, "slices": 3, "frames": 64, "split": [2, 1, 1]} | changes
    return Run(run.chapter, run.study, run.home, run.cohort, settings=settings)


def prepare(folder: Path, **changes) -> Run:
    """Prepare a folder of films; return the run, whose `data_dir` is then complete."""
    run = preparation(folder, **changes)
    slices.write_cohort(run, cohorts.find_cases(folder))
    run.write_manifest(run.data_dir)
    return run
