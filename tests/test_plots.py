import base64
import html
import io
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from perfnb import maps, plots


@pytest.fixture(autouse=True)
def quiet_backend():
    plt.switch_backend("agg")
    with plt.rc_context():
        plots.style()
        yield
    assert not plt.get_fignums()  # no figure is left behind for a notebook to show twice


def labels_of(figure):
    return [ax.get_xlabel() + ax.get_ylabel() for ax in figure.axes]


def images_of(figure):
    return [image for ax in figure.axes for image in ax.images]


def draw(figure):
    """Render, and return the width in inches."""
    figure.savefig(io.BytesIO(), format="png")
    return figure.get_figwidth()


@pytest.fixture
def volume():
    return np.random.default_rng(0).uniform(0, 12, (5, 20, 16))


def rows(volume):
    return [
        (f"sub-{z}", {"input": volume[z], "reference": volume[z], "error": volume[z] - 6})
        for z in range(2)
    ]


def test_map_rows_draws_the_map_in_its_range_and_the_error_about_zero(volume):
    figure = plots.map_rows(rows(volume), "Tmax", mask=[volume[0] > 1, volume[1] > 1])
    assert draw(figure) <= 9.5
    drawn = images_of(figure)
    assert len(drawn) == 6
    assert drawn[1].get_clim() == drawn[4].get_clim() == maps.MAPS["Tmax"].display
    low, high = drawn[2].get_clim()
    assert low == -high < 0
    assert all(image.origin == "lower" for image in drawn)
    assert drawn[1].get_array().mask.sum() == (volume[0] <= 1).sum()
    assert np.ma.count_masked(drawn[0].get_array()) == 0
    assert {"Tmax [s]", "error of Tmax [s]"} <= set(labels_of(figure))


def test_input_stands_level_with_the_maps_that_have_a_colour_bar(volume):
    figure = plots.map_rows(rows(volume)[:1], "Tmax")
    draw(figure)
    draw(figure)  # the first saving lays out, the second leaves the places where they are
    tops = [image.axes.get_position().y1 for image in images_of(figure)]
    np.testing.assert_allclose(tops, tops[0], atol=1e-6)


@pytest.mark.parametrize("name", list(maps.MAPS))
def test_every_map_carries_its_unit(volume, name):
    figure = plots.montage(volume, name, mask=volume > 1)
    draw(figure)
    assert f"{name} [{maps.MAPS[name].unit}]" in labels_of(figure)
    assert len(images_of(figure)) == len(volume)


@pytest.mark.parametrize("sources", [("a", "b"), ("a", "b", "c", "d")])
def test_map_grid_has_one_colour_bar_per_map(volume, sources):
    columns = {n: dict.fromkeys(sources, volume[0]) for n in ("CBF", "Tmax")}
    figure = plots.map_grid(columns, volume[0] > 1)
    assert draw(figure) <= 9.5
    assert {"CBF [ml/100 g/min]", "Tmax [s]"} <= set(labels_of(figure))
    drawn = {image.get_clim() for image in images_of(figure)}
    assert drawn == {maps.MAPS[n].display for n in columns}


def test_images_that_do_not_fit_are_refused(volume):
    odd = [*rows(volume), ("sub-9", {"reference": volume[0]})]
    with pytest.raises(ValueError, match="expected .* as in the first"):
        plots.map_rows(odd, "Tmax")
    with pytest.raises(ValueError, match="known maps: CBF"):
        plots.map_rows(rows(volume), "Tmin")
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.map_grid({})
    with pytest.raises(ValueError, match="known: map, error, input"):
        plots.montage(volume, "Tmax", kind="difference")
    with pytest.raises(ValueError, match="its mask"):
        plots.montage(volume, "Tmax", mask=volume[:, :5] > 1)
    with pytest.raises(ValueError, match="volume has shape"):
        plots.montage(volume[0], "Tmax")
    with pytest.raises(ValueError, match="times_s 2 entries"):
        plots.film_strip(volume, [0, 1])


