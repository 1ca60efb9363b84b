"""The common look of all figures: fonts, colours, and source code as text."""

import inspect
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from IPython.display import Markdown
from matplotlib.figure import Figure

WIDTH = 9.0  # inches: a column of the book
COLOURS = {  # differ in lightness too, for colour-blind eyes and grey printers
    "pix2pix": "#3aa66f",
    "temp-pix2pix": "#1f4f96",
    "classical": "#8a8a8a",
    "constant": "#d4d4d4",
}
CYCLE = tuple(seaborn.color_palette("colorblind").as_hex())
MUTED = "#666666"


def style() -> None:
    """Set the look of all figures of a chapter: call it once, after the imports."""
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 150,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=CYCLE),
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": MUTED,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
        }
    )


def subplots(
    n_rows: int, n_columns: int, size: tuple[float, float], **options
) -> tuple[Figure, np.ndarray]:
    """Make a figure and its axes, shape (n_rows, n_columns), known to nobody but the caller.

    pyplot forgets the figure at once: a notebook shows it where it is a cell's result, not twice,
    and nothing piles up in memory.
    """
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=size, squeeze=False, layout="constrained", **options
    )
    plt.close(figure)
    return figure, axes


def show_source(obj: object) -> Markdown:
    """Source of a library function or class, highlighted by whatever shows the notebook.

    A fenced block follows the reader's colour theme, also a dark one, and needs no network.
    """
    source = textwrap.dedent(inspect.getsource(obj)).rstrip()
    fence = "`" * 4  # longer than any fence in a docstring
    return Markdown(f"{fence}python\n{source}\n{fence}")
