"""What is staged for the book: the plan, the changes on executed chapters, the generated pages."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "workflow"))

import links  # noqa: E402
import pages  # noqa: E402
import report_pages  # noqa: E402
import stage_book  # noqa: E402

MATRIX = {
    "cohorts": ["acute", "chronic"],
    "maps": ["Tmax", "CBF"],
    "models": ["pix2pix", "temp-pix2pix"],
}
RUN = pages.Page("05_train", "acute", "pix2pix", "CBF")
SHOWN = pages.Page("05_train", "acute", "temp-pix2pix", "Tmax", is_shown=True)
PIXEL = "iVBORw0KGgo="  # staging never looks into a picture
EXERCISES = """## Exercises

```{exercise}
:label: ex-1
```

```python
# not a heading
```"""


def executed_notebook():
    """A small executed chapter with one of everything that staging touches."""
    picture = new_output("display_data", data={"image/png": PIXEL})
    figure = {
        "caption": "*Maps* of {map_name}, study {study}, seed {seed}.",
        "name": "fig-{cohort}",
    }
    notebook = new_notebook(
        cells=[
            new_markdown_cell("(train)=\n# Train one map\n\nA question."),
            new_code_cell('study: str = "small"\nseed: int = 7', metadata={"tags": ["parameters"]}),
            new_code_cell(
                '# Parameters\nstudy = "tiny"', metadata={"tags": ["injected-parameters"]}
            ),
            new_markdown_cell("```{index} single\n```\n\n## A figure\n\n$$\nx\n$$ (eq-x)"),
            new_code_cell("plot()", metadata={"mystnb": {"figure": figure}}, outputs=[picture]),
            new_code_cell("plot()", outputs=[picture]),
            new_markdown_cell(EXERCISES),
            new_code_cell("1 + 1"),
            new_markdown_cell("## Next\n\nGo on."),
        ]
    )
    notebook.metadata["papermill"] = {"duration": 3.25, "start_time": "2026-01-02T03:04:05"}
    return notebook


def text_of(notebook):
    return "\n".join(cell.source for cell in notebook.cells)


def test_plan_shows_each_chapter_once_and_names_each_execution_once():
    planned = pages.plan(MATRIX)
    shown = [page.docname for page in planned if page.is_shown]
    chapters = (
        "01_bolus 02_deconvolution 11_phantom 03_pix2pix 04_prepare 05_train 06_finetune "
        "07_evaluate".split()
    )
    chapters += ["08_compare", "09_worst_cases", "10_no_aif"]
    assert shown == [f"notebooks/{chapter}" for chapter in chapters]
    names = [page.execution for page in planned]
    assert len(set(names)) == len(names) == 4 + 2 + 8 + 8 + 3
    assert "06_finetune--chronic--pix2pix--CBF" in names


def test_plan_shows_the_temporal_model_of_tmax_in_the_acute_cohort():
    shown = {page.chapter: page for page in pages.plan(MATRIX) if page.is_shown}
    for chapter, cohort in (("05_train", "acute"), ("06_finetune", "chronic")):
        expected = (cohort, "temp-pix2pix", "Tmax")
        page = shown[chapter]
        assert (page.cohort, page.model_name, page.map_name) == expected


def test_plan_of_one_cohort_has_no_fine_tuning():
    planned = pages.plan(MATRIX | {"cohorts": ["acute"]})
    assert not [page for page in planned if page.chapter == "06_finetune"]


def test_shown_chapter_keeps_labels_exercises_and_title():
    text = text_of(pages.to_page(executed_notebook(), SHOWN, "tiny"))
    for kept in ("{index}", "(train)=", "# Train one map", ":label: ex-1", "$$ (eq-x)"):
        assert kept in text


def test_run_page_has_its_own_title_and_no_label_or_exercise():
    notebook = pages.to_page(executed_notebook(), RUN, "tiny")
    text = text_of(notebook)
    assert text.strip().startswith("# Train: acute, pix2pix, CBF")
    for gone in (
        "{index}",
        "single",
        "(train)=",
        "Exercises",
        "ex-1",
        "(eq-x)",
        "1 + 1",
        "not a heading",
    ):
        assert gone not in text
    assert "## Next" in text
    assert not [
        c for c in notebook.cells if "name" in c.metadata.get("mystnb", {}).get("figure", {})
    ]


def test_injected_parameters_are_told_and_not_shown_as_code():
    notebook = pages.to_page(executed_notebook(), SHOWN, "tiny")
    told = [cell for cell in notebook.cells if 'study = "tiny"' in cell.source]
    assert [cell.cell_type for cell in told] == ["markdown"]


def test_captions_name_the_study_and_every_figure_has_alternative_text():
    notebook = pages.to_page(executed_notebook(), SHOWN, "tiny")
    figures = [cell.metadata["mystnb"] for cell in notebook.cells if cell.source == "plot()"]
    assert figures[0]["figure"] == {
        "caption": "*Maps* of Tmax, study tiny, seed 7.",
        "name": "fig-acute",
    }
    assert figures[0]["image"]["alt"] == "Maps of Tmax, study tiny, seed 7."
    assert figures[1]["image"]["alt"] == "Figure: A figure"


def test_a_caption_stands_below_the_figure_and_not_below_the_table_of_its_cell():
    notebook = executed_notebook()
    cell = next(c for c in notebook.cells if "figure" in c.metadata.get("mystnb", {}))
    cell.outputs.insert(0, new_output("display_data", data={"text/html": "<table></table>"}))
    cells = pages.to_page(notebook, SHOWN, "tiny").cells
    place = next(i for i, c in enumerate(cells) if c.source == "plot()")
    table, figure = cells[place : place + 2]
    assert "figure" not in table.metadata["mystnb"] and "text/html" in table.outputs[0].data
    assert figure.metadata["mystnb"]["figure"]["caption"] and "remove-input" in figure.metadata.tags
    assert figure.source and ["image/png"] == [k for out in figure.outputs for k in out.data]


def test_each_figure_of_a_cell_has_its_own_caption_and_the_first_has_the_label():
    notebook = executed_notebook()
    cell = next(c for c in notebook.cells if "figure" in c.metadata.get("mystnb", {}))
    cell.metadata["mystnb"] |= {"figure": {"caption": "{map}, {study}", "name": "maps"}}
    cell.outputs = [
        new_output("display_data", data={"image/png": PIXEL}, metadata={"image/png": {"map": name}})
        for name in ("CBF", "MTT")
    ]
    cells = pages.to_page(notebook, SHOWN, "tiny").cells
    told = [c.metadata["mystnb"] for c in cells if "figure" in c.metadata.get("mystnb", {})]
    assert [one["figure"]["caption"] for one in told] == ["CBF, tiny", "MTT, tiny"]
    assert [one["image"]["alt"] for one in told] == ["CBF, tiny", "MTT, tiny"]
    assert [one["figure"].get("name") for one in told] == ["maps", None]


def test_missing_chapter_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"01_bolus\.ipynb is missing.*make book STUDY=tiny"
    ):
        stage_book.stage("tiny", tmp_path, tmp_path / "source")
    assert not (tmp_path / "source").exists()


def test_unknown_study_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="small"):
        stage_book.stage("tinny", tmp_path, tmp_path / "source")


@pytest.mark.parametrize("fault", ["error", "not executed"])
def test_chapter_that_failed_or_never_ran_is_refused(tmp_path, fault):
    notebook = executed_notebook()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    if fault == "error":
        output = new_output("error", ename="ValueError", evalue="no", traceback=[])
        notebook.cells[1].outputs = [output]
    nbformat.write(notebook, tmp_path / "05_train.ipynb")
    with pytest.raises(ValueError, match=f"05_train.ipynb .*{fault}"):
        pages.read_execution(tmp_path / "05_train.ipynb", "make book")


def test_stage_writes_every_page_of_the_contents(tmp_path):
    chapters = tmp_path / "results" / "tiny" / "chapters"
    chapters.mkdir(parents=True)
    matrix = yaml.safe_load((PROJECT / "workflow/studies/tiny.yml").read_text())["matrix"]
    for page in pages.plan(matrix):
        nbformat.write(executed_notebook(), chapters / f"{page.execution}.ipynb")
    source = tmp_path / "source"
    staged = stage_book.stage("tiny", tmp_path, source)
    toc = yaml.safe_load((source / "_toc.yml").read_text())
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    below = next(entry["sections"] for entry in entries if entry["file"] == "book/runs")
    assert len(below) == len([page for page in staged if not page.is_shown])
    for entry in [*entries, *below]:
        assert list(source.glob(f"{entry['file']}.*")), entry
    assert "tiny" in (source / "_config.yml").read_text()


def test_run_table_has_a_row_per_model_with_scores_and_links(tmp_path):
    folder = tmp_path / "runs" / "tiny" / "acute" / "pix2pix-CBF"
    (folder / "evaluation").mkdir(parents=True)
    summary = {"epochs": 7, "best_epoch": 5, "plateau_reached": True}
    (folder / "training.json").write_text(json.dumps(summary))
    history = {"epoch": [1, 2], "seconds": [1.5, 2.5], "validation_mae": [0.3, 0.2]}
    pd.DataFrame(history).to_csv(folder / "history.csv")
    head = {"cohort": "acute", "model": "pix2pix", "map": "CBF", "against": "reference"}
    skills = [head | {"measure": m, "skill": v} for m, v in (("MAE_physical", 0.31), ("SSIM", 0.9))]
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    pd.DataFrame(skills).to_csv(tmp_path / "results" / "tiny" / "skill.csv")
    row = {"model": "pix2pix", "against": "reference", "region": "tissue"}
    row |= {"measure": "MAE_physical", "unit": "ml/100 g/min"}
    rows = [row | {"value": 4.0}, row | {"value": 5.0}, row | {"model": "constant", "value": 99.0}]
    pd.DataFrame(rows).to_csv(folder / "evaluation" / "metrics.csv")
    text = report_pages.runs_page(pages.plan(MATRIX), "tiny", tmp_path)
    table = [line for line in text.splitlines() if re.match(r"\| (acute|chronic) ", line)]
    assert len(table) == 8
    line = next(line for line in table if "| CBF | pix2pix |" in line)
    assert "| 7 (5) | yes | 4 |" in line
    assert "| 4.50 ml/100 g/min |" in line
    assert "notebooks/07_evaluate--acute--pix2pix--CBF.ipynb" in line
    assert "| 0.31 | [run]" in line and "0.9" not in line
    (drawn,) = report_pages.write_curves(pages.plan(MATRIX), "tiny", tmp_path, tmp_path / "curves")
    assert drawn.stat().st_size > 100 and f"](curves/{drawn.name})" in line
    assert "over 2 epochs, from 0.300 to 0.200" in line


def test_build_page_lists_seconds_study_and_versions(tmp_path):
    text = report_pages.build_page({RUN: executed_notebook()}, "tiny", tmp_path, PROJECT)
    assert "| study | tiny |" in text
    assert "| acute | CBF | pix2pix | 3.2 | 2026-01-02 03:04 |" in text
    assert re.search(r"\| torch \| \d", text)


def test_links_to_pages_that_a_study_lacks_become_words():
    known = ["book/limits", "notebooks/05_train"]
    kept = "{doc}`limits`, {doc}`../notebooks/05_train`, [](../notebooks/05_train.ipynb#x)"
    assert links.unlink(kept, "book", known) == kept
    lost = "{doc}`../notebooks/06_finetune`, {doc}`there <nowhere>`, [run](../notebooks/a--b.ipynb)"
    assert links.unlink(lost, "book", known) == "`06_finetune`, there, run"
    outside = "[paper](https://example.org/a.md)"
    assert links.unlink(outside, "book", known) == outside


def test_seconds_are_told_for_shown_chapters_only():
    text = report_pages.seconds_table({RUN: executed_notebook(), SHOWN: executed_notebook()})
    assert "| acute, Tmax, temp-pix2pix | 3.2 |" in text
    assert "CBF" not in text


def test_git_revision_of_a_plain_folder_is_not_known(tmp_path):
    assert report_pages.git_revision(tmp_path) == "not known"


def test_diagrams_are_what_the_script_draws(tmp_path):
    script = tmp_path / "draw.py"
    script.write_text((PROJECT / "book/images/draw.py").read_text())
    subprocess.run([sys.executable, str(script)], check=True)
    drawn = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert drawn == sorted(path.name for path in (PROJECT / "book/images").glob("*.svg"))
    for name in drawn:
        assert (tmp_path / name).read_text() == (PROJECT / "book/images" / name).read_text()


def test_prose_pages_of_the_contents_exist():
    toc = yaml.safe_load((PROJECT / "_toc.yml").read_text())
    files = [toc["root"], *(e["file"] for part in toc["parts"] for e in part["chapters"])]
    generated = {"book/runs", "book/build", "genindex"}
    prose = [name for name in files if name.startswith("book/") and name not in generated]
    assert all((PROJECT / f"{name}.md").is_file() for name in prose)
