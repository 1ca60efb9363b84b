"""Figure of one slice many times: how a map came about, or what several networks make of it."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from perfnb.plots.slices import bar, draw_slice, image_axes

COLUMNS = 6


def map_strip(
    images: Mapping[str, np.ndarray],
    map_name: str,
    mask: np.ndarray | None = None,
    columns: int = COLUMNS,
) -> Figure:
    """Draw one slice as often as given, in reading order, in the range of its map.

    Parameters
    ----------
    images : {title: float array, shape (H, W), in the unit of the map}
        In the order in which they are drawn.
    map_name : str
        Which map; gives unit, range and colours.
    mask : bool array, shape (H, W), or None
        Pixels outside are left blank.
    columns : int
        At most so many in a row.

    Raises
    ------
    ValueError
        Nothing to draw, an unknown map, a wrong shape.
    """
    if not images:
        raise ValueError("images is empty: expected at least one slice with its title")
    across = min(len(images), columns)
    shape = np.shape(next(iter(images.values())))
    lines = max(title.count("\n") + 1 for title in images)
    down = -(-len(images) // across)
    axes = image_axes(down, across, shape, below=0.15 + 0.16 * lines * down)
    for ax in axes.flat[len(images) :]:
        ax.axis("off")
    for ax, (title, values) in zip(axes.flat, images.items(), strict=False):
        image = draw_slice(ax, values, map_name, "map", mask)
        ax.set_title(title, fontsize=8, pad=2)
    bar(axes, image, map_name, "map", location="right")
    return axes[0, 0].figure
