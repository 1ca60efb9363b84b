"""Late tissue of every test patient, as models, teachers and a plain rule see it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from perfnb.data.controls import read_controls
from perfnb.metrics import lesions
from perfnb.study import Run

RULE = "TTP rule"


def read_outs(runs: Sequence[Run]) -> pd.DataFrame:
    """Read volume and overlap of Tmax > 6 s beside the true ones, patient by patient.

    Parameters
    ----------
    runs : sequence of Run
        Of chapter `07_evaluate`, evaluated. Models of Tmax are read; a model of TTP lends its
        patients' reference TTP to the rule TTP - median TTP > 2.5 s.

    Returns
    -------
    DataFrame
        Columns cohort, patient, method, true_ml, ml, dice; empty where no patient has a truth.
    """
    rows = []
    for cohort in dict.fromkeys(run.cohort for run in runs):
        of_map = {
            name: {
                run.model_name: np.load(run.run_dir / "evaluation" / "slices.npz")
                for run in runs
                if (run.cohort, run.map_name) == (cohort, name)
            }
            for name in ("Tmax", "TTP")
        }
        if of_map["Tmax"]:
            folder = next(run.data_dir for run in runs if run.cohort == cohort)
            rows += [{"cohort": cohort, **row} for row in _of_cohort(folder, **of_map)]
    return pd.DataFrame(rows)


def _of_cohort(folder, Tmax: Mapping, TTP: Mapping) -> list[dict]:  # noqa: N803 (names of maps)
    """Rows of the patients with a truth; Tmax and TTP hold arrays by model."""
    table = pd.read_csv(folder / "patients.csv", dtype={"patient": str}).set_index("patient")
    first = next(iter(Tmax.values()))
    times = next(iter(TTP.values()), None)
    rows = []
    for patient in sorted(n.split("/")[0] for n in first.files if n.endswith("/truth")):
        tissue = first[f"{patient}/tissue"]
        maps = {model: arrays[f"{patient}/prediction"] for model, arrays in Tmax.items()}
        maps |= {"classical": first[f"{patient}/reference"]}
        maps |= read_controls(folder, patient, "Tmax")
        masks = {name: lesions.hypoperfusion(tmax, tissue) for name, tmax in maps.items()}
        if times is not None:
            masks[RULE] = lesions.late_tissue(times[f"{patient}/reference"], tissue)
        truth = lesions.hypoperfusion(first[f"{patient}/truth"], tissue)
        outs = lesions.read_outs(truth, masks, table["voxel_ml"][patient])
        rows += [{"patient": patient, **row} for row in outs]
    return rows
