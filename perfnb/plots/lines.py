"""Curves side by side, in ranges that stay the same from frame to frame of a slider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perfnb.plots.look import COLOURS, CYCLE, MUTED, WIDTH, subplots

TRUTH = "#222222"
NETWORKS = ("pix2pix", "temp-pix2pix")  # the same colours as in every other figure
ORDER = tuple(CYCLE[k] for k in (0, 1, 2, 4, 3, 5, 6, 7))  # neighbours differ in lightness


@dataclass(frozen=True)
class Panel:
    """One pair of axes with its curves.

    Attributes
    ----------
    x : float array, shape (K,)
        Where the curves have values.
    lines : {label: float array, shape (K,) or (M, K)}
        Curves; M of one label are drawn thin, in one colour.
    has_bands : bool
        Where M is 3, the rows are the low end, the middle and the high end of a band.
    ylabel, xlabel, title : str
        Names with units.
    ylim : (float, float), or None
        Range, to be given where frames are compared; None: as the curves need it.
    marks : {label: float}
        Vertical lines.
    is_log : bool
        Logarithmic vertical axis.
    """

    x: np.ndarray
    lines: Mapping[str, np.ndarray]
    ylabel: str
    xlabel: str = "time [s]"
    title: str = ""
    ylim: tuple[float, float] | None = None
    marks: Mapping[str, float] = field(default_factory=dict)
    is_log: bool = False
    has_bands: bool = False


def panels(
    parts: Sequence[Panel],
    angles_rad: Sequence[float] | None = None,
    legend: str = "upper right",
    title: str = "",
) -> Figure:
    """Draw panels side by side; a label has one colour in all of them, a truth is black.

    Parameters
    ----------
    parts : list of Panel
        From left to right.
    angles_rad : floats, or None
        Directions of spins, drawn as hands of a clock in a panel of their own on the left [rad].
    legend : str
        Corner of each panel's legend, as matplotlib calls it, or "below": one legend for all.
    title : str
        Above all panels.

    Raises
    ------
    ValueError
        No panel, or a curve that does not fit its x.
    """
    if not parts:
        raise ValueError("parts is empty: expected at least one Panel")
    labels = dict.fromkeys(label for part in parts for label in part.lines)
    plain = [label for label in labels if not _is_truth(label)]
    colours = {label: ORDER[k % len(ORDER)] for k, label in enumerate(plain)}
    colours |= {label: COLOURS[label] for label in plain if label in NETWORKS}
    has_clock = angles_rad is not None
    ratios = [1.0] * len(parts) if not has_clock else [0.75] + [1.0] * len(parts)
    width = WIDTH if len(ratios) > 1 else 0.75 * WIDTH
    height = 3.2 if legend == "below" else 2.9
    figure, axes = subplots(1, len(ratios), (width, height), width_ratios=ratios)
    if has_clock:
        _draw_clock(axes[0, 0], np.asarray(angles_rad, float))
    for ax, part in zip(axes[0, has_clock:], parts, strict=True):
        _draw(ax, part, colours, legend)
    if legend == "below":
        handles, names = axes[0, -1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8)
    if title:
        figure.suptitle(title, fontsize=9.5)
    return figure


def _draw(ax: Axes, part: Panel, colours: Mapping[str, str], legend: str) -> None:
    """Draw the curves and marks of one panel."""
    for label, values in part.lines.items():
        curves = np.atleast_2d(values)
        if curves.shape[-1] != len(part.x):
            raise ValueError(f"{label!r} has shape {np.shape(values)} for {len(part.x)} places x")
        look = {"color": TRUTH, "linestyle": "--"} if _is_truth(label) else {}
        look = look or {"color": colours[label]}
        if part.has_bands and len(curves) == 3:
            ax.fill_between(part.x, curves[0], curves[2], color=look["color"], alpha=0.2, lw=0)
            curves = curves[1:2]
        elif len(curves) > 1:
            look |= {"linewidth": 0.7, "alpha": 0.5}
        for k, curve in enumerate(curves):
            ax.plot(part.x, curve, label=label if k == 0 else None, **look)
    for label, place in part.marks.items():
        ax.axvline(place, color=MUTED, linewidth=0.9, linestyle=":")
        ax.text(place, 1.01, label, transform=ax.get_xaxis_transform(), ha="center", fontsize=8)
    ax.set(xlabel=part.xlabel, ylabel=part.ylabel, xlim=(part.x[0], part.x[-1]))
    ax.set_title(part.title, loc="left")
    if part.is_log:
        ax.set_yscale("log")
    if part.ylim:
        ax.set_ylim(part.ylim)
    if len(part.lines) > 1 and legend != "below":
        ax.legend(loc=legend, fontsize=8)


def _draw_clock(ax: Axes, angles_rad: np.ndarray) -> None:
    """Draw spins as hands of a clock, and the sum of all as a thick one."""
    x, y = np.sin(angles_rad), np.cos(angles_rad)
    for end in zip(x, y, strict=True):
        ax.plot([0, end[0]], [0, end[1]], color=CYCLE[0], linewidth=0.7, alpha=0.6)
    ax.plot([0, x.mean()], [0, y.mean()], color=TRUTH, linewidth=3.5, solid_capstyle="round")
    turn = np.linspace(0, 2 * np.pi, 100)
    ax.plot(np.cos(turn), np.sin(turn), color=MUTED, linewidth=0.6)
    ax.set(xticks=[], yticks=[], xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), aspect="equal")
    ax.spines[:].set_visible(False)
    ax.set_title("spins (thin) and their mean (thick)", loc="left")


def _is_truth(label: str) -> bool:
    return label.startswith(("true ", "truth"))
