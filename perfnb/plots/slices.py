"""Figures of slices: maps, errors and films as images."""

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn  # also registers the colour map "vlag"
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from perfnb import maps
from perfnb.plots.look import CYCLE, WIDTH, subplots

ERROR_CMAP = seaborn.color_palette("vlag", as_cmap=True)  # perceptually even, light at zero
OUTSIDE = "#f3f3f3"  # drawn where a mask is False
OUTLINE = "#ff5fa2"  # stands out on grey, on viridis and on inferno
KINDS = ("map", "error", "input")


def map_rows(
    rows: Sequence[tuple[str, Mapping[str, np.ndarray]]],
    map_name: str,
    mask: Sequence[np.ndarray] | None = None,
    outline: Sequence[np.ndarray] | None = None,
) -> Figure:
    """One row per patient: input, reference, prediction, error.

    Parameters
    ----------
    rows : list of (label, {column: array of shape (H, W)})
        Columns whose name starts with "input" are drawn grey [a.u.], with "error" diverging about
        zero, all others in the map's own range. Every row has the same columns.
    map_name : str
        Which map; gives unit, range and colours.
    mask : list of bool arrays (H, W), one per row, or None
        Pixels outside are left blank; the input is shown whole.
    outline : list of bool arrays (H, W), one per row, or None
        Drawn as a line over every image of the row, where it holds anything.

    Raises
    ------
    ValueError
        No row, rows with other columns than the first, an unknown map, a wrong shape.
    """
    columns = _columns([arrays for _, arrays in rows])
    axes = image_axes(len(rows), len(columns), np.shape(rows[0][1][columns[0]]))
    drawn = {}
    for i, (label, arrays) in enumerate(rows):
        for j, column in enumerate(columns):
            kind = next((k for k in ("input", "error") if column.startswith(k)), "map")
            inside = mask[i] if mask is not None and kind != "input" else None
            image = draw_slice(axes[i, j], arrays[column], map_name, kind, inside)
            drawn.setdefault(kind, {})[j] = image
            if outline is not None and np.any(outline[i]):
                edge = np.asarray(outline[i], float)
                axes[i, j].contour(edge, [0.5], colors=OUTLINE, linewidths=1.1)
        axes[i, 0].set_ylabel(label)
    for j, column in enumerate(columns):
        axes[0, j].set_title(column)
    for kind, images in drawn.items():
        if kind != "input":
            bar(axes[:, sorted(images)], next(iter(images.values())), map_name, kind)
    return axes[0, 0].figure


def map_grid(
    columns: Mapping[str, Mapping[str, np.ndarray]], mask: np.ndarray | None = None
) -> Figure:
    """One column per map, one row per source: the form of the paper's figures 4 and 6.

    Where there are more sources than maps, the grid is turned on its side to fill the page.

    Parameters
    ----------
    columns : {map_name: {source: array of shape (H, W), in the unit of the map}}
        Every map has the same sources.
    mask : bool array, shape (H, W), or None
        Pixels outside are left blank.

    Raises
    ------
    ValueError
        No map, maps with other rows than the first, an unknown map, a wrong shape.
    """
    labels = _columns(list(columns.values()))
    shape = np.shape(next(iter(columns.values()))[labels[0]])
    turned = len(labels) > len(columns)
    names = (columns, labels) if turned else (labels, columns)
    axes = image_axes(len(names[0]), len(names[1]), shape, below=0.2 if turned else 0.95)
    for j, (map_name, arrays) in enumerate(columns.items()):
        chosen = axes[[j]] if turned else axes[:, [j]]
        for ax, label in zip(chosen.flat, labels, strict=True):
            image = draw_slice(ax, arrays[label], map_name, "map", mask)
        bar(chosen, image, map_name, "map", "right" if turned else "bottom")
    for ax, name in zip(axes[:, 0], names[0], strict=True):
        ax.set_ylabel(name)
    for ax, name in zip(axes[0], names[1], strict=True):
        ax.set_title(name)
    return axes[0, 0].figure


