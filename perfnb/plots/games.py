"""Figure of the losses of several trainings, step by step."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from perfnb.plots.lines import Panel, panels


def losses_by_step(
    losses: Mapping[str, pd.DataFrame], columns: Mapping[str, str], window: int = 20
) -> Figure:
    """One panel per quantity, one curve per training, smoothed over the last steps.

    Parameters
    ----------
    losses : {training: DataFrame}
        One row a step; the index counts the steps.
    columns : {column: label of its axis}
        The quantities.
    window : int
        Steps that are averaged: single steps jump.

    Raises
    ------
    ValueError
        A column that a table lacks, no training.
    """
    lost = sorted({name for table in losses.values() for name in columns if name not in table})
    if lost or not losses:
        raise ValueError(f"columns {lost} are in no table; trainings: {list(losses)}")
    smooth = {name: table.rolling(window, min_periods=1).mean() for name, table in losses.items()}
    steps = np.asarray(next(iter(losses.values())).index)
    return panels(
        [
            Panel(
                steps, {n: table[column].to_numpy() for n, table in smooth.items()}, label, "step"
            )
            for column, label in columns.items()
        ],
        legend="below",
    )
