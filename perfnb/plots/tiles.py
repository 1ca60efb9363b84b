"""Figures of a reference object: an image of tiles, one for each kind of tissue."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from perfnb import maps
from perfnb.plots.look import WIDTH, subplots


def tiles(
    images: Mapping[str, Mapping[str, np.ndarray]],
    rows: Sequence[object],
    columns: Sequence[object],
    names: tuple[str, str],
    title: str = "",
) -> Figure:
    """One row per map, one column per source, every image cut into tiles of known tissue.

    Parameters
    ----------
    images : {map_name: {source: float array, shape (H, W)}}
        In the unit of the map; the first row lies at the bottom. Every map has the same sources.
    rows, columns : lists
        What the tiles of a column from below, and of a row from the left, are called.
    names : (str, str)
        What the rows and the columns are, with the unit.
    title : str
        Above all.

    Raises
    ------
    ValueError
        Nothing to draw, an unknown map, maps of different sources, an image that its tiles do
        not divide.
    """
    sources = [list(found) for found in images.values()]
    if not sources or not sources[0] or any(s != sources[0] for s in sources):
        raise ValueError(f"images have the sources {sources}; expected the same in every map")
    size = (WIDTH, 1.25 * len(images) + 0.6 + 0.25 * bool(title))
    figure, axes = subplots(len(images), len(sources[0]), size)
    for i, (map_name, found) in enumerate(images.items()):
        spec = maps.spec(map_name)
        for j, (source, image) in enumerate(found.items()):
            ax = axes[i, j]
            _check(source, image, rows, columns)
            low, high = spec.display
            drawn = ax.imshow(
                image, cmap=spec.cmap, vmin=low, vmax=high, origin="lower",
                interpolation="none", aspect="auto", extent=(0, len(columns), 0, len(rows)),
            )  # fmt: skip
            _name_tiles(ax, rows, columns)
            ax.tick_params(labelleft=j == 0, labelbottom=i == len(images) - 1)
            if i == 0:
                ax.set_title(source)
        axes[i, 0].set_ylabel(names[0])
        figure.colorbar(drawn, ax=axes[i], label=f"{map_name}\n[{spec.unit}]", aspect=10, pad=0.01)
    figure.supxlabel(names[1], fontsize=9)
    if title:
        figure.suptitle(title, fontsize=9.5)
    return figure


def _check(source: str, image: np.ndarray, rows: Sequence, columns: Sequence) -> None:
    """Raise ValueError unless the tiles divide the image."""
    shape = np.shape(image)
    if len(shape) != 2 or shape[0] % len(rows) or shape[1] % len(columns):
        raise ValueError(
            f"{source!r} has shape {shape}; expected (H, W) that {len(rows)} rows and "
            f"{len(columns)} columns of tiles divide"
        )


def _name_tiles(ax, rows: Sequence, columns: Sequence) -> None:
    """Name every other tile, at most eight along an axis."""
    for axis, labels in ((ax.yaxis, rows), (ax.xaxis, columns)):
        step = max(1, -(-len(labels) // 8))
        axis.set_ticks(np.arange(0, len(labels), step) + 0.5, [_word(v) for v in labels[::step]])
        axis.set_tick_params(labelsize=6.5, length=1.5)


def _word(label: object) -> str:
    return f"{label:g}" if isinstance(label, int | float) else str(label)
