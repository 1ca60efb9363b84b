"""What a simulated patient is, and how one is kept on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from perfnb.data.acquisition import slice_offsets
from perfnb.data.anatomy import Anatomy


@dataclass(frozen=True)
class Patient:
    """A simulated patient; volumes (X, Y, Z), series (X, Y, Z, T).

    `truth` holds CBF [ml/100 g/min], CBV [ml/100 g], MTT, delay, dispersion, Tmax and TTP [s],
    all of the tissue in a voxel (flow and volume count per 100 g of the whole voxel), 0 where
    there is less than 5 % tissue. Tmax is the peak of the dispersed residue after the arterial
    delay; TTP counts from frame 0 in the slice's own time, as it is seen in the film.
    `aif` is the dR2* of pure arterial blood at the frames' start, proportional to concentration
    [1/s]; tissue feels `facts["relaxivity_ratio"]` times as much. `noise_free` shows the head at
    rest, `motion` how it moved: mm and degrees per frame, shape (T, 6).
    """

    cohort: str
    seed: int
    series: np.ndarray
    affine: np.ndarray
    repetition_time_s: float
    echo_time_s: float
    mask: np.ndarray
    tissue: np.ndarray
    truth: dict[str, np.ndarray]
    core: np.ndarray
    penumbra: np.ndarray
    arteries: np.ndarray
    vein: np.ndarray
    aif: np.ndarray
    motion: np.ndarray
    noise_free: np.ndarray
    anatomy: Anatomy
    facts: dict


def write_patient(
    patient: Patient, folder: str | Path, patient_id: str, noise_free: bool = False
) -> Path:
    """Write a patient in a BIDS manner: film, sidecar and mask, and the truths as derivatives.

    Parameters
    ----------
    patient : Patient
        What to write.
    folder : path
        The cohort's folder; `<folder>/<patient_id>/perf` and
        `<folder>/derivatives/truth/<patient_id>` are made.
    patient_id : str
        Such as "sub-001".
    noise_free : bool
        Also write the noise-free film beside the truths.

    Returns
    -------
    Path
        The film, `<folder>/<patient_id>/perf/<patient_id>_dsc.nii.gz`.
    """
    perf = Path(folder) / patient_id / "perf"
    truth = Path(folder) / "derivatives" / "truth" / patient_id
    for place in (perf, truth):
        place.mkdir(parents=True, exist_ok=True)
    path = perf / f"{patient_id}_dsc.nii.gz"
    _save(patient, patient.series, path)
    _save(patient, patient.mask, perf / f"{patient_id}_mask.nii.gz")
    _dump(_sidecar(patient), perf / f"{patient_id}_dsc.json")
    flags = ("mask", "tissue", "core", "penumbra", "arteries", "vein")
    volumes = patient.truth | {name: getattr(patient, name) for name in flags}
    if noise_free:
        volumes["noise-free"] = patient.noise_free
    for name, volume in volumes.items():
        _save(patient, volume, truth / f"{patient_id}_{name}.nii.gz")
    _dump(
        {
            "cohort": patient.cohort, "seed": patient.seed, "facts": patient.facts,
            "aif": patient.aif.tolist(), "motion": patient.motion.tolist(),
        },
        truth / f"{patient_id}_truth.json",
    )  # fmt: skip
    return path


def _sidecar(patient: Patient) -> dict:
    """What a scanner would tell: BIDS names, times in seconds."""
    n_slices, repetition_time_s = patient.mask.shape[2], patient.repetition_time_s
    facts = patient.facts
    offsets = slice_offsets(n_slices, repetition_time_s, facts["slice_order"])
    return {
        "RepetitionTime": repetition_time_s,
        "EchoTime": patient.echo_time_s,
        "FlipAngle": facts["flip_angle_deg"],
        "MagneticFieldStrength": facts["field_strength_t"],
        "SliceTiming": offsets.tolist(),
        "Manufacturer": "perfnb phantom (simulated; not for clinical use)",
        "SoftwareVersions": facts["phantom_version"],
    }


def _save(patient: Patient, array: np.ndarray, path: Path) -> None:
    """Write a volume or series: flags as uint8, the rest as float32, films as scaled int16."""
    if array.ndim == 4:
        slope = float(array.max()) / 32000.0
        image = nib.Nifti1Image(np.rint(array / slope).astype(np.int16), patient.affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = patient.repetition_time_s
        image.header["scl_slope"], image.header["scl_inter"] = slope, 0.0
    else:
        kind = np.float32 if array.dtype.kind == "f" else np.uint8
        image = nib.Nifti1Image(array.astype(kind), patient.affine)
        image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _dump(content: dict, path: Path) -> None:
    """Write JSON, readable."""
    path.write_text(json.dumps(content, indent=1) + "\n")
