"""How a film becomes slices a network can eat: the paper's preparation, step by step."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from perfnb.classical import references, signal
from perfnb.classical.aif import NoAIF
from perfnb.data.cohorts import Case
from perfnb.grid import Grid
from perfnb.maps import MAPS
from perfnb.volumes import Series, brain_mask, read_mask, read_series, read_slice_times, read_volume

log = logging.getLogger(__name__)
GREY_AND_WHITE = (2, 3)  # labels of the phantom's tissue file
BOLUS_PASSED = 0.5  # of the largest drop of the brain's mean signal
SERIES_LIMITS = (0.0, 5.0)
"""Of a prepared series, in baselines. The first frame may be three times as bright as steady
state; what lies beyond is no tissue, and would set the scale of every film."""


@dataclass
class Prepared:
    """One patient on the network's grid, in physical units, not yet scaled.

    Attributes
    ----------
    series : float32 array, shape (Z, T, H, W)
        Signal divided by the median baseline signal of the brain, clipped to SERIES_LIMITS; 0
        outside the mask.
    mask, tissue : bool array, shape (Z, H, W)
        Brain, and where maps are scored: grey and white matter if known, otherwise the brain.
    references, truth : dict of float32 arrays, shape (Z, H, W)
        Maps by name; empty where there are none.
    computed : dict of float32 arrays, shape (X, Y, Z)
        Reference maps made here by the classical route, on the film's own grid.
    facts : dict
        One row of the cohort's table of patients.
    """

    patient: str
    series: np.ndarray
    mask: np.ndarray
    tissue: np.ndarray
    references: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    computed: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict = field(default_factory=dict)


def prepare_patient(case: Case, settings: Mapping) -> Prepared:
    """Read one patient, make missing reference maps, and bring all to the network's grid.

    Parameters
    ----------
    case : Case
        The patient's files.
    settings : mapping
        The section `04_prepare` of a study.

    Raises
    ------
    ValueError, FileNotFoundError
        A file is bad; the message names it. A film in which no artery can be trusted is not an
        error: it comes back without reference maps, and `facts["aif"]` is "none".
    """
    film = read_series(case.series_path, settings["repetition_time_s"], settings["echo_time_s"])
    try:
        known = case.mask_path
        mask = read_mask(known, film) if known else brain_mask(film.data, film.affine)
        baseline = signal.find_baseline(film.data, mask)
        maps, computed, facts = _reference_maps(case, film, mask, settings)
    except ValueError as error:
        if any(str(path) in str(error) for path in case.paths):
            raise
        raise ValueError(f"{case.series_path}: {error}") from error
    grid = Grid.of(film.affine, film.data.shape, settings["matrix"], settings["slices"])
    series, inside, level, counts = network_series(film, mask, baseline, grid, settings["frames"])
    facts = {
        "patient": case.patient,
        "repetition_time_s": film.repetition_time_s,
        "echo_time_s": film.echo_time_s,
        "frames": film.data.shape[3],
        "frames_cut": counts["frames_cut"],
        "size": "x".join(map(str, film.data.shape[:3])),
        "baseline_first": baseline.first,
        "baseline_last": baseline.last,
        "arrival": baseline.arrival,
        "baseline_level": round(level, 4),
        "voxels_not_finite": film.not_finite,
        "voxels_clipped": counts["voxels_clipped"],
        "voxel_ml": round(grid.voxel_ml, 5),
        **facts,
    }
    return Prepared(
        case.patient,
        series,
        inside,
        _tissue(case, film, grid, inside),
        {name: grid.forward_inside(m, mask) * inside for name, m in maps.items()},
        {
            name: grid.forward_inside(read_volume(case.truth_paths[name], film), mask) * inside
            for name in MAPS
            if name in case.truth_paths
        },
        computed,
        facts,
    )


def network_series(
    film: Series, mask: np.ndarray, baseline: signal.Baseline, grid: Grid, frames: int
) -> tuple[np.ndarray, np.ndarray, float, dict[str, int]]:
    """Bring a film to the networks' grid: level 1 before the bolus, `frames` time points.

    Parameters
    ----------
    film : Series
        As the scanner wrote it.
    mask : bool array, shape (X, Y, Z)
        Brain.
    baseline : Baseline
        Frames before the bolus.
    grid : Grid
        Of this film.
    frames : int
        Time points that the networks expect.

    Returns
    -------
    (float32 array, shape (Z, T, H, W); bool array, shape (Z, H, W); float; dict of int)
        Series, 0 outside the mask; mask; median baseline signal of the brain; frames cut and
        voxels of the brain that were clipped in any frame.
    """
    level = baseline_level(film, mask, baseline)
    inside = grid.forward(mask, order=0)
    data, cut = fit_frames(film.data, mask, baseline, frames, film.path.name)
    data = data / np.float32(level)
    counts = {"frames_cut": cut, "voxels_clipped": _count_beyond(data[mask], film.path.name)}
    series = grid.forward(np.clip(data, *SERIES_LIMITS))
    return np.where(inside[:, None], series, np.float32(0)), inside, level, counts


def _count_beyond(brain: np.ndarray, name: str) -> int:
    """Count voxels (N, T) that leave SERIES_LIMITS in any frame, and warn of them."""
    low, high = SERIES_LIMITS
    found = int(((brain < low) | (brain > high)).any(axis=1).sum())
    if found:
        log.warning(
            "%s: %d voxels of the brain are clipped to %g to %g times the film's baseline",
            *(name, found, low, high),
        )
    return found


def baseline_level(film: Series, mask: np.ndarray, baseline: signal.Baseline) -> float:
    """Return the median baseline signal of the brain's voxels that hold a signal."""
    levels = film.data[mask][:, baseline.frames].mean(axis=1)
    if not (levels > 0).any():
        raise ValueError(f"{film.path}: no voxel of the mask is above zero before the bolus")
    return float(np.median(levels[levels > 0]))


