"""Numbers of earlier work, as Kossen et al. 2023 quote them, beside what a study measures."""

from dataclasses import dataclass

import pandas as pd

from perfnb import maps
from perfnb.metrics import tables


@dataclass(frozen=True)
class Quoted:
    """One number that the paper sets beside its own; `unit` is what the paper says of both."""

    map_name: str
    measure: str
    work: str
    value: str
    paper: str
    unit: str
    column: tuple[str, str]  # region and measure of the table that come nearest


QUOTED = (
    Quoted("Tmax", "NRMSE", "McKinley 2018", "0.113", "0.095", "none", ("slice", "NRMSE")),
    Quoted("CBV", "SSIM", "Vialard 2021", "0.821", "0.986", "none", ("slice", "SSIM")),
    Quoted("Tmax", "RMSE", "Ho 2016", "1.33", "0.06", "not told", ("tissue", "RMSE_physical")),
    Quoted(
        "Tmax", "MAE", "Hess 2019", "0.524, clipped", "MSE 0.016", "not told",
        ("tissue", "MAE_physical"),
    ),
)  # fmt: skip


def beside_prior_work(table: pd.DataFrame, cohort: str, model: str) -> pd.DataFrame:
    """Set a model's mean and SD against the reference beside the numbers that the paper quotes.

    Parameters
    ----------
    table : DataFrame
        Tidy rows, columns as in `tables.COLUMNS`.
    cohort, model : str
        Whose scores.

    Returns
    -------
    DataFrame of str
        A row per quoted number; "not trained" where the study lacks the map.
    """
    rows = []
    for quoted in QUOTED:
        region, measure = quoted.column
        where = dict(cohort=cohort, map=quoted.map_name, model=model, against="reference")
        values = tables.pick(table, **where, region=region, measure=measure)["value"]
        unit = tables.MEASURES[measure].unit or maps.spec(quoted.map_name).unit
        place = region if unit == "1" else f"{unit}, {region}"
        own = (
            f"{values.mean():.3f} ± {values.std():.3f} ({place})" if len(values) else "not trained"
        )
        head = {"map": quoted.map_name, "measure": quoted.measure, "unit": quoted.unit}
        head |= {"earlier work": f"{quoted.work}: {quoted.value}", "the paper": quoted.paper}
        rows.append(head | {f"{model}, {cohort}": own})
    return pd.DataFrame(rows)
