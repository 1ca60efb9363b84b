"""Maps that chapter 07 has kept of its test patients, read back and measured."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from perfnb.metrics import worst
from perfnb.study import Run, require


def require_evaluations(run: Run, matrix: Mapping) -> list[Run]:
    """Return the runs of chapter 07 of every model of a study, or say which is missing."""
    runs = [
        run.sibling("07_evaluate", cohort=cohort, map_name=name, model_name=model)
        for cohort in matrix["cohorts"]
        for name in matrix["maps"]
        for model in matrix["models"]
    ]
    for one in runs:
        require(one.run_dir / "evaluation", "07_evaluate", one.settings)
    return runs


def read_patients(run: Run) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield each test patient of one evaluation with its arrays (Z, H, W).

    prediction, reference and, where it is known, truth in the unit of the map; tissue and mask
    (bool); film, the darkest frame, scaled.
    """
    with np.load(run.run_dir / "evaluation" / "slices.npz") as file:
        for patient in sorted({name.split("/")[0] for name in file.files}):
            start = f"{patient}/"
            names = [name for name in file.files if name.startswith(start)]
            yield patient, {name.removeprefix(start): file[name] for name in names}


def worst_rows(
    runs: Sequence[Run], patients: Sequence[str], judged: str
) -> tuple[list[tuple[str, dict[str, np.ndarray]]], list[np.ndarray]]:
    """Put film, reference, both networks, the truth and the errors of patients side by side.

    Parameters
    ----------
    runs : list of Run
        Evaluations of one cohort and map, one a model.
    patients : list of str
        Rows, in this order.
    judged : str
        The model in whose worst slice, that of the largest error in tissue, a patient is shown.

    Returns
    -------
    (list of (label, {column: float array, shape (H, W)}), list of bool arrays)
        As `plots.map_rows` takes them; the masks.
    """
    kept = {one.model_name: dict(read_patients(one)) for one in runs}
    rows, masks = [], []
    for patient in patients:
        own = {model: arrays[patient] for model, arrays in kept.items()}
        first = own[judged]
        errors = {m: np.where(a["tissue"], a["prediction"] - a["reference"], 0)
                  for m, a in own.items()}  # fmt: skip
        z = int(np.abs(errors[judged]).sum(axis=(1, 2)).argmax())
        columns = {"input": first["film"][z], "reference": first["reference"][z]}
        columns |= {model: arrays["prediction"][z] for model, arrays in own.items()}
        if "truth" in first:
            columns["truth"] = first["truth"][z]
        columns |= {f"error, {model}": error[z] for model, error in errors.items()}
        rows.append((patient, columns))
        masks.append(first["mask"][z])
    return rows, masks


def measure_tails(runs: Sequence[Run], thresholds: Sequence[float]) -> pd.DataFrame:
    """Measure in every test patient whether high reference values are reached.

    The truth, where it is known, is measured like a model: what it does not reach either is not
    the network's fault.

    Parameters
    ----------
    runs : list of Run
        Evaluations of one map.
    thresholds : list of float
        Reference values above which a voxel belongs to the tail, in the map's unit.

    Returns
    -------
    DataFrame
        cohort, patient, map, model, threshold, and those of `worst.tail`.
    """
    rows = []
    for run in runs:
        for patient, arrays in read_patients(run):
            drawn = {run.model_name: arrays["prediction"]}
            drawn |= {"truth": arrays["truth"]} if "truth" in arrays else {}
            for model, values in drawn.items():
                head = {"cohort": run.cohort, "patient": patient, "map": run.map_name}
                for limit in thresholds:
                    found = worst.tail(arrays["reference"], values, arrays["tissue"], limit)
                    rows.append({**head, "model": model, "threshold": limit, **found})
    columns = "cohort patient map model threshold voxels reached slope".split()
    return pd.DataFrame(rows, columns=columns).drop_duplicates(columns[:5], ignore_index=True)


def measure_grain(runs: Sequence[Run]) -> pd.DataFrame:
    """Measure in every test patient how grainy a map is against its reference.

    Parameters
    ----------
    runs : list of Run
        Evaluations.

    Returns
    -------
    DataFrame
        cohort, patient, map, model and ratio: `worst.grain` of the map over that of the
        reference; below 1 the map is smoother.
    """
    rows = []
    for run in runs:
        for patient, arrays in read_patients(run):
            tissue = arrays["tissue"]
            reference = worst.grain(arrays["reference"], tissue)
            head = {"cohort": run.cohort, "patient": patient, "map": run.map_name}
            if reference > 0:
                ratio = worst.grain(arrays["prediction"], tissue) / reference
                rows.append({**head, "model": run.model_name, "ratio": ratio})
    columns = "cohort patient map model ratio".split()
    return pd.DataFrame(rows, columns=columns)
