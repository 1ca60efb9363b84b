"""Trained models on films that they were not meant for: moved ones, and those without an AIF."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from perfnb.data import twins
from perfnb.data.cohorts import NO_AIF, patient_seed
from perfnb.data.patient import Patient
from perfnb.data.phantom import draw_patient
from perfnb.data.scaling import STORED, Scaling
from perfnb.data.slices import Slices
from perfnb.data.truths import read_facts
from perfnb.data.twins import Twin
from perfnb.files import read_table
from perfnb.metrics import images
from perfnb.models import evaluation, inference
from perfnb.study import Run

Key = tuple[str, str]  # (map_name, model_name)
ROUTES = ("classical, corrected", "classical, as it is")


@dataclass(frozen=True)
class Film:
    """One film and every map that was drawn of it; arrays (Z, H, W).

    Attributes
    ----------
    patient : str
        "new 001" for those drawn as twins.
    facts : dict
        As in `truths.read_facts`, with has_aif and reasons (what spoke against the AIF).
    input : float32 array
        The frame in which the brain is darkest, scaled.
    truth : dict by map_name
        In the unit of the map.
    drawn : dict by (map_name, model)
        Networks and classical routes, in the unit of the map.
    """

    patient: str
    facts: dict
    input: np.ndarray
    mask: np.ndarray
    tissue: np.ndarray
    truth: dict[str, np.ndarray]
    drawn: dict[Key, np.ndarray]

    def latest_slice(self) -> int:
        """Return the slice with the most tissue of a true Tmax above 6 s, or the most tissue."""
        late = self.tissue & (self.truth["Tmax"] > 6) if "Tmax" in self.truth else self.tissue
        chosen = late if late.any() else self.tissue
        return int(chosen.sum(axis=(1, 2)).argmax())


def load_generators(
    run: Run, maps: Sequence[str], models: Sequence[str], device: str = "cpu"
) -> dict[Key, nn.Module]:
    """Load the trained models of a run's cohort, after a look at what they were trained on.

    Parameters
    ----------
    run : Run
        Of any chapter; names the cohort.
    maps, models : lists of str
        Which models.
    device : str
        "cpu" or "cuda".

    Returns
    -------
    dict of nn.Module by (map_name, model_name)
    """
    found = {}
    for name in maps:
        for model in models:
            own = run.sibling("07_evaluate", map_name=name, model_name=model)
            folder = evaluation.require_model(own, own.cohort)
            evaluation.refuse_other_slices(folder, own.data_dir)
            frames = Slices(own.data_dir, "test", name).frames
            found[name, model] = evaluation.load_generator(folder, frames, device)
    return found


def draw_maps(
    generators: Mapping[Key, nn.Module], seen: Mapping[str, np.ndarray], mask: np.ndarray,
    scaling: Scaling,
) -> dict[Key, np.ndarray]:  # fmt: skip
    """Let every network draw its map of one prepared film.

    Parameters
    ----------
    generators : dict by (map_name, model_name)
        From `load_generators`.
    seen : dict of float arrays, shape (Z, T, H, W), by map_name
        The film as the networks of each map see it, `scale_series`.
    mask : bool array, shape (Z, H, W)
        Brain.
    scaling : Scaling
        Of the cohort that trained the models.

    Returns
    -------
    dict of float32 arrays, shape (Z, H, W), by (map_name, model_name)
        In the unit of the map; 0 outside the mask.
    """
    drawn = {}
    for (name, model), generator in generators.items():
        prediction = inference.predict(generator, seen[name], mask)
        drawn[name, model] = np.where(mask, scaling.backward(name, prediction), 0)
    return drawn


def draw_twin(generators: Mapping[Key, nn.Module], twin: Twin, scaling: Scaling) -> Film:
    """Draw the maps of one film of a twin, the classical routes' beside the networks'."""
    made = twin.prepared
    names = list(dict.fromkeys(name for name, _ in generators))
    seen = scale_series(made.series, made.mask, made.facts["arrival"], scaling, names)
    drawn = draw_maps(generators, seen, made.mask, scaling)
    for route, maps in zip(ROUTES, (made.references, twin.uncorrected), strict=True):
        drawn |= {(name, route): maps[name] for name in names if name in maps}
    facts = twin.facts | {"reasons": made.facts["aif_reasons"], "has_aif": bool(made.references)}
    patient = f"new {twin.patient.removeprefix('sub-')}"
    truth = {name: made.truth[name] for name in names}
    shown = darkest(seen[names[0]], made.mask)
    return Film(patient, facts, shown, made.mask, made.tissue, truth, drawn)


def draw_without_aif(
    generators: Mapping[Key, nn.Module], data_dir: Path, scaling: Scaling
) -> list[Film]:
    """Draw the maps of a prepared cohort's patients in whose films no artery could be trusted."""
    names = list(dict.fromkeys(name for name, _ in generators))
    refused = {name: Slices(data_dir, NO_AIF, name, scaling) for name in names}
    table = read_table(data_dir / "patients.csv").set_index("patient")
    films = []
    for patient in refused[names[0]].patients:
        slabs = {name: slices.patient(patient) for name, slices in refused.items()}
        slab = slabs[names[0]]
        facts = read_facts(data_dir / "patients", patient)
        facts |= {"reasons": table.loc[patient, "aif_reasons"], "has_aif": False}
        truth = {name: one.truth for name, one in slabs.items()}
        seen = {name: one.series for name, one in slabs.items()}
        drawn = draw_maps(generators, seen, slab.mask, scaling)
        shown = darkest(slab.series, slab.mask)
        films.append(Film(patient, facts, shown, slab.mask, slab.tissue, truth, drawn))
    return films


