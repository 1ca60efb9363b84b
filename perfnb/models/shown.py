"""Films without an AIF and films that moved, as the tables and figures of a chapter show them."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from perfnb.data import twins
from perfnb.metrics import causes, lesions, statistics, tables
from perfnb.models.moved import ROUTES, Film


def count_arteries(
    films: Mapping[tuple[str, str], Film], motions: Mapping[str, str]
) -> pd.DataFrame:
    """Count in how many films an AIF was found, by kind of motion.

    Parameters
    ----------
    films : dict of Film by (patient, motion)
        With the maps of both classical routes where they found one.
    motions : {motion: name}
        Rows, in this order.

    Returns
    -------
    DataFrame
        motion, films, the median of the largest motion [mm], and the films with an AIF with and
        without correction.
    """
    rows = []
    for kind, told in motions.items():
        own = [film for (_, motion), film in films.items() if motion == kind]
        if own:
            far = np.median([film.facts["moved_mm"] for film in own])
            row = {"motion": told, "films": len(own), "largest motion [mm], median": f"{far:.1f}"}
            for route in ROUTES:
                found = sum(any(model == route for _, model in film.drawn) for film in own)
                row[f"AIF found, {route.removeprefix('classical, ')}"] = found
            rows.append(row)
    return pd.DataFrame(rows)


def most_moved(films: Iterable[Film]) -> dict[str, Film]:
    """Of each patient who lost the artery one film, by patient.

    Films without an AIF even after correction go before those that have none as they come, and
    then larger motions before smaller ones.
    """
    found = {}
    for film in sorted(films, key=lambda f: (f.facts["has_aif"], -f.facts["moved_mm"])):
        if is_lost(film):
            found.setdefault(film.patient, film)
    return found


def is_lost(film: Film) -> bool:
    """Tell whether one of the classical routes found no AIF in a film."""
    return not {model for _, model in film.drawn}.issuperset(ROUTES)


def lesion_rows(films: Sequence[Film], map_name: str, models: Sequence[str]) -> dict[str, list]:
    """Return the latest slice of films as `plots.map_rows` takes it: rows, mask and outline.

    The outline is the true lesion: tissue with a true Tmax above 6 s.
    """
    found = {"rows": [], "mask": [], "outline": []}
    for film in films:
        z = film.latest_slice()
        drawn = {model: film.drawn[map_name, model][z] for model in models}
        row = {"input": film.input[z], **drawn, "truth": film.truth[map_name][z]}
        found["rows"].append((f"{film.patient}\n{film.facts['moved_mm']:.0f} mm", row))
        found["mask"].append(film.mask[z])
        late = np.zeros_like(film.mask[z])
        if "Tmax" in film.truth:
            late = lesions.hypoperfusion(film.truth["Tmax"][z], film.tissue[z])
        found["outline"].append(late)
    return found


def lesion_table(films: Sequence[Film], models: Sequence[str], method: str = "") -> pd.DataFrame:
    """Compare late tissue: its share [%] and its overlap with the true one (Tmax > 6 s).

    Parameters
    ----------
    films : sequence of Film
        With maps of the models.
    models : sequence of str
        Columns.
    method : str
        Deconvolution that made the models' references: see `lesions.late_threshold`.

    Returns
    -------
    DataFrame
        A row a film; empty where no film has a map of Tmax.
    """
    rows, limit = [], lesions.late_threshold(method)
    for film in films:
        if "Tmax" not in film.truth:
            continue
        true = lesions.hypoperfusion(film.truth["Tmax"], film.tissue)
        row = {"patient": film.patient, "lesion": film.facts["lesion"]}
        row["truth, late [%]"] = f"{100 * true.sum() / film.tissue.sum():.1f}"
        for model in models:
            drawn = lesions.hypoperfusion(film.drawn["Tmax", model], film.tissue, limit)
            row[f"{model}, late [%]"] = f"{100 * drawn.sum() / film.tissue.sum():.1f}"
            row[f"{model}, Dice"] = f"{lesions.dice(drawn, true):.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def changes(
    table: pd.DataFrame, map_name: str, score: str, routes: Sequence[str],
    motions: Mapping[str, str],
) -> dict[str, dict[str, np.ndarray]]:  # fmt: skip
    """Return the change of a score by kind of motion and route, an array over patients each.

    `table` comes from `moved.add_change`, `score` is "error" or "r"; `motions` names the kinds, as
    in `count_arteries`.
    """
    column = f"change_{score}"
    part = table[(table["map"] == map_name) & table[column].notna()]
    return {
        told: {
            route: part.loc[(part["motion"] == kind) & (part["model"] == route), column].to_numpy()
            for route in routes
        }
        for kind, told in motions.items()
    }


def intervals(
    values: Mapping[str, Mapping[str, np.ndarray]], seed: int
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the bootstrap interval of every mean of `changes` that has three patients or more."""
    return {
        kind: {
            route: statistics.bootstrap_interval(found, seed)
            for route, found in own.items()
            if len(found) > 2
        }
        for kind, own in values.items()
    }


def levels(table: pd.DataFrame, routes: Sequence[str]) -> pd.DataFrame:
    """Return mean error, correlation with the truth and number of films as text.

    Rows are maps and kinds of motion, columns the routes; a dash where no film has a map.
    """
    groups = table.groupby(["map", "motion", "model"], sort=False)
    found = groups[["error", "r"]].mean().assign(n=groups["error"].count())
    told = found.apply(lambda one: f"{one.error:.2f}, r {one.r:.2f} ({one.n:.0f})", axis=1)
    told = told.str.replace(", r nan", "").unstack("model")
    return told.reindex(columns=list(routes)).astype(object).fillna("–")


def motion_correlations(
    table: pd.DataFrame, measures: Mapping[str, str], seed: int
) -> pd.DataFrame:
    """Ask whether a measure of motion goes with the error, films ranked within each patient.

    `table` holds the rows of `moved.score_film` to look at, `measures` names its columns.
    """
    rows = []
    for (name, model), part in table.groupby(["map", "model"], sort=False):
        for column, told in measures.items():
            found = causes.rank_correlation(part[column], part["error"], part["patient"], seed)
            row = {"map": name, "network": model, "motion": told, "films": found["n"]}
            known = np.isfinite(found["rho"])
            cells = (f"{found['rho']:+.2f}", f"{found['p']:.2g}") if known else ("–", "–")
            rows.append(row | dict(zip(("ρ", "p"), cells, strict=True)))
    return pd.DataFrame(rows)


def nod_bands(
    nods: pd.DataFrame, map_name: str, models: Sequence[str], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Return how much a nod changes the error, over its size, by moment and model.

    Each array has the shape (3, amplitudes): low end, mean and high end over patients of the
    error minus that of the same patient's still film.
    """
    found = {}
    for moment in twins.MOMENTS:
        found[moment] = {}
        for model in models:
            part = tables.pick(nods, map=map_name, moment=moment, model=model)
            wide = part.pivot(index="patient", columns="amplitude_mm", values="error").to_numpy()
            wide = wide - wide[:, :1]  # the columns are sorted: no nod comes first
            many = len(wide) > 1
            ends = [statistics.bootstrap_interval(c, seed) if many else (c[0],) * 2 for c in wide.T]
            low, high = zip(*ends, strict=True)
            found[moment][model] = np.array([low, wide.mean(axis=0), high])
    return found
