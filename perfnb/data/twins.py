"""The same simulated patients, still and moved, to see what motion alone changes."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from perfnb.classical import signal
from perfnb.classical.rigid import displacement
from perfnb.data import acquisition, cohorts, movement
from perfnb.data.patient import Patient
from perfnb.data.preparation import (
    SERIES_LIMITS,
    Prepared,
    baseline_level,
    network_series,
    prepare_patient,
)
from perfnb.data.truths import read_facts
from perfnb.grid import Grid
from perfnb.volumes import Series

log = logging.getLogger(__name__)
MOTIONS = ("none", "mild", "considerable", "bolus")
MOMENTS = ("before the bolus", "at its peak", "after it")
AWAY = 5  # frames that a nod lasts
PASSED = 0.25  # of the largest drop of the brain's signal: the bolus is over


@dataclass(frozen=True)
class Twin:
    """One film of a patient, prepared for the networks.

    Attributes
    ----------
    patient, motion : str
        The same name in every motion; the phantom's word for the motion.
    prepared : Prepared
        With the reference maps of the corrected film; none where no artery can be trusted.
    uncorrected : dict of float32 arrays, shape (Z, H, W)
        Reference maps of the film as it is.
    facts : dict
        As in `truths.read_facts`.
    """

    patient: str
    motion: str
    prepared: Prepared
    uncorrected: dict[str, np.ndarray]
    facts: dict


def draw_twins(
    folder: Path, settings: Mapping, cohort: str, seed: int, count: int,
    motions: Sequence[str] = MOTIONS, first: int = 0,
) -> Iterator[Twin]:  # fmt: skip
    """Draw patients in every kind of motion, and prepare each film as chapter 04 does.

    Classical maps are made twice: with the motion taken out, and without. A film that cannot be
    prepared at all is left out with a warning.

    Parameters
    ----------
    folder : Path
        Where the films are written, one folder a motion.
    settings : mapping
        The section `04_prepare` of a study, for this cohort.
    cohort : str
        "acute" or "chronic".
    seed : int
        Another than that of the cohort: its patients have trained the networks.
    count : int
        Patients.
    motions : list of str
        As in `phantom.draw_patient`.
    first : int
        How many of the patients are passed over.

    Raises
    ------
    ValueError
        The seed is that of the prepared cohort.
    """
    if seed == settings["seed"]:
        raise ValueError(
            f"seed={seed} is that of the prepared patients, so the networks may have learnt from "
            "these: give another"
        )
    shape = (settings["matrix"], settings["matrix"], settings["film_slices"])
    for motion in motions:
        place = Path(folder) / motion
        cases = cohorts.make_phantoms(place, cohort, count, shape, seed, motion=motion)
        for case in cases[first:]:
            try:
                plain = prepare_patient(case, dict(settings) | {"corrects_motion": False})
                best = plain
                if motion != "none":
                    best = prepare_patient(case, dict(settings) | {"corrects_motion": True})
            except ValueError as error:
                log.warning("%s (%s) cannot be prepared: %s", case.patient, motion, error)
                continue
            facts = read_facts(place, case.patient)
            yield Twin(case.patient, motion, best, plain.references, facts)


def nod(patient: Patient, amplitude_mm: float, moment: str) -> np.ndarray:
    """One nod, there and back: the head is away for a few frames.

    Parameters
    ----------
    patient : Patient
        Drawn without motion.
    amplitude_mm : float
        Mean displacement of the brain while it is away [mm].
    moment : str
        One of MOMENTS.

    Returns
    -------
    float array, shape (T, 6)
        Shifts [mm] and turns [degrees] of each frame.
    """
    if moment not in MOMENTS:
        raise ValueError(f"moment={moment!r} is unknown: choose one of {', '.join(MOMENTS)}")
    brain = patient.noise_free[patient.mask].mean(axis=0)
    arrival = int(patient.facts["bolus_arrival_s"] / patient.repetition_time_s)
    drop = brain[1:arrival].mean() - brain
    peak, last = int(drop.argmax()), len(brain) - AWAY - 1
    over = np.flatnonzero((drop < PASSED * drop.max()) & (np.arange(len(brain)) > peak))
    after = over[0] if len(over) else last
    first = dict(zip(MOMENTS, (arrival - AWAY - 1, peak - AWAY // 2, after), strict=True))[moment]
    first = int(np.clip(first, 1, last))
    shift, turn = movement.MOTIONS["considerable"]
    pose = movement.NODDING * np.r_[[shift] * 3, [turn] * 3]
    far = displacement(pose[None], patient.mask, patient.affine)[0]
    path = np.zeros((len(brain), 6))
    path[first : first + AWAY] = pose * amplitude_mm / far
    return path


def move_again(patient: Patient, path: np.ndarray) -> Patient:
    """Return a still patient with another motion and the same noise.

    Raises
    ------
    ValueError
        The patient was drawn moving.
    """
    if patient.motion.any():
        raise ValueError(f"the patient moves ({patient.facts['motion']}): draw motion='none'")
    series, away = patient.series.copy(), path.any(axis=1)
    rest = patient.noise_free[..., away]
    moved = acquisition.move(rest, path[away], patient.affine)
    series[..., away] = np.maximum(moved + (series[..., away] - rest), 0)
    return replace(patient, series=series, motion=path)


def prepare_series(
    patient: Patient, settings: Mapping, still: tuple | None = None
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Prepare a drawn patient's film for the networks, without writing it and without maps.

    Parameters
    ----------
    patient : Patient
        Still, or moved by `move_again`.
    settings : mapping
        The section `04_prepare` of a study.
    still : tuple, optional
        What this function returned for the same patient at rest: only the frames in which the
        head is away are then prepared anew.

    Returns
    -------
    (float32 array, shape (Z, T, H, W); bool array, shape (Z, H, W); float; int)
        As `Prepared.series` and `Prepared.mask`; the brain's median signal before the bolus; the
        frame in which it arrives.
    """
    times = (patient.repetition_time_s, patient.echo_time_s)
    header, name = nib.Nifti1Header(), Path("simulated film")
    film = Series(patient.series, patient.affine, header, *times, name)
    baseline = signal.find_baseline(film.data, patient.mask)
    grid = Grid.of(film.affine, film.data.shape, settings["matrix"], settings["slices"])
    if still is None:
        made = network_series(film, patient.mask, baseline, grid, settings["frames"])
        return *made[:3], baseline.arrival
    rest, inside, old, _ = still
    level = baseline_level(film, patient.mask, baseline)
    series = rest * np.float32(old / level)
    away = np.flatnonzero(patient.motion.any(axis=1))
    away = away[away < settings["frames"]]
    anew = grid.forward(np.clip(film.data[..., away] / np.float32(level), *SERIES_LIMITS))
    series[:, away] = np.where(inside[:, None], anew, np.float32(0))
    return series, inside, level, baseline.arrival