def montage(
    volume: np.ndarray, map_name: str, kind: str = "map", mask: np.ndarray | None = None
) -> Figure:
    """Draw all slices of a volume side by side, lowest first.

    Parameters
    ----------
    volume : float array, shape (Z, H, W)
        In the unit of the map.
    map_name : str
        Which map; gives unit, range and colours.
    kind : str
        "map", "error" (diverging about zero) or "input" (grey, a.u.).
    mask : bool array, shape (Z, H, W), or None
        Pixels outside are left blank.

    Raises
    ------
    ValueError
        Not (Z, H, W), an unknown map or kind, a mask of another shape.
    """
    if np.ndim(volume) != 3 or not len(volume):
        raise ValueError(f"volume has shape {np.shape(volume)}, expected (Z, H, W)")
    n_columns = min(len(volume), 6)
    axes = image_axes(-(-len(volume) // n_columns), n_columns, volume.shape[1:], below=0.3)
    for z, ax in enumerate(axes.flat):
        if z >= len(volume):
            ax.axis("off")
            continue
        image = draw_slice(ax, volume[z], map_name, kind, None if mask is None else mask[z])
        ax.set_title(f"slice {z}", fontsize=8, pad=2)
    bar(axes, image, map_name, kind, location="right")
    return axes[0, 0].figure


def film_strip(
    frames: np.ndarray, times_s: Sequence[float], title: str = "", label: str = "signal [a.u.]"
) -> Figure:
    """Frames of one slice in order of time, on one grey scale.

    Parameters
    ----------
    frames : float array, shape (N, H, W)
        In order of time.
    times_s : floats, shape (N,)
        Time of each frame [s].
    title, label : str
        Title of the figure; name and unit of what the grey scale shows.

    Raises
    ------
    ValueError
        Not (N, H, W), or not one time per frame.
    """
    if np.ndim(frames) != 3 or len(frames) != len(times_s):
        raise ValueError(
            f"frames has shape {np.shape(frames)} and times_s {len(times_s)} entries, "
            "expected (N, H, W) and N"
        )
    n_columns = min(len(frames), 8)
    axes = image_axes(-(-len(frames) // n_columns), n_columns, frames.shape[1:], below=0.6)
    low, high = np.percentile(frames, [0.5, 99.8])
    for k, ax in enumerate(axes.flat):
        if k >= len(frames):
            ax.axis("off")
            continue
        image = ax.imshow(frames[k], cmap="gray", vmin=low, vmax=high, origin="lower")
        ax.set_title(f"{times_s[k]:.1f} s", fontsize=8, pad=2)
    axes[0, 0].figure.colorbar(image, ax=axes, label=label, fraction=0.03, pad=0.01)
    if title:
        axes[0, 0].figure.suptitle(title)
    return axes[0, 0].figure


def masks_outline(
    image: np.ndarray, masks: Mapping[str, np.ndarray], colours: Mapping[str, str] | None = None
) -> Figure:
    """Draw a grey slice with the outline of each mask.

    Parameters
    ----------
    image : float array, shape (H, W)
        What is drawn grey.
    masks : {label: bool array of shape (H, W)}
        One outline each.
    colours : {label: colour}, or None
        Colours that differ from the standard cycle.
    """
    ax = image_axes(1, 1, np.shape(image), width=3.6, largest=3.6)[0, 0]
    ax.imshow(image, cmap="gray", vmax=np.percentile(image, 99.8), origin="lower")
    for k, (label, mask) in enumerate(masks.items()):
        colour = (colours or {}).get(label, CYCLE[k % len(CYCLE)])
        if np.any(mask):
            ax.contour(np.asarray(mask, float), [0.5], colors=[colour], linewidths=1.4)
        ax.plot([], [], color=colour, label=label)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax.figure


def draw_slice(
    ax: Axes, values: np.ndarray, map_name: str, kind: str = "map", mask: np.ndarray | None = None
) -> AxesImage:
    """Draw one slice (H, W) into axes, in the fixed range of its map; return the image."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown, known: {', '.join(KINDS)}")
    values = np.asarray(values, float)
    if values.ndim != 2 or (mask is not None and np.shape(mask) != values.shape):
        raise ValueError(
            f"a slice has shape {values.shape} and its mask {np.shape(mask)}, expected (H, W) twice"
        )
    if mask is not None:
        values = np.ma.masked_where(~np.asarray(mask, bool), values)
    ax.set_facecolor(OUTSIDE)
    if kind == "input":
        return ax.imshow(values, cmap="gray", vmax=np.percentile(values, 99.8), origin="lower")
    low, high = maps.spec(map_name).display
    cmap = maps.spec(map_name).cmap
    if kind == "error":
        low, high, cmap = -(high - low) / 4, (high - low) / 4, ERROR_CMAP
    return ax.imshow(values, cmap=cmap, vmin=low, vmax=high, origin="lower", interpolation="none")


def image_axes(
    n_rows: int,
    n_columns: int,
    shape: Sequence[int],
    width: float = WIDTH,
    below: float = 0.95,
    largest: float = 2.4,
):
    """Axes without ticks for images (H, W), as wide as the book's column; [inches]."""
    cell = min(width / n_columns, largest)
    size = (cell * n_columns + 0.3, cell * shape[0] / shape[1] * n_rows + below)
    _, axes = subplots(n_rows, n_columns, size)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[], anchor="S")  # level, with or without a colour bar below
        ax.spines[:].set_visible(False)
    return axes


def bar(axes, image: AxesImage, map_name: str, kind: str, location: str = "bottom") -> None:
    """Put a colour bar with name and unit beside the axes that share it."""
    spec = maps.spec(map_name)
    label = {
        "map": f"{map_name} [{spec.unit}]",
        "error": f"error of {map_name} [{spec.unit}]",
        "input": "signal [a.u.]",
    }[kind]
    across = np.shape(axes)[1]
    share = {1: 0.9, 2: 0.6}.get(across, 0.4) if location == "bottom" else 0.8
    image.figure.colorbar(
        image,
        ax=axes,
        location=location,
        label=label,
        shrink=share,
        aspect=12 if across == 1 else 22,
        pad=0.02,
        extend="max" if kind == "map" and spec.display[0] == 0 else "both",
    )


def _columns(parts: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
    """The keys that all parts share, in order; an error where they differ."""
    if not parts or not parts[0]:
        raise ValueError("nothing to draw: expected at least one row with at least one column")
    first = list(parts[0])
    for part in parts[1:]:
        if list(part) != first:
            raise ValueError(f"one row has {list(part)}, expected {first} as in the first")
    return first
