"""Sliders: the right frame for each position, words for those who do not see, no network."""

import base64
import io
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from perfnb import plots
from perfnb.plots.interactive import to_png


@pytest.fixture(autouse=True)
def quiet_backend():
    plt.switch_backend("agg")
    with plt.rc_context():
        plots.style()
        yield
    assert not plt.get_fignums()


def picture(red: int, size: tuple[int, int] = (6, 4)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def data_of(page: str) -> dict:
    return json.loads(re.search(r'application/json">(.*?)</script>', page, re.DOTALL)[1])


def red_of(text: str) -> int:
    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB").getpixel((0, 0))[0]


CONTROLS = {"echo <ms>": (10, 20), "dose": ("low", "usual", "high")}


def test_slider_keeps_a_frame_for_each_combination_the_last_running_fastest():
    page = plots.slider([picture(40 * k) for k in range(6)], CONTROLS, "A curve.").data
    data = data_of(page)
    assert data["labels"] == [["10", "20"], ["low", "usual", "high"]]
    assert [red_of(frame) for frame in data["frames"]] == [0, 40, 80, 120, 160, 200]
    assert data["alts"][4] == "A curve; echo <ms> 20, dose usual"


def test_slider_draws_what_a_function_is_asked_for():
    asked = []

    def draw(echo, dose):
        asked.append((echo, dose))
        return picture(len(asked))

    plots.slider(draw, CONTROLS, "A curve")
    assert asked == [(e, d) for e in (10, 20) for d in ("low", "usual", "high")]


def test_first_frame_is_seen_without_javascript_and_described():
    frames = [picture(40 * k) for k in range(6)]
    page = plots.slider(frames, CONTROLS, 'A "curve"', "Below <it>", start=(1, 2)).data
    shown = re.search(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)"', page)
    assert red_of(shown[1]) == 200
    assert shown[2] == "A &quot;curve&quot;; echo &lt;ms&gt; 20, dose high"
    assert re.findall(r'max="(\d)" value="(\d)" aria-valuetext="(\w+)"', page) == [
        ("1", "1", "20"),
        ("2", "2", "high"),
    ]
    assert "<figcaption>Below &lt;it&gt;</figcaption>" in page
    assert re.search(r'<div role="group"[^>]* hidden>', page)  # sliders appear with JavaScript


def test_slider_asks_nobody_and_its_words_cannot_end_its_script():
    page = plots.slider([picture(1)] * 2, {"</script>": ("</script>", "b")}, "</script>").data
    assert "http" not in page and "src=" in page
    assert page.count("</script>") == 2


def test_sliders_of_different_frames_have_different_keys():
    keys = [
        re.search(r'data-slider="(\w+)"', plots.slider([picture(k)], {"a": "b"}, "c").data)[1]
        for k in (1, 2, 1)
    ]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frames": [picture(0)] * 5}, "expected 6"),
        ({"frames": [picture(0)] * 5 + [picture(0, (7, 4))]}, "2 sizes"),
        ({"controls": {}}, "at least one name"),
        ({"controls": {"a": ()}}, "at least one name"),
        ({"alt": " "}, "alt is empty"),
        ({"start": (0, 3)}, "does not fit"),
        ({"start": (0,)}, "does not fit"),
    ],
)
def test_slider_says_what_does_not_fit(change, said):
    given = {"frames": [picture(0)] * 6, "controls": CONTROLS, "alt": "A curve"} | change
    with pytest.raises(ValueError, match=said):
        plots.slider(**given)


def test_frames_of_different_curves_have_one_size_and_few_bytes():
    x = np.arange(40)
    figures = [plots.panels([plots.Panel(x, {"a": k * x}, "a " * k)]) for k in (1, 9)]
    files = [to_png(figure) for figure in figures]
    sizes = {Image.open(io.BytesIO(file)).size for file in files}
    assert len(sizes) == 1
    assert max(len(file) for file in files) < 30_000


def test_panels_give_a_label_one_colour_and_draw_the_truth_dashed():
    x = np.arange(5)
    first = plots.Panel(x, {"truth": x, "SVD": x}, "y", ylim=(-1, 9), marks={"end": 3})
    second = plots.Panel(x, {"other": np.ones((4, 5)), "SVD": x}, "y", is_log=True)
    figure = plots.panels([first, second], angles_rad=[0, 1])
    to_png(figure)
    clock, left, right = figure.axes
    lines = {line.get_label(): line for line in left.lines}
    assert lines["truth"].get_linestyle() == "--"
    assert lines["SVD"].get_color() == right.lines[-1].get_color()
    assert left.get_ylim() == (-1, 9) and right.get_yscale() == "log"
    assert len(right.lines) == 5 and len(clock.lines) == 4
    mean = clock.lines[2].get_xydata()[1]
    np.testing.assert_allclose(mean, [np.sin([0, 1]).mean(), np.cos([0, 1]).mean()])


def test_panels_draw_bands_and_refuse_what_does_not_fit():
    x = np.arange(5)
    band = plots.Panel(x, {"a": np.stack([x, x + 1, x + 2])}, "y", has_bands=True)
    figure = plots.panels([band], legend="below")
    to_png(figure)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), x + 1)
    assert len(figure.axes[0].collections) == len(figure.legends) == 1
    with pytest.raises(ValueError, match="for 5 places"):
        plots.panels([plots.Panel(x, {"a": x[:4]}, "y")])
    with pytest.raises(ValueError, match="at least one Panel"):
        plots.panels([])


def test_tiles_keep_the_range_of_the_map_and_name_every_axis():
    image = np.arange(24.0).reshape(4, 6)
    images = {m: {"truth": image, "SVD": image} for m in ("CBF", "Tmax")}
    figure = plots.tiles(images, (2, 4), (1, 2, 3), ("MTT [s]", "CBV [ml/100 g]"), "All")
    to_png(figure)
    drawn = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in drawn] == ["truth", "SVD", "", ""]
    assert {ax.images[0].get_clim() for ax in drawn} == {(0, 80), (0, 12)}
    assert [tick.get_text() for tick in drawn[2].get_xticklabels()] == ["1", "2", "3"]
    assert drawn[0].get_ylabel() == "MTT [s]" and figure.get_supxlabel() == "CBV [ml/100 g]"
    assert any("ml/100 g/min" in ax.get_ylabel() for ax in figure.axes)
    with pytest.raises(ValueError, match="tiles divide"):
        plots.tiles(images, (1, 2, 3), (1, 2, 3), ("a", "b"))
    with pytest.raises(ValueError, match="same in every map"):
        plots.tiles({"CBF": {"a": image}, "Tmax": {"b": image}}, (1,), (1,), ("a", "b"))
