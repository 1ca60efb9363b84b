"""The book on paper and on slides: stills of moving figures, tables, and what to install."""

import base64
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from perfnb import plots

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "workflow"))

import paper_tables  # noqa: E402
import print_book  # noqa: E402
import stills  # noqa: E402

TABLE = """<table><thead><tr><th></th><th></th><th colspan="2">error</th></tr>
<tr><th>map</th><th>model</th><th>low</th><th>low</th></tr></thead><tbody>
<tr><th rowspan="2">CBF</th><th>a|b</th><td>1</td><td>2</td></tr>
<tr><th>c</th><td>3</td><td>4</td></tr></tbody></table>"""


def output(text):
    return new_output("execute_result", data={"text/html": text, "text/plain": "x"})


def frames(n):
    """PNG files of one colour each."""
    for k in range(n):
        yield _png(Image.new("RGB", (6, 4), (40 * k, 0, 0)))


def _png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def colour(png):
    return Image.open(io.BytesIO(png)).convert("RGB").getpixel((0, 0))


@pytest.fixture
def slider():
    page = plots.slider(frames(4), {"dose": ("a", "b", "c", "d")}, "A curve", "Dose.", start=(2,))
    return output(page.data)


@pytest.fixture
def scroller():
    stack = np.stack([np.full((4, 6), value) for value in (0.0, 1.0, 2.0)])
    return output(plots.scroller(stack, ["a", "b", "c"], "A film", "Film.", start=2).data)


def test_a_slider_stands_still_where_it_begins(slider):
    one = stills.still(slider, {})
    assert colour(one.png) == (80, 0, 0)
    assert (one.caption, one.alt) == ("Dose.", "A curve; dose c")


def test_a_film_shows_the_frame_where_it_begins(scroller):
    one = stills.still(scroller, {})
    assert colour(one.png) == (255, 255, 255)
    assert (one.caption, one.alt) == ("Film.", "A film")


def test_paper_has_pictures_and_tables_in_place_of_html(slider):
    cells = [new_code_cell("f()", outputs=[one]) for one in (slider, output(TABLE))]
    hidden = new_code_cell("g()", metadata={"tags": ["hide-output"]}, outputs=[output("x")])
    notebook = print_book.to_paper(new_notebook(cells=[*cells, hidden]))
    picture, table = (cell.outputs[0].data for cell in notebook.cells[:2])
    assert colour(base64.b64decode(picture["image/png"])) == (80, 0, 0)
    assert "sliders" in cells[0].metadata["mystnb"]["figure"]["caption"]
    assert table["text/markdown"].splitlines() == [
        "| map | model | error low | error low |",
        "| --- | --- | --- | --- |",
        "| CBF | a\\|b | 1 | 2 |",
        "| CBF | c | 3 | 4 |",
    ]
    assert not notebook.cells[2].outputs


def test_a_table_with_sentences_wraps_and_goes_on_upon_the_next_page():
    rows = "".join(f"<tr><td>F{k}</td><td>{'a word ' * 40}-0.5</td></tr>" for k in range(2))
    html = f"<table><thead><tr><th>no_of</th><th>rule</th></tr></thead>{rows}</table>"
    text = print_book.to_paper(new_notebook(cells=[new_code_cell("f()", outputs=[output(html)])]))
    lines = text.cells[0].outputs[0].data["text/markdown"].splitlines()
    assert lines[:2] == ["```{table}", ":class: longtable"]
    short, long = (int(width) for width in lines[2].removeprefix(":widths: ").split())
    assert 2 < short < long and short + long <= 110
    assert lines[4] == "| no of | rule |" and lines[-2].endswith("word −0.5 |")


def test_without_latex_one_message_names_the_packages(tmp_path):
    command = [sys.executable, "workflow/print_book.py", "--home", str(tmp_path)]
    done = subprocess.run(
        command, cwd=PROJECT, env=os.environ | {"PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "xelatex" in done.stderr and "apt-get install" in done.stderr
    assert all(name in done.stderr for name in print_book.PACKAGES.split())
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_the_packages_are_those_that_the_book_names():
    assert print_book.PACKAGES in (PROJECT / "book" / "running.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rows", ["", f"<tr><td></td><td>{'long words ' * 20}</td></tr>"])
def test_tables_without_rows_or_with_empty_columns_are_printed(rows):
    html = f"<table><thead><tr><th></th><th>reasons</th></tr></thead><tbody>{rows}</tbody></table>"
    printed = paper_tables.to_markdown(BeautifulSoup(html, "html.parser").find("table"))
    assert "reasons" in printed and printed.count("long words") == rows.count("long words")