def fit_frames(
    series: np.ndarray, mask: np.ndarray, baseline: signal.Baseline, frames: int, name: str
) -> tuple[np.ndarray, int]:
    """Give a series the number of time points that the networks expect.

    Shorter: the last frame is repeated, as in the paper (figure 2). Longer: the end is cut, with a
    warning, if the bolus has passed by then.

    Returns
    -------
    (float array, shape (X, Y, Z, frames); int, frames cut)

    Raises
    ------
    ValueError
        The bolus has not passed within the first `frames` time points.
    """
    found = series.shape[3]
    if found <= frames:
        return np.pad(series, [(0, 0)] * 3 + [(0, frames - found)], mode="edge"), 0
    mean = series[mask].mean(axis=0)
    drop = np.maximum(mean[baseline.frames].mean() - mean, 0)
    peak = baseline.peak
    after = np.flatnonzero(drop[peak:] < BOLUS_PASSED * drop[peak])
    if not len(after) or peak + after[0] >= frames:
        raise ValueError(
            f"{name} has {found} time points and its bolus has not passed within the first "
            f"{frames}: cut leading frames from the file, keeping at least 8 before the bolus"
        )
    log.warning("%s has %d time points: the last %d are cut", name, found, found - frames)
    return series[..., :frames], found - frames


def _reference_maps(case: Case, film: Series, mask: np.ndarray, settings: Mapping):
    """Return maps on the film's grid, those of them computed here, and what to note down."""
    given = {
        name: _check_given(read_volume(path, film), mask, name, path)
        for name, path in case.map_paths.items()
        if name in settings["maps"]
    }
    missing = [name for name in settings["maps"] if name not in given]
    source = "given and classical" if given else "classical"
    facts = {"references": source if missing else "given", "aif": "", "aif_reasons": ""}
    if not missing:
        return {name: given[name] for name in settings["maps"]}, {}, facts
    turned = nib.as_closest_canonical(nib.Nifti1Image(film.data, film.affine))
    back = nib.orientations.ornt_transform(
        nib.io_orientation(turned.affine), nib.io_orientation(film.affine)
    )
    turned_mask = nib.orientations.apply_orientation(mask, nib.io_orientation(film.affine))
    try:
        made = references.reference_maps(
            np.asarray(turned.dataobj),
            turned_mask,
            film.repetition_time_s,
            film.echo_time_s,
            tuple(float(size) for size in nib.affines.voxel_sizes(turned.affine)),
            slice_times_s=_turned_slice_times(film),
            **reference_options(settings),
        )
    except NoAIF as refusal:
        log.warning("%s has no AIF: %s", case.patient, "; ".join(refusal.reasons))
        facts |= {"references": "given" if given else "", "aif": "none"}
        return given, {}, facts | {"aif_reasons": "; ".join(refusal.reasons)}
    computed = {n: nib.orientations.apply_orientation(made.maps[n], back) for n in missing}
    facts |= {"aif": made.aif_source, "aif_reasons": "; ".join(made.rejected)}
    facts |= {f"aif_{name}": round(value, 4) for name, value in made.aif.measures.items()}
    if made.motion is not None:
        farthest = float(np.nanmax(made.motion.displacement_mm))
        facts |= {"moved": made.motion.moved, "moved_mm": round(farthest, 2)}
        facts |= {"moved_reasons": "; ".join(made.motion.reasons)}
    maps = {name: given.get(name, computed.get(name)) for name in settings["maps"]}
    return maps, computed, facts


def reference_options(settings: Mapping) -> dict:
    """Return what a study says about `references.reference_maps`, as its keywords.

    Parameters
    ----------
    settings : mapping
        The section `04_prepare` of a study. The parametric method has no threshold.
    """
    names = "smoothing_mm threshold method prior search corrects_motion rescale_by_vein".split()
    options = {name: settings[name] for name in names}
    return options | ({"threshold": None} if options["method"] == "parametric" else {})


def _turned_slice_times(film: Series) -> np.ndarray | None:
    times = read_slice_times(film)
    if times is None:
        return None
    whole = np.broadcast_to(times, film.data.shape[:3])
    return nib.orientations.apply_orientation(whole, nib.io_orientation(film.affine))


def _check_given(values: np.ndarray, mask: np.ndarray, name: str, path: Path) -> np.ndarray:
    """Clip a given map to its limits, as computed ones are: one wild voxel would set the scale."""
    if not values[mask].any():
        raise ValueError(
            f"{path} is 0 or not a number in the whole brain; expected {name} in "
            f"{MAPS[name].unit}: replace the map, or remove it to have it made"
        )
    clipped = np.clip(values, *MAPS[name].limits)
    changed = int((clipped != values).sum())
    if changed:
        log.warning("%s: %d voxels beyond %s are clipped", path.name, changed, MAPS[name].limits)
    return clipped


def _tissue(case: Case, film: Series, grid: Grid, inside: np.ndarray) -> np.ndarray:
    if "tissue" not in case.truth_paths:
        return inside
    labels = read_volume(case.truth_paths["tissue"], film)
    return grid.forward(np.isin(labels, GREY_AND_WHITE), order=0) & inside