def scale_series(
    series: np.ndarray, mask: np.ndarray, arrival: int, scaling: Scaling, maps: Sequence[str]
) -> dict[str, np.ndarray]:
    """Scale a film (Z, T, H, W) for the networks of some maps, as `Slices` does.

    It is rounded as prepared slices are on disk, and begins where these networks expect it, the
    bolus arriving in frame `arrival`. Maps whose networks see the same film share one array.
    """
    stored, made = series.astype(STORED), {}
    for name in maps:
        lead = scaling.lead(name, arrival)
        if lead not in made:
            made[lead] = scaling.film(name, stored, mask, arrival)
    return {name: made[scaling.lead(name, arrival)] for name in maps}


def darkest(series: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the frame (Z, H, W) of a series (Z, T, H, W) in which the brain is darkest."""
    brain = np.where(mask[:, None], series, 0).sum(axis=(0, 2, 3))
    return np.asarray(series[:, int(brain.argmin())], np.float32)


def score_film(film: Film, constants: Mapping[str, float]) -> list[dict]:
    """Score a film's maps against the truth in tissue, with the constant beside them.

    Parameters
    ----------
    film : Film
        With its truth.
    constants : dict by map_name
        The value that the constant fills every brain with, in the map's unit.

    Returns
    -------
    list of dict
        patient, motion, has_aif, moved_mm, at_bolus_mm, map, model, error (MAE in the map's
        unit), bias and r.
    """
    names = ("motion", "has_aif", "moved_mm", "at_bolus_mm")
    head = {"patient": film.patient} | {name: film.facts[name] for name in names}
    flat = {(n, "constant"): np.full(film.mask.shape, value) for n, value in constants.items()}
    rows = []
    for (name, model), values in {**film.drawn, **flat}.items():
        found = images.physical_errors(film.truth[name], values, film.tissue)
        scores = {"error": found["MAE"], "bias": found["bias"], "r": found["r"]}
        rows.append({**head, "map": name, "model": model, **scores})
    return rows


def nod_errors(
    generators: Mapping[Key, nn.Module], patient: Patient, settings: Mapping, scaling: Scaling,
    still: Film, amplitudes_mm: Sequence[float],
) -> tuple[list[dict], dict]:  # fmt: skip
    """Let a still patient nod once, more or less, earlier or later, and draw the maps anew.

    Parameters
    ----------
    generators, scaling
        As in `draw_maps`.
    patient : Patient
        Drawn without motion.
    settings : mapping
        The section `04_prepare` of a study.
    still : Film
        The same patient's film without motion: its truth counts.
    amplitudes_mm : list of float
        Mean displacement of the brain in the nod [mm].

    Returns
    -------
    (list of dict, dict)
        Rows patient, moment, amplitude_mm, map, model, error; and the maps, by (moment,
        amplitude_mm): a dict as in `draw_maps`, with the darkest frame under "input".
    """
    rows, shown, names = [], {}, list(dict.fromkeys(name for name, _ in generators))
    rest = twins.prepare_series(patient, settings)
    for moment in twins.MOMENTS:
        for amplitude in amplitudes_mm:
            moved = twins.move_again(patient, twins.nod(patient, amplitude, moment))
            series, mask, _, arrival = twins.prepare_series(moved, settings, rest)
            seen = scale_series(series, mask, arrival, scaling, names)
            drawn = draw_maps(generators, seen, mask, scaling)
            shown[moment, amplitude] = drawn | {"input": darkest(seen[names[0]], mask)}
            head = {"patient": still.patient, "moment": moment, "amplitude_mm": amplitude}
            for (name, model), values in drawn.items():
                found = images.physical_errors(still.truth[name], values, still.tissue)
                rows.append({**head, "map": name, "model": model, "error": found["MAE"]})
    return rows, shown


def nod_patients(
    generators: Mapping[Key, nn.Module], films: Mapping[tuple[str, str], Film], run: Run,
    scaling: Scaling, amplitudes_mm: Sequence[float],
) -> tuple[pd.DataFrame, dict]:  # fmt: skip
    """Let every new patient who has a still film nod, as in `nod_errors`.

    Parameters
    ----------
    generators, scaling, amplitudes_mm
        As in `nod_errors`.
    films : dict of Film by (patient, motion)
        Drawn by `draw_twin`.
    run : Run
        Of the chapter: its seed drew the patients.

    Returns
    -------
    (DataFrame, dict)
        Rows of `nod_errors`, with those of the still film at 0 mm; the maps, by patient.
    """
    settings = run.sibling("04_prepare").settings
    shape = (settings["matrix"], settings["matrix"], settings["film_slices"])
    rows, shown = [], {}
    for (patient, motion), still in films.items():
        if motion != "none":
            continue
        number = patient_seed(run.cohort, run["seed"], int(patient.split()[1]) - 1)
        person = draw_patient(run.cohort, number, shape)
        given = (generators, person, settings, scaling, still, amplitudes_mm)
        found, shown[patient] = nod_errors(*given)
        rest = [{**row, "amplitude_mm": 0.0} for row in score_film(still, {})]
        rest = [row for row in rest if row["model"] not in ROUTES]
        rows += found + [{**row, "moment": moment} for row in rest for moment in twins.MOMENTS]
    columns = "patient moment amplitude_mm map model error".split()
    return pd.DataFrame(rows, columns=columns), shown


def add_change(films: pd.DataFrame) -> pd.DataFrame:
    """Add how error and correlation differ from those of the same patient's still film.

    Parameters
    ----------
    films : DataFrame
        Rows of `score_film`.

    Returns
    -------
    DataFrame
        The rows with change_error, in the unit of the map, and change_r; NaN without a map of
        the still film.
    """
    keys = ["patient", "map", "model"]
    still = films[films["motion"] == "none"].set_index(keys)[["error", "r"]]
    rest = films[keys].join(still, on=keys)
    new = {f"change_{name}": films[name] - rest[name] for name in ("error", "r")}
    return films.assign(**new)
