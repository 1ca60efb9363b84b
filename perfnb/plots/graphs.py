"""Figures of numbers: curves, scores, training and agreement."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perfnb import maps
from perfnb.plots.look import COLOURS, CYCLE, MUTED, WIDTH, subplots


def curves(
    times_s: Sequence[float],
    lines: Mapping[str, np.ndarray],
    ylabel: str,
    marks: Mapping[str, float] | None = None,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Curves over time, with named moments as vertical lines.

    Parameters
    ----------
    times_s : floats, shape (T,)
        Time of each point [s].
    lines : {label: float array of shape (T,)}
        One curve each.
    ylabel : str
        Quantity with its unit, such as "ΔR2* [1/s]".
    marks : {label: float}, or None
        Moments [s].
    colours : {label: colour}, or None
        Colours that differ from the standard cycle.
    """
    figure, axes = subplots(1, 1, (0.75 * WIDTH, 3.0))
    ax = axes[0, 0]
    for k, (label, curve) in enumerate(lines.items()):
        colour = {**COLOURS, **(colours or {})}.get(label, CYCLE[k % len(CYCLE)])
        ax.plot(times_s, curve, label=label, color=colour)
    for label, time_s in (marks or {}).items():
        ax.axvline(time_s, color=MUTED, linewidth=0.9, linestyle="--")
        ax.text(
            time_s,
            1.01,
            label,
            transform=ax.get_xaxis_transform(),
            ha="center",
            fontsize=8,
            color=MUTED,
        )
    ax.set(xlabel="time [s]", ylabel=ylabel, xlim=(times_s[0], times_s[-1]))
    ax.legend()
    return figure


def training_history(history: pd.DataFrame, best_epoch: int | None = None) -> Figure:
    """Losses and validation over the epochs, the kept epoch marked.

    A dotted line at ln 2 marks the loss of a discriminator that gives every patch even odds.

    Parameters
    ----------
    history : DataFrame
        Columns epoch, generator_l1, generator_adversarial, discriminator, validation_mae and
        validation_ssim.
    best_epoch : int or None
        The epoch whose weights were kept; no mark where None.
    """
    figure, axes = subplots(1, 3, (WIDTH, 2.7))
    panels = (
        ("losses of the GAN", {"generator_adversarial": "generator", "discriminator": None}),
        (
            "MAE in the brain, on [−1, 1]",
            {"generator_l1": "training (L1)", "validation_mae": "validation"},
        ),
        ("SSIM of whole slices", {"validation_ssim": "validation"}),
    )
    for ax, (title, columns) in zip(axes.flat, panels, strict=True):
        for k, (column, label) in enumerate(columns.items()):
            ax.plot(history["epoch"], history[column], ".-", color=CYCLE[k], label=label or column)
        if best_epoch is not None:
            ax.axvline(best_epoch, color=MUTED, linestyle="--", linewidth=0.9, label="kept epoch")
        ax.set_title(title, loc="left")
        ax.set(xlabel="epoch")
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes[0, 0].axhline(np.log(2), color=MUTED, linestyle=":", linewidth=0.9, label="only guessing")
    for ax in axes.flat:
        ax.legend(fontsize=8)
    return figure


def sparkline(
    epochs: Sequence[float], values: Sequence[float], best_epoch: int | None = None
) -> Figure:
    """Draw a curve without axes, the size of a line of text, with a dot at the kept epoch.

    Parameters
    ----------
    epochs, values : floats, shape (epochs,)
        What is drawn.
    best_epoch : int or None
        The epoch whose weights were kept; no dot where None.
    """
    epochs, values = np.asarray(epochs), np.asarray(values, float)
    figure, axes = subplots(1, 1, (0.9, 0.3))
    ax = axes[0, 0]
    ax.axis("off")
    ax.plot(epochs, values, color="#4d7cc3", linewidth=1.2)
    kept = epochs == best_epoch
    ax.plot(epochs[kept], values[kept], "o", color="#d1495b", ms=3.5)
    ax.margins(0.06, 0.15)
    return figure