def test_film_masks_and_curves_render(volume):
    strip = plots.film_strip(volume, np.arange(5) * 2.2, "bolus")
    assert draw(strip) <= 9.5
    assert "signal [a.u.]" in labels_of(strip)
    outline = plots.masks_outline(volume[0], {"lesion": volume[0] > 6, "none": volume[0] > 99})
    draw(outline)
    assert [t.get_text() for t in outline.axes[0].get_legend().texts] == ["lesion", "none"]
    lines = plots.curves(np.arange(9), {"artery": np.arange(9)}, "ΔR2* [1/s]", {"arrival": 3})
    draw(lines)
    assert lines.axes[0].get_xlabel() == "time [s]"


def scores(n):
    return pd.DataFrame(
        [
            dict(map=name, model=model, measure=measure, patient=p, value=0.5 + 0.01 * p)
            for name in ("Tmax", "CBF")
            for model in ("pix2pix", "temp-pix2pix", "constant")
            for measure in ("MAE", "NRMSE", "SSIM", "PSNR")
            for p in range(n)
        ]
    )


@pytest.mark.parametrize("n", [1, 5])
def test_score_bars_show_mean_and_sd_of_each_map_and_model(n):
    figure = plots.score_bars(scores(n))
    assert draw(figure) <= 9.5
    assert len(figure.axes) == 4
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(heights, [scores(n)["value"].mean()] * 4)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["CBF", "Tmax"]
    assert len(figure.legends[0].texts) == 3
    assert len(figure.axes[0].containers) == (8 if n > 1 else 4)
    with pytest.raises(ValueError, match="no measure"):
        plots.score_bars(scores(n), "Dice")


@pytest.mark.parametrize(("perfect", "heights"), [([0], [0.515] * 4), ([0, 1, 2], [])])
def test_score_bars_leave_out_an_infinite_psnr(perfect, heights):
    table = scores(3)
    table.loc[(table["measure"] == "PSNR") & table["patient"].isin(perfect), "value"] = np.inf
    figure = plots.score_bars(table)
    draw(figure)
    *others, psnr = figure.axes
    assert "PSNR" in psnr.get_title(loc="left") and np.isfinite(psnr.get_ylim()).all()
    assert [bar.get_height() for bar in psnr.patches] == pytest.approx(heights)
    for ax in others:
        assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.51] * 4)


def test_training_history_marks_the_kept_epoch():
    names = "generator_l1 generator_adversarial discriminator validation_mae validation_ssim"
    history = pd.DataFrame({"epoch": [1, 2, 3]} | {name: [3, 2, 1] for name in names.split()})
    figure = plots.training_history(history, best_epoch=3)
    assert draw(figure) <= 9.5
    kept = [line for ax in figure.axes for line in ax.lines if line.get_label() == "kept epoch"]
    assert [line.get_xdata()[0] for line in kept] == [3, 3, 3]
    guess = [line for line in figure.axes[0].lines if line.get_label() == "only guessing"]
    assert guess[0].get_ydata()[0] == pytest.approx(np.log(2))


def test_head_motion_shades_the_bolus_and_leaves_gaps():
    parameters = np.random.default_rng(0).normal(0, 1, (30, 6))
    parameters[7] = np.nan
    times_s, far = np.arange(30) * 2.2, np.abs(parameters).sum(axis=1)
    figure = plots.head_motion(times_s, parameters, far, bolus_s=(20.0, 40.0))
    assert draw(figure) <= 9.5
    assert [len(ax.lines) for ax in figure.axes] == [3, 3, 1]
    assert "shift [mm]" in labels_of(figure)[0] and "turn [degrees]" in labels_of(figure)[1]
    np.testing.assert_array_equal(figure.axes[1].lines[2].get_ydata(), parameters[:, 5])
    for ax in figure.axes:
        span = ax.patches[0].get_extents().transformed(ax.transData.inverted())
        assert (span.x0, span.x1) == pytest.approx((20.0, 40.0))
    assert not plots.head_motion(times_s, parameters, far).axes[0].patches
    with pytest.raises(ValueError, match="expected"):
        plots.head_motion(times_s, parameters[:9], far)


