"""Which threshold finds late tissue: reference Tmax of a prepared cohort beside the true one.

``python benchmarks/late_tissue.py [--home FOLDER] [--study small] [--cohort chronic]``

Reads the simulated patients that chapter 04 left in the folder. Late tissue is a true Tmax above
6 s. Prints, as medians over the patients who have at least 3 ml of it: the true Tmax and the
reference's in late tissue, the error of the reference over all tissue [s]; the overlap (Dice) of
the reference above each threshold, and of what stands beside the networks at test patients.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from perfnb.data.controls import read_controls
from perfnb.data.slices import Slices
from perfnb.metrics import lesions

THRESHOLDS_S = np.arange(1.5, 6.6, 0.5)


def compare(part: Slices, patient: str, voxel_ml: float) -> dict[str, float] | None:
    """Return one patient's row, None where too little tissue is late."""
    slab = part.patient(patient)
    tissue, truth, found = slab.tissue, slab.truth, slab.reference_physical
    late = lesions.hypoperfusion(truth, tissue)
    if lesions.volume_ml(late, voxel_ml) < lesions.LEAST_ML:
        return None
    row = {
        "true Tmax, late tissue": np.median(truth[late]),
        "reference, late tissue": np.median(found[late]),
        "reference - truth, all tissue": np.median((found - truth)[tissue]),
    }
    maps = {"reference": found, **read_controls(part.folder, patient, "Tmax")}
    for name, tmax in maps.items():
        for limit in THRESHOLDS_S if name == "reference" else (3.0, 6.0):
            overlap = lesions.dice(late, lesions.hypoperfusion(tmax, tissue, limit))
            row[f"Dice, {name} > {limit:g} s"] = overlap
    return row


def main() -> None:
    """Print a table, a column for each group of patients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path())
    parser.add_argument("--study", default="small")
    parser.add_argument("--cohort", default="chronic")
    options = parser.parse_args()
    folder = options.home / "data" / options.study / options.cohort
    volumes = pd.read_csv(folder / "patients.csv", dtype={"patient": str})
    volumes = volumes.set_index("patient")["voxel_ml"]
    groups = {}
    for name, splits in {"fitted on": ("train", "validation"), "test": ("test",)}.items():
        parts = [Slices(folder, split, "Tmax") for split in splits]
        rows = [compare(part, p, volumes[p]) for part in parts for p in part.patients]
        table = pd.DataFrame([row for row in rows if row])
        groups[name] = table.median() if len(table) else pd.Series(dtype=float)
        groups[name]["patients"] = len(table)
    print(pd.DataFrame(groups).reindex(max(groups.values(), key=len).index).round(2).to_string())


if __name__ == "__main__":
    main()
