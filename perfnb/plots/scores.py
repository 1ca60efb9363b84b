"""Figures of scores: bars between floors and ceilings, and skill."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perfnb import maps
from perfnb.plots.look import COLOURS, WIDTH, subplots

LABELS = {
    "MAE": "MAE on [−1, 1]",
    "NRMSE": "NRMSE",
    "SSIM": "SSIM",
    "PSNR": "PSNR [dB]",
    "MAE_physical": "MAE",
    "RMSE_physical": "RMSE",
    "r": "correlation r",
}
HIGHER_IS_BETTER = ("SSIM", "PSNR", "r")
LEVELS = {  # floors red, ceilings dark
    "constant": {"color": "#d1495b", "linestyle": "-"},
    "pre-bolus only": {"color": "#d1495b", "linestyle": ":"},
    "second noise draw": {"color": "#222222", "linestyle": ":"},
    "noise-free teacher": {"color": "#222222", "linestyle": "-"},
}


def score_bars(
    table: pd.DataFrame,
    measure: str | Sequence[str] = ("MAE", "NRMSE", "SSIM", "PSNR"),
    models: Sequence[str] = ("pix2pix", "temp-pix2pix"),
    levels: Sequence[str] = tuple(LEVELS),
) -> Figure:
    """Mean score per map and model, SD over patients as error bar, a dot per patient.

    The form of the paper's figures 5 and 7, with floors and ceilings as lines across the bars.

    Parameters
    ----------
    table : DataFrame
        Tidy rows (map, model, measure, value) of one cohort, `against` and region.
    measure : str or list of str
        One panel each.
    models : list of str
        Which models, in the order of the bars; one that the table lacks is left out.
    levels : list of str
        Whose mean is drawn as a line across each map's bars; names in LEVELS.

    Raises
    ------
    ValueError
        A measure that the table lacks.
    """
    measures = [measure] if isinstance(measure, str) else list(measure)
    lost = [name for name in measures if name not in set(table["measure"])]
    if lost:
        raise ValueError(f"table has no measure {lost}, it has {sorted(set(table['measure']))}")
    models = [name for name in models if name in set(table["model"])]
    levels = [name for name in levels if name in set(table["model"])]
    n_columns = min(len(measures), 2)
    n_rows = -(-len(measures) // n_columns)
    width = WIDTH if n_columns > 1 else 0.6 * WIDTH
    figure, axes = subplots(n_rows, n_columns, (width, 2.5 * n_rows + 0.4))
    for ax in axes.flat[len(measures) :]:
        ax.axis("off")
    for k, (ax, name) in enumerate(zip(axes.flat, measures, strict=False)):
        letter = f"{chr(ord('A') + k)}   " if len(measures) > 1 else ""
        _score_panel(ax, table[table["measure"] == name], name, (models, levels), letter)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def skill_dots(found: pd.DataFrame, models: Sequence[str] = ("pix2pix", "temp-pix2pix")) -> Figure:
    """Skill of each map and model with its interval: a panel per cohort and question.

    Parameters
    ----------
    found : DataFrame
        Columns cohort, map, against, measure, model, skill, low and high; one with no skill (NaN)
        is not drawn, nor a question to which nobody has one.
    models : list of str
        Which models, in their order.

    Raises
    ------
    ValueError
        Nothing to draw.
    """
    found = found.groupby(["measure", "against"]).filter(lambda part: part["skill"].notna().any())
    if found.empty:
        raise ValueError("there is no skill to draw: expected rows of at least one cohort")
    cohorts = list(dict.fromkeys(found["cohort"]))
    questions = list(dict.fromkeys(zip(found["measure"], found["against"], strict=True)))
    names = [name for name in maps.MAPS if name in set(found["map"])]
    size = (WIDTH, len(cohorts) * (0.34 * len(names) + 1.0) + 0.3)
    figure, axes = subplots(len(cohorts), len(questions), size, sharex="col", sharey=True)
    for (i, j), ax in np.ndenumerate(axes):
        measure, against = questions[j]
        chosen = (found["measure"] == measure) & (found["against"] == against)
        _skill_panel(ax, found[chosen & (found["cohort"] == cohorts[i])], names, models)
        if i == 0:
            ax.set_title(f"{measure.removesuffix('_physical')}, {against}", loc="left")
    for ax in axes[-1]:
        ax.set_xlabel("skill")
        ax.set_xlim(left=max(ax.get_xlim()[0], -1.0))
    for ax, cohort in zip(axes[:, 0], cohorts, strict=True):
        ax.set_ylabel(cohort)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _skill_panel(ax: Axes, part: pd.DataFrame, names, models) -> None:
    """A row per map, a dot with its interval per model; lines at the constant and the teacher."""
    ax.axvline(0, color=LEVELS["constant"]["color"], lw=1.2, label="constant")
    ax.axvline(1, color="#222222", lw=1.2, label="noise-free teacher")
    for m, model in enumerate(models):
        rows = part[part["model"] == model].set_index("map").reindex(names)
        heights = np.arange(len(names)) + 0.22 * (m - (len(models) - 1) / 2)
        ends = np.abs(rows[["low", "high"]].sub(rows["skill"], axis=0)).to_numpy().T
        style = {"fmt": "o", "ms": 4, "lw": 1.3, "color": COLOURS[model], "label": model}
        ax.errorbar(rows["skill"], heights, xerr=ends, **style)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)


def _score_panel(ax: Axes, part: pd.DataFrame, measure: str, shown, letter: str) -> None:
    """Bars of one measure: a group per map, a bar per model, a line per floor or ceiling."""
    models, levels = shown
    names = [name for name in maps.MAPS if name in set(part["map"])]
    width = 0.8 / max(len(models), 1)
    for m, model in enumerate(models):
        for k, name in enumerate(names):
            chosen = (part["map"] == name) & (part["model"] == model)
            values = part.loc[chosen, "value"].to_numpy(float)
            values = values[np.isfinite(values)]
            if not values.size:
                continue
            x = k + (m - (len(models) - 1) / 2) * width
            ax.bar(x, values.mean(), 0.92 * width, color=COLOURS[model], label=_once(ax, model))
            if values.size > 1:
                ax.errorbar(x, values.mean(), values.std(ddof=1), color="#222222", capsize=3, lw=1)
            spots = x + width * 0.25 * np.linspace(-1, 1, values.size + 2)[1:-1]
            ax.plot(spots, values, ".", color="#222222", ms=3, alpha=0.45)
    for level in levels:
        means = part[part["model"] == level].groupby("map")["value"].mean()
        for k, name in enumerate(names):
            if np.isfinite(means.get(name, np.nan)):
                ends = (k - 0.45, k + 0.45)
                ax.hlines(means[name], *ends, **LEVELS[level], lw=1.6, label=_once(ax, level))
    ax.set_xticks(range(len(names)), names)
    better = "higher" if measure in HIGHER_IS_BETTER else "lower"
    ax.set_title(f"{letter}{LABELS.get(measure, measure)} ({better} is better)", loc="left")
    if measure in ("SSIM", "r"):
        ax.set_ylim(top=1.0)


def _once(ax: Axes, label: str) -> str | None:
    """The label where the axes do not have it yet, so that a legend shows it once."""
    return None if label in ax.get_legend_handles_labels()[1] else label
