"""Floors and ceilings: maps that stand beside a network's, made once when a cohort is prepared.

The floor is a network that sees no bolus. The ceilings are the teacher, made again: the reference
pipeline on the noise-free film with the true arterial input, and on the same patient scanned once
more. Beside them stands another classical deconvolution of the same film, where it costs little.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from perfnb.classical import references
from perfnb.classical.aif import NoAIF
from perfnb.data import cohorts, prebolus
from perfnb.data.acquisition import slice_offsets
from perfnb.data.cohorts import Case
from perfnb.data.patient import Patient
from perfnb.data.preparation import reference_options
from perfnb.files import write_atomic
from perfnb.grid import Grid
from perfnb.study import COHORTS, Run

TEACHER, SECOND = "noise-free teacher", "second noise draw"
OTHER_METHOD = {"parametric": "block-circulant SVD"}  # the way round takes seconds a patient


def write_controls(run: Run, cases: Sequence[Case]) -> pd.DataFrame:
    """Make the floors and ceilings of every test patient of a prepared cohort.

    Films of users have no truth and cannot be scanned again: they have the floor only, and not
    even that where all patients are for testing.

    Parameters
    ----------
    run : Run
        Of chapter `04_prepare`, its slices written.
    cases : sequence of Case
        The patients' files.

    Returns
    -------
    DataFrame
        A row per test patient, a column per control, True where it was made.
    """
    folder = run.data_dir / "controls"
    shutil.rmtree(folder, ignore_errors=True)
    tests = json.loads((run.data_dir / "split.json").read_text())["test"]
    drawn = prebolus.draw_before_bolus(run.data_dir, run["maps"], tests, run["seed"])
    films, rows = {case.patient: case for case in cases}, []
    for patient in tests:
        made = {prebolus.NAME: drawn[patient]} if patient in drawn else {}
        if run.cohort in COHORTS:
            made |= _teachers(films[patient], run.settings)
        _write(folder / f"{patient}.npz", made)
        rows.append({"patient": patient, **dict.fromkeys(made, True)})
    columns = [prebolus.NAME, SECOND, TEACHER, *OTHER_METHOD.values()]
    found = pd.DataFrame(rows, columns=["patient", *columns]).set_index("patient")
    return found.notna().loc[:, found.notna().any()]


def read_controls(folder: Path, patient: str, map_name: str) -> dict[str, np.ndarray]:
    """Read one map of a patient's floors and ceilings.

    Parameters
    ----------
    folder : Path
        `data/<study>/<cohort>`.
    patient, map_name : str
        Whose, and which map.

    Returns
    -------
    dict of str to float32 array, shape (Z, H, W)
        By name of the control, in the unit of the map; empty where none was made.
    """
    path = Path(folder) / "controls" / f"{patient}.npz"
    if not path.is_file():
        return {}
    with np.load(path) as arrays:
        names = [key.split("/") for key in arrays.files]
        return {model: arrays[f"{model}/{name}"] for model, name in names if name == map_name}


def _write(path: Path, made: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write one patient's controls: an array per model and map."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomic(path) as temporary:
        arrays = {f"{model}/{name}": m for model, maps in made.items() for name, m in maps.items()}
        np.savez(temporary, **arrays)


def _teachers(case: Case, settings: Mapping) -> dict[str, dict[str, np.ndarray]]:
    """Maps of a simulated patient by the teacher made again, and by another deconvolution."""
    patient = cohorts.scan_again(case)
    film = np.asarray(nib.load(case.series_path).dataobj, np.float32)
    curve = {"aif_curve": patient.aif, "rescale_by_vein": False, "corrects_motion": False}
    made = {
        TEACHER: _reference_maps(patient.noise_free, patient, settings, **curve),
        SECOND: _reference_maps(patient.series, patient, settings),
    }
    other = OTHER_METHOD.get(settings["method"])
    if other:
        made[other] = _reference_maps(film, patient, {**settings, "method": other})
    return {name: maps for name, maps in made.items() if maps}


def _reference_maps(series, patient: Patient, settings: Mapping, **changes) -> dict:
    """Maps (Z, H, W) of a film of this patient on the network's grid; empty without an artery."""
    options = reference_options(settings) | changes
    times = patient.repetition_time_s, patient.echo_time_s
    size = tuple(float(mm) for mm in nib.affines.voxel_sizes(patient.affine))
    order = patient.facts["slice_order"]
    options["slice_times_s"] = slice_offsets(patient.mask.shape[2], times[0], order)
    try:
        made = references.reference_maps(series, patient.mask, *times, size, **options)
    except NoAIF:
        return {}
    grid = Grid.of(patient.affine, patient.mask.shape, settings["matrix"], settings["slices"])
    inside = grid.forward(patient.mask, order=0)
    found = {name: made.maps[name] for name in settings["maps"]}
    return {name: grid.forward_inside(m, patient.mask) * inside for name, m in found.items()}