def test_agreement_names_bias_and_unit(volume):
    figure = plots.agreement(volume, volume + 1.25, "Tmax")
    assert draw(figure) <= 9.5
    assert "bias +1.25 s" in [t.get_text() for t in figure.axes[1].get_legend().texts]
    with pytest.raises(ValueError, match="expected equal"):
        plots.agreement(volume, volume[0], "Tmax")


def test_show_source_is_a_highlighted_block_of_the_real_source():
    text = plots.show_source(plots.show_source).data
    assert text.startswith("````python\ndef show_source(")
    assert text.endswith("````")


def test_scroller_carries_its_frames_and_needs_nothing_else(volume):
    labels = [f"{k} <s>" for k in range(5)]
    text = plots.scroller(volume, labels, 'a "brain"', caption="A & B", start=2).data
    (image,) = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    stacked = plt.imread(io.BytesIO(base64.b64decode(image)))[..., 0]
    assert stacked.shape == (5 * 20, 16)
    np.testing.assert_allclose(
        np.corrcoef(stacked[20:40].ravel(), volume[1, ::-1].ravel())[0, 1], 1, atol=1e-3
    )
    (told,) = re.findall(r'data-labels="([^"]+)"', text)
    assert json.loads(html.unescape(told)) == labels
    assert 'value="2"' in text and 'max="4"' in text and "translateY(-40.0%)" in text
    assert "http" not in text and "<script" not in text
    assert "a &quot;brain&quot;" in text and "A &amp; B" in text


@pytest.mark.parametrize("wrong", [{"frames": np.ones((4, 4))}, {"labels": ["a"]}, {"start": 5}])
def test_scroller_says_what_is_wrong(volume, wrong):
    given = {"frames": volume, "labels": list("abcde"), "alt": "brain", "start": 0} | wrong
    with pytest.raises(ValueError, match=r"expected \(N, H, W\)"):
        plots.scroller(**given)


def test_ranges_show_every_patient_and_the_published_band():
    values = {
        "width [s]": {"acute": np.arange(6.0), "chronic": np.array([])},
        "drop [%]": {"a": [1]},
    }
    figure = plots.ranges(values, {"width [s]": (2.0, 3.0, 4.0)})
    assert draw(figure) <= 9.5
    dots = figure.axes[0].lines[1].get_xdata()
    np.testing.assert_array_equal(dots, np.arange(6.0))
    assert figure.axes[0].patches[0].get_x() == 2.0
    assert not figure.axes[1].patches
    with pytest.raises(ValueError, match="height"):
        plots.ranges(values, {"height [m]": (1.0, 2.0)})


def test_skill_dots_leave_out_what_has_no_skill():
    head = dict(cohort="acute", against="truth", measure="MAE_physical", low=0.2, high=0.6)
    rows = [dict(head, map=m, model="pix2pix", skill=s) for m, s in (("CBF", 0.4), ("TTP", np.nan))]
    figure = plots.skill_dots(pd.DataFrame(rows))
    draw(figure)
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["CBF", "TTP"]
    assert ax.containers[0].lines[0].get_xdata()[0] == 0.4
    with pytest.raises(ValueError, match="no skill to draw"):
        plots.skill_dots(pd.DataFrame(rows)[:0])


def test_map_strip_draws_every_slice_once_in_the_range_of_the_map(volume):
    images = {f"epoch {k}\nMAE {k}": volume[k % 5] for k in range(8)}
    figure = plots.map_strip(images, "Tmax", volume[0] > 1)
    assert draw(figure) <= 9.5
    assert len(images_of(figure)) == 8
    drawn = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in drawn] == list(images)
    assert all(ax.images[0].get_clim() == maps.MAPS["Tmax"].display for ax in drawn)
    with pytest.raises(ValueError, match="images is empty"):
        plots.map_strip({}, "Tmax")
