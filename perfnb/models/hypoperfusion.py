"""Late tissue of every test patient, as models, teachers and a plain rule see it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from perfnb.classical.deconvolution import METHODS
from perfnb.data.controls import read_controls
from perfnb.files import read_table
from perfnb.metrics import lesions
from perfnb.study import Run

RULE = "TTP rule"
RULES = {RULE: "TTP − median > 2.5 s"}


def read_outs(runs: Sequence[Run]) -> pd.DataFrame:
    """Read volume and overlap of late tissue beside the true ones, patient by patient.

    The truth's is Tmax > 6 s. Maps are read with the threshold of the deconvolution that made or
    taught them: `lesions.late_threshold`.

    Parameters
    ----------
    runs : sequence of Run
        Of chapter `07_evaluate`, evaluated. Models of Tmax are read; a model of TTP lends its
        patients' reference TTP to the rule TTP - median TTP > 2.5 s.

    Returns
    -------
    DataFrame
        Columns cohort, patient, method, rule, true_ml, ml, dice; empty where no patient has a
        truth.
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
            run = next(run for run in runs if run.cohort == cohort)
            own = run.sibling("04_prepare")["method"]
            taught = run.sibling("04_prepare", cohort=run["trained_on"] or cohort)["method"]
            found = _of_cohort(run.data_dir, own, taught, **of_map)
            rows += [{"cohort": cohort, **row} for row in found]
    return pd.DataFrame(rows)


def _of_cohort(
    folder: Path,
    own: str,
    taught: str,
    Tmax: Mapping,
    TTP: Mapping,  # noqa: N803 (names of maps)
) -> list[dict]:
    """Rows of the patients with a truth; Tmax and TTP hold arrays by model.

    `own` made the references of this cohort, `taught` those that its networks learnt from.
    """
    table = read_table(folder / "patients.csv").set_index("patient")
    first = next(iter(Tmax.values()))
    times = next(iter(TTP.values()), None)
    rows = []
    for patient in sorted(n.split("/")[0] for n in first.files if n.endswith("/truth")):
        tissue = first[f"{patient}/tissue"]
        maps = {model: arrays[f"{patient}/prediction"] for model, arrays in Tmax.items()}
        makers = dict.fromkeys(maps, taught)
        made = {"classical": first[f"{patient}/reference"]}
        made |= read_controls(folder, patient, "Tmax")
        computed = table["references"][patient] == "classical"  # else a user's: made by what?
        makers |= {n: n if n in METHODS else own if computed else "" for n in made}
        limits = {name: lesions.late_threshold(method) for name, method in makers.items()}
        masks = {
            name: lesions.hypoperfusion(tmax, tissue, limits[name])
            for name, tmax in (maps | made).items()
        }
        if times is not None:
            masks[RULE] = lesions.late_tissue(times[f"{patient}/reference"], tissue)
        truth = lesions.hypoperfusion(first[f"{patient}/truth"], tissue)
        outs = lesions.read_outs(truth, masks, table["voxel_ml"][patient])
        rules = {name: f"Tmax > {limit:g} s" for name, limit in limits.items()} | RULES
        rows += [{"patient": patient, "rule": rules[row["method"]], **row} for row in outs]
    return rows