def head_motion(
    times_s: Sequence[float],
    parameters: np.ndarray,
    displacement_mm: np.ndarray,
    bolus_s: tuple[float, float] | None = None,
) -> Figure:
    """Shifts, turns and mean displacement of the head over time, with the bolus shaded.

    Parameters
    ----------
    times_s : floats, shape (T,)
        Time of each frame [s].
    parameters : float array, shape (T, 6)
        Shifts [mm] and turns [degrees] along and about x, y, z; a frame of NaN leaves a gap.
    displacement_mm : float array, shape (T,)
        Mean displacement of the brain [mm].
    bolus_s : (float, float), or None
        When the bolus comes and goes [s].

    Raises
    ------
    ValueError
        Arrays whose shapes do not fit the times.
    """
    n, shapes = len(times_s), (np.shape(parameters), np.shape(displacement_mm))
    if shapes != ((n, 6), (n,)):
        raise ValueError(
            f"parameters and displacement_mm have shapes {shapes}; expected {((n, 6), (n,))}"
        )
    figure, axes = subplots(1, 3, (WIDTH, 2.7), sharex=True)
    panels = (
        ("shift [mm]", dict(zip("xyz", np.transpose(parameters)[:3], strict=True))),
        ("turn [degrees]", dict(zip("xyz", np.transpose(parameters)[3:], strict=True))),
        ("mean displacement [mm]", {"brain": np.asarray(displacement_mm)}),
    )
    for ax, (ylabel, lines) in zip(axes.flat, panels, strict=True):
        if bolus_s is not None:
            ax.axvspan(*bolus_s, color=MUTED, alpha=0.15, linewidth=0, label="bolus")
        for k, (label, line) in enumerate(lines.items()):
            ax.plot(times_s, line, label=label, color=CYCLE[k if len(lines) > 1 else 3])
        ax.set(xlabel="time [s]", ylabel=ylabel, xlim=(times_s[0], times_s[-1]))
        ax.legend(fontsize=8)
    axes[0, 2].set_ylim(bottom=0)
    return figure


def agreement(
    reference: np.ndarray,
    prediction: np.ndarray,
    map_name: str,
    labels: tuple[str, str] = ("reference", "prediction"),
) -> Figure:
    """Prediction against reference, and difference against mean (Bland and Altman).

    Parameters
    ----------
    reference, prediction : float arrays of one shape
        Tissue voxels in the unit of the map.
    map_name : str
        Which map; gives unit and range.
    labels : (str, str)
        What the two arrays are called on the axes.

    Raises
    ------
    ValueError
        Arrays that differ in shape or are empty.
    """
    a, b = np.asarray(reference, float), np.asarray(prediction, float)
    if a.shape != b.shape or not a.size:
        raise ValueError(f"reference has shape {a.shape}, prediction {b.shape}: expected equal")
    spec = maps.spec(map_name)
    (low, high), unit, half = spec.display, spec.unit, (spec.display[1] - spec.display[0]) / 2
    figure, (left, right) = _pair_of_axes()
    bins = np.linspace(low, high, 61)
    image = _density(left, a, b, bins, bins)
    left.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle="--", label="identity")
    left.set(xlabel=f"{labels[0]} {map_name} [{unit}]", ylabel=f"{labels[1]} {map_name} [{unit}]")
    left.set_aspect("equal")
    difference = (b - a).ravel()
    _density(right, (a + b) / 2, difference, bins, np.linspace(-half, half, 61))
    bias, spread = difference.mean(), 1.96 * difference.std()
    right.axhline(bias, color=CYCLE[3], linewidth=1.2, label=f"bias {bias:+.2f} {unit}")
    for edge in (bias - spread, bias + spread):
        label = f"±1.96 SD: {spread:.2f} {unit}" if edge < bias else None
        right.axhline(edge, color=CYCLE[3], linewidth=1, linestyle=":", label=label)
    right.set(xlabel=f"mean of both [{unit}]", ylabel=f"{labels[1]} − {labels[0]} [{unit}]")
    for ax in (left, right):
        ax.legend(fontsize=8, loc="upper left")
    figure.colorbar(image, ax=right, label="voxels")
    return figure


def _pair_of_axes() -> tuple[Figure, np.ndarray]:
    """Two axes side by side."""
    figure, axes = subplots(1, 2, (WIDTH, 3.8))
    return figure, axes[0]


def _density(ax: Axes, x, y, x_bins, y_bins):
    """Two-dimensional histogram with a logarithmic grey scale; values beyond stay at the edge."""
    x = np.clip(np.ravel(x), x_bins[0], x_bins[-1])
    y = np.clip(np.ravel(y), y_bins[0], y_bins[-1])
    return ax.hist2d(x, y, bins=[x_bins, y_bins], cmap="Greys", norm="log")[3]
