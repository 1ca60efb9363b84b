"""Figures with a dot per patient."""

import numpy as np
import pandas as pd
import pytest

from perfnb import plots

TABLE = pd.DataFrame(
    {"cohort": ["acute", "acute", "chronic"], "snr": [30, 60, 90], "mae": [3.0, 2.0, 1.0]}
)


def test_scatter_has_a_panel_per_column_and_a_dot_per_patient():
    figure = plots.scatter(TABLE, {"snr": "SNR"}, "mae", "MAE [s]", notes={"snr": "none"})
    ax = figure.axes[0]
    assert ax.get_xlabel() == "SNR" and ax.get_title(loc="left") == "none"
    assert sum(len(line.get_xdata()) for line in ax.lines) == len(TABLE)


def test_scatter_names_a_column_that_is_missing():
    with pytest.raises(ValueError, match="age"):
        plots.scatter(TABLE, {"age": "age"}, "mae", "MAE [s]")
    with pytest.raises(ValueError, match="none"):
        plots.scatter(TABLE, {}, "mae", "MAE [s]")


def test_dots_draw_the_mean_leave_out_nan_and_show_each_name_once():
    values = {"mild": {"pix2pix": np.array([1.0, 3.0, np.nan])}, "bolus": {"pix2pix": [5.0]}}
    figure = plots.dots(values, "change [s]", {"mild": {"pix2pix": (1.5, 2.5)}})
    ax = figure.axes[0]
    drawn = [np.ravel(line.get_ydata()).tolist() for line in ax.lines]
    assert [1.0, 3.0] in drawn and [2.0] in drawn and [1.5, 2.5] in drawn and [5.0] in drawn
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pix2pix"]


def test_dots_refuse_nothing():
    with pytest.raises(ValueError, match="at least one group"):
        plots.dots({"mild": {}}, "change [s]")


def test_outline_is_drawn_over_every_image_of_its_row_and_only_there():
    image, lesion = np.ones((8, 8)), np.zeros((8, 8), bool)
    lesion[2:4, 2:4] = True
    rows = [("a", {"input": image, "truth": image}), ("b", {"input": image, "truth": image})]
    figure = plots.map_rows(rows, "Tmax", outline=[lesion, ~lesion & lesion])
    assert [len(ax.collections) for ax in figure.axes[:4]] == [1, 1, 0, 0]
