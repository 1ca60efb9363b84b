"""Figure that compares what patients show with published ranges."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from perfnb.plots.look import CYCLE, MUTED, WIDTH, subplots


def ranges(
    values: Mapping[str, Mapping[str, np.ndarray]], published: Mapping[str, tuple[float, ...]]
) -> Figure:
    """One panel per quantity: a dot per patient, and the published range as a band.

    Parameters
    ----------
    values : {quantity with its unit: {group: float array, shape (patients,)}}
        One row of dots per group, with a tick at its median.
    published : {quantity: (low, high) or (low, middle, high)}
        Band, and a line in the middle where it is known; a quantity may be missing.

    Raises
    ------
    ValueError
        Nothing to draw, or a published quantity that is not among the values.
    """
    unknown = sorted(set(published) - set(values))
    if not values or unknown:
        raise ValueError(f"published quantities {unknown} have no values: drawn are {list(values)}")
    n_columns = min(len(values), 3)
    n_rows = -(-len(values) // n_columns)
    figure, axes = subplots(n_rows, n_columns, (WIDTH, 1.55 * n_rows))
    for ax in axes.flat[len(values) :]:
        ax.axis("off")
    for ax, (quantity, groups) in zip(axes.flat, values.items(), strict=False):
        band = published.get(quantity)
        if band:
            ax.axvspan(band[0], band[-1], color="#dddddd", label="published")
        if band and len(band) == 3:
            ax.axvline(band[1], color=MUTED, linewidth=1)
        for k, given in enumerate(groups.values()):
            numbers = np.asarray(given, float)
            height = k + 0.25 * np.linspace(-1, 1, max(numbers.size, 2))[: numbers.size]
            ax.plot(numbers, height, ".", color=CYCLE[k], ms=4, alpha=0.6)
            if numbers.size:
                ax.plot([np.median(numbers)], [k], "|", color=CYCLE[k], ms=22, mew=2)
        ax.set_yticks(range(len(groups)), list(groups))
        ax.set(ylim=(-0.7, len(groups) - 0.3), xlabel=quantity)
        ax.invert_yaxis()
    return figure
