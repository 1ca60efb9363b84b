"""What is known of simulated patients besides their maps: how they are, and how they moved."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from perfnb.classical.rigid import displacement, displacement_between
from perfnb.data.cohorts import TRUTH
from perfnb.data.slices import Slices
from perfnb.files import read_json, read_table
from perfnb.metrics.lesions import hypoperfusion, late_threshold

CAUSES = {
    "lesion_ml": "lesion [ml]",
    "late_share": "late in the reference [% of tissue]",
    "snr": "SNR before the bolus",
    "moved_mm": "largest motion [mm]",
    "bolus_width_s": "width of the bolus [s]",
    "low_output": "weak heart (1: yes)",
    "aif_height": "height of the AIF [1/s]",
    "aif_width_s": "width of the AIF [s]",
    "aif_peak_s": "peak of the AIF [s]",
    "aif_partial_volume": "partial-volume factor of the AIF",
}
"""What may make a patient's map worse: column of `describe_patients`, and name with unit."""
PASSAGE = 2.0  # widths of the bolus that its passage takes


def read_facts(folder: Path, patient: str) -> dict[str, float | str]:
    """Read what was drawn for one simulated patient.

    Parameters
    ----------
    folder : Path
        The cohort's patients, with `derivatives/truth`.
    patient : str
        Such as "sub-001".

    Returns
    -------
    dict
        lesion and motion (the phantom's words), lesion_ml (core and penumbra), snr,
        bolus_width_s, low_output (1 for a weak heart), moved_mm (largest mean displacement of the
        brain from the first frame) and at_bolus_mm (while the bolus passes, from its place
        before).
    """
    place = Path(folder) / TRUTH / patient
    told = json.loads((place / f"{patient}_truth.json").read_text())
    facts, path = told["facts"], np.array(told["motion"])
    image = nib.load(place / f"{patient}_mask.nii.gz")
    mask = np.asarray(image.dataobj) > 0
    film = nib.load(Path(folder) / patient / "perf" / f"{patient}_dsc.nii.gz")
    arrival, width = (
        facts[name] / float(film.header["pixdim"][4])
        for name in ("bolus_arrival_s", "bolus_fwhm_s")
    )
    frames = np.arange(len(path))
    passing = (frames >= arrival) & (frames <= arrival + PASSAGE * width)
    before = np.median(path[frames < arrival], axis=0)
    away = displacement_between(path, np.tile(before, (len(path), 1)), mask, image.affine)
    return {
        "lesion": facts["lesion"],
        "motion": facts["motion"],
        "lesion_ml": facts["core_ml"] + facts["penumbra_ml"],
        "snr": facts["snr"],
        "bolus_width_s": facts["bolus_fwhm_s"],
        "low_output": float(facts["lesion"] == "low output"),
        "moved_mm": float(displacement(path, mask, image.affine).max()),
        "at_bolus_mm": float(away[passing].max()),
    }


def describe_patients(data_dir: Path, split: str = "test") -> pd.DataFrame:
    """List what may have made the maps of a prepared cohort's simulated patients worse.

    Parameters
    ----------
    data_dir : Path
        `data/<study>/<cohort>`.
    split : str
        "test", "no_aif" and so on.

    Returns
    -------
    DataFrame
        One row a patient: patient, the facts of `read_facts`, the measures of its AIF (`aif_...`)
        and late_share, the share of tissue that is late in the reference [%] (NaN without one):
        Tmax above the threshold of the method that made it, `lesions.late_threshold`.
    """
    data_dir = Path(data_dir)
    table = read_table(data_dir / "patients.csv").set_index("patient")
    slices, rows = Slices(data_dir, split, "Tmax"), []
    limit_s = late_threshold(read_json(data_dir / "manifest.json")["settings"]["method"])
    for patient in slices.patients:
        slab = slices.patient(patient)
        late = hypoperfusion(slab.reference_physical, slab.tissue, limit_s)
        known = not np.isnan(slab.reference_physical).any()
        own = table.loc[patient]
        measures = {name: own[name] for name in table if name.startswith("aif_")}
        row = {
            "patient": patient,
            "late_share": 100 * late.sum() / slab.tissue.sum() if known else np.nan,
        }
        rows.append(row | measures | read_facts(data_dir / "patients", patient))
    return pd.DataFrame(rows)
