"""Figures with a dot per patient: one quantity against another, or by kind."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from perfnb.plots.look import COLOURS, CYCLE, MUTED, WIDTH, subplots

MARKERS = "os^Dvp"


def scatter(
    table: pd.DataFrame,
    columns: Mapping[str, str],
    outcome: str,
    ylabel: str,
    by: str = "cohort",
    notes: Mapping[str, str] | None = None,
    title: str = "",
) -> Figure:
    """One panel per column: an outcome over it, a dot per row.

    Parameters
    ----------
    table : DataFrame
        One row per dot.
    columns : {column: label with its unit}
        What is drawn along x, a panel each.
    outcome, ylabel : str
        Column drawn along y, and its label with the unit.
    by : str
        Column whose values differ in colour and marker.
    notes : {column: text}, or None
        Written above a panel.
    title : str
        Above all.

    Raises
    ------
    ValueError
        No column to draw, or one that the table lacks.
    """
    lost = [name for name in (*columns, outcome, by) if name not in table]
    if lost or not columns:
        raise ValueError(f"cannot draw the columns {lost or 'none'}: known {list(table.columns)}")
    n_columns = min(len(columns), 4)
    n_rows = -(-len(columns) // n_columns)
    figure, axes = subplots(n_rows, n_columns, (WIDTH, 2.1 * n_rows + 0.5), sharey=True)
    for ax in axes.flat[len(columns) :]:
        ax.axis("off")
    names = list(dict.fromkeys(table[by]))
    for ax, (column, label) in zip(axes.flat, columns.items(), strict=False):
        for k, name in enumerate(names):
            part = table[table[by] == name]
            look = {"color": COLOURS.get(name, CYCLE[k % len(CYCLE)]), "label": str(name)}
            look |= {"marker": MARKERS[k % len(MARKERS)], "linestyle": "none"}
            ax.plot(part[column], part[outcome], ms=4.5, alpha=0.75, **look)
        ax.set_xlabel(label, fontsize=8)
        ax.set_title((notes or {}).get(column, ""), loc="left", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    if len(names) > 1:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(names))
    if title:
        figure.suptitle(title, fontsize=9.5)
    return figure


def dots(
    values: Mapping[str, Mapping[str, np.ndarray]],
    ylabel: str,
    intervals: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    title: str = "",
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Groups along x, series side by side in each: a dot per patient, the mean and its interval.

    Parameters
    ----------
    values : {group: {series: float array, shape (patients,)}}
        NaN is left out.
    ylabel : str
        Quantity with its unit.
    intervals : {group: {series: (low, high)}}, or None
        Of the mean; a series may be missing.
    title : str
        Above all.
    colours : {series: colour}, or None
        Colours that differ from the standard ones.

    Raises
    ------
    ValueError
        Nothing to draw.
    """
    names = list(dict.fromkeys(name for group in values.values() for name in group))
    if not names:
        raise ValueError("values is empty: expected at least one group with one series")
    figure, axes = subplots(1, 1, (WIDTH, 3.3))
    ax = axes[0, 0]
    step = 0.8 / len(names)
    for s, name in enumerate(names):
        colour = {**COLOURS, **(colours or {})}.get(name, CYCLE[s % len(CYCLE)])
        label = name
        for g, group in enumerate(values):
            found = np.asarray(values[group].get(name, []), float)
            found = found[np.isfinite(found)]
            if not found.size:
                continue
            x = g + (s - (len(names) - 1) / 2) * step
            spots = x + 0.25 * step * np.linspace(-1, 1, found.size + 2)[1:-1]
            ax.plot(spots, found, ".", color=colour, ms=5, alpha=0.45)
            ax.plot([x], [found.mean()], MARKERS[s % len(MARKERS)], color=colour, ms=6, label=label)
            label = None  # once in the legend
            ends = (intervals or {}).get(group, {}).get(name)
            if ends is not None:
                ax.plot([x, x], ends, color=colour, linewidth=2)
    ax.axhline(0, color=MUTED, linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(values)), list(values))
    ax.set(ylabel=ylabel, xlim=(-0.5, len(values) - 0.5))
    figure.legend(loc="outside lower center", ncols=min(len(names), 5))
    if title:
        figure.suptitle(title, fontsize=9.5)
    return figure
