"""One trained model on unseen patients: scores as a tidy table, maps as NIfTI."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from torch import nn

from perfnb.data.cohorts import find_cases
from perfnb.data.controls import read_controls
from perfnb.data.slices import Scaling, Slab, Slices, read_scaling
from perfnb.files import file_hash, read_json
from perfnb.grid import Grid
from perfnb.metrics.tables import CLASSICAL, COLUMNS, evaluate_patient
from perfnb.models.checkpoints import load_weights
from perfnb.models.networks import make_generator
from perfnb.study import COHORTS, READING, Run, cohort_key, require, write_atomic
from perfnb.volumes import write_volume


def require_model(run: Run, trained_on: str) -> Path:
    """Return the folder of the trained model that a run evaluates, or say which chapter makes it.

    The chronic cohort's models are fine-tuned (chapter 06), all others are trained (05); a
    folder's own model may be either.
    """
    chapter = "06_finetune" if trained_on == "chronic" else "05_train"
    model = run.sibling(chapter, cohort=trained_on)
    manifest = model.run_dir / "manifest.json"
    if manifest.is_file():
        made_by = json.loads(manifest.read_text())["chapter"]
        if trained_on not in COHORTS or made_by == "05_train":
            model = run.sibling(made_by, cohort=trained_on)
    return require(model.run_dir, model.chapter, model.settings)


def refuse_other_slices(model_dir: Path, data_dir: Path) -> None:
    """Raise ValueError if a model was trained on other slices than those now in a cohort's folder.

    Their scaling would not be its own, and a test patient may be one that it has learnt from.
    """
    slices = data_dir / "slices"
    if read_json(model_dir / "training.json")["data"] != read_json(slices / "fingerprint.json"):
        raise ValueError(
            f"{model_dir} was trained on other slices than those now in {slices}: their scaling "
            "differs, and test patients may be among those it learnt from. Run chapter 05_train "
            "(06_finetune) again with restart=True, or give the prepared cohort of its training"
        )


def load_generator(model_dir: Path, frames: int, device: str = "cpu") -> nn.Module:
    """Build the generator that a run folder describes and fill it with its best weights."""
    made = json.loads((model_dir / "manifest.json").read_text())
    settings = made["settings"]
    widths = (settings["ngf"], settings["unet_ngf"], settings["upsampling"])
    generator = make_generator(made["model_name"], frames, *widths).to(device)
    return load_weights(generator, model_dir / "weights.safetensors")


def model_scaling(run: Run, trained_on: str | None) -> Scaling | None:
    """Return the scaling that another cohort's model was trained with, None for the cohort's own.

    The other cohort must have been prepared as the run's study says.
    """
    if trained_on is None:
        return None
    other = run.sibling("04_prepare", cohort=trained_on)
    return read_scaling(require(other.data_dir, "04_prepare", other.settings, ignore=READING))


def constant_value(run: Run, trained_on: str | None) -> float:
    """Return the median reference value in tissue over the patients that the model learnt from.

    In the map's unit; `trained_on` names their cohort, None the run's own.
    """
    folder = run.sibling("04_prepare", cohort=trained_on or run.cohort).data_dir
    training = Slices(folder, "train", run.map_name)
    slabs = (training.patient(p) for p in training.patients)
    return float(np.median(np.concatenate([s.reference_physical[s.tissue] for s in slabs])))


def score(
    run: Run, test: Slices, predictions: Mapping[str, np.ndarray], constant: float
) -> pd.DataFrame:
    """Score every test patient: the model, floors and ceilings, and classical routes.

    Parameters
    ----------
    run : Run
        Of chapter `07_evaluate`.
    test : Slices
        The patients to score.
    predictions : mapping of patient to float array, shape (Z, H, W)
        Scaled to [-1, 1]; those of patients without a reference are not scored.
    constant : float
        In the map's unit.

    Returns
    -------
    DataFrame
        Columns as in `perfnb.metrics.tables.COLUMNS`.
    """
    name, rows = test.map_name, []
    for patient in test.patients:
        slab, scaled = test.patient(patient), predictions[patient]
        fill = test.scaling.forward(name, np.full(slab.mask.shape, constant))
        filled = np.where(slab.mask, fill, np.float32(-1))
        models = {run.model_name: scaled, "constant": filled}
        for control, drawn in read_controls(test.folder, patient, name).items():
            models[control] = np.where(slab.mask, test.scaling.forward(name, drawn), np.float32(-1))
        if slab.truth is not None:
            models["classical"] = slab.reference
        else:  # other classical routes compete against the truth only
            models = {m: drawn for m, drawn in models.items() if m not in CLASSICAL}
        for model, drawn in models.items():
            rows += evaluate_patient(
                study=run.study,
                cohort=run.data_dir.name,
                patient=patient,
                map_name=name,
                model=model,
                prediction_scaled=drawn,
                reference_scaled=slab.reference,
                prediction=test.scaling.backward(name, drawn),
                reference=slab.reference_physical,
                truth=slab.truth,
                tissue=slab.tissue,
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write(
    run: Run,
    test: Slices,
    predictions: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    inputs: list[Path],
    device: str = "cpu",
) -> Path:
    """Write scores, prepared slices and NIfTI maps; the manifest comes last.

    A patient's map lies on the grid of the patient's film, with its affine, in physical units.
    The evaluation of another cohort's model has a folder of its own.

    Raises
    ------
    ValueError
        A film was changed after its cohort was prepared.
    """
    other = run["trained_on"]
    folder = run.run_dir / ("evaluation" if other is None else f"evaluation-{cohort_key(other)}")
    (folder / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "predictions", ignore_errors=True)
    cases = run.data_dir / "patients" if run.cohort in COHORTS else Path(run.cohort)
    films = {case.patient: case.series_path for case in find_cases(cases)}
    _refuse_other_films(run, [films[patient] for patient in predictions])
    arrays = {}
    for patient, scaled in predictions.items():
        slab = test.patient(patient)
        prediction = np.where(slab.mask, test.scaling.backward(test.map_name, scaled), 0)
        path = folder / "predictions" / f"{patient}_{test.map_name}.nii.gz"
        _write_map(path, films[patient], prediction, slab.mask)
        if patient in test.patients:
            arrays |= _arrays(patient, slab, prediction)
    with write_atomic(folder / "slices.npz") as temporary:
        np.savez_compressed(temporary, **arrays)
    with write_atomic(folder / "metrics.csv") as temporary:
        table.to_csv(temporary, index=False)
    return run.write_manifest(folder, inputs, device)


def example_row(slab: Slab, drawn: np.ndarray, z: int | None = None) -> dict[str, np.ndarray]:
    """Return one slice of a patient as the figures show it: input, reference, prediction, error.

    Parameters
    ----------
    slab : Slab
        The patient's prepared slices.
    drawn : float array, shape (Z, H, W)
        The predicted map in physical units.
    z : int, optional
        Which slice; by default the one with the most brain.

    Returns
    -------
    dict of float arrays, shape (H, W)
        The input is the darkest frame of the bolus, scaled; beside it stands the slice's `mask`.
    """
    z = int(slab.mask.sum(axis=(1, 2)).argmax()) if z is None else z
    inside = slab.mask[z]
    reference = slab.reference_physical[z]
    maps = {"reference": reference, "prediction": drawn[z], "error": drawn[z] - reference}
    return {"input": slab.series[z, _darkest_frame(slab, z)], **maps, "mask": inside}


def quantile_patients(ordered: list[str]) -> dict[str, str]:
    """Return the best, the median and the worst of patients ordered by their error."""
    if not ordered:
        return {}
    return {"best": ordered[0], "median": ordered[len(ordered) // 2], "worst": ordered[-1]}


def compare_with_constant(table: pd.DataFrame, model: str, unit: str) -> str:
    """Return in one sentence whether a model beats the constant in tissue."""
    inside = table.query("against == 'reference' and region == 'tissue'")
    means = inside[inside.measure == "MAE_physical"].groupby("model").value.mean()
    if means.empty:
        return "No test patient has a reference: there is nothing to score."
    verdict = "beats" if means[model] < means["constant"] else "does **not** beat"
    return (
        f"Mean absolute error in tissue against the reference: {model} {means[model]:.2f} {unit}, "
        f"constant {means['constant']:.2f} {unit}. The network {verdict} the constant."
    )


def _refuse_other_films(run: Run, films: list[Path]) -> None:
    """Raise ValueError if a film is not the one that the prepared slices were made from."""
    known = read_json(run.data_dir / "manifest.json")["inputs"]
    changed = [f for f in films if known and file_hash(f) != known.get(run.input_name(f))]
    if changed:
        raise ValueError(
            f"{changed[0]} was changed after {run.data_dir} was prepared; expected the film that "
            "the slices were made from: run chapter 04_prepare again, or put the film back"
        )


def _write_map(path: Path, film: Path, drawn: np.ndarray, mask: np.ndarray) -> None:
    """Write a map (Z, H, W) on its film's grid."""
    image = nib.load(film)
    grid = Grid.of(image.affine, image.shape, drawn.shape[1], len(drawn))
    write_volume(path, grid.backward_inside(drawn, mask), image.affine, image.header)


def _arrays(patient: str, slab: Slab, prediction: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {
        "prediction": prediction.astype(np.float32),
        "reference": slab.reference_physical,
        "tissue": slab.tissue,
        "mask": slab.mask,
        "film": slab.series[:, _darkest_frame(slab, int(slab.mask.sum(axis=(1, 2)).argmax()))],
    }
    if slab.truth is not None:
        arrays["truth"] = slab.truth
    return {f"{patient}/{name}": array for name, array in arrays.items()}


def _darkest_frame(slab: Slab, z: int) -> int:
    return int(slab.series[z][:, slab.mask[z]].mean(axis=1).argmin())
