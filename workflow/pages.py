"""Executed chapters turned into book pages: which are shown, and what is changed on the way."""

import ast
import re
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from perfnb.notebook import nbformat

VERBS = {
    "04_prepare": "Prepare",
    "05_train": "Train",
    "06_finetune": "Fine-tune",
    "07_evaluate": "Evaluate",
}
ALONE = ("01_bolus", "02_deconvolution", "11_phantom", "03_pix2pix")  # run once a study
LAST = ("08_compare", "09_worst_cases", "10_no_aif")  # run once, over all models
FENCE = re.compile(r"^\s*(`{3,}|:{3,})\s*(\{[\w-]+\})?")
HEADING = re.compile(r"^(#+)\s+(.*)")
INDEX = re.compile(r"^```\{index\}.*?^```\n*", re.MULTILINE | re.DOTALL)
EXERCISES = re.compile(r"^exercises?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """One executed chapter: what was run, and whether it is the one that the book reads aloud."""

    chapter: str
    cohort: str | None = None
    model_name: str | None = None
    map_name: str | None = None
    is_shown: bool = False

    @property
    def execution(self) -> str:
        """File name of the execution, without its suffix."""
        parts = (self.chapter, self.cohort, self.model_name, self.map_name)
        return "--".join(part for part in parts if part)

    @property
    def docname(self) -> str:
        """Page in the book, without its suffix."""
        return f"notebooks/{self.chapter if self.is_shown else self.execution}"

    @property
    def title(self) -> str:
        """Title of a page behind the run table."""
        parts = (self.cohort, self.model_name, self.map_name)
        return f"{VERBS.get(self.chapter, self.chapter)}: {', '.join(p for p in parts if p)}"


def plan(matrix: dict) -> list[Page]:
    """List every execution of a study; one of each chapter is shown in the chapter's own place.

    Parameters
    ----------
    matrix : dict
        `cohorts`, `maps` and `models` of the study file; models of the chronic cohort are
        fine-tuned, the others trained from scratch.

    Returns
    -------
    list of Page
        In reading order.
    """
    cohorts, models, maps = matrix["cohorts"], matrix["models"], matrix["maps"]
    first, shown_cohorts = cohorts[0], cohorts[:2]
    model = "temp-pix2pix" if "temp-pix2pix" in models else models[-1]
    shown_map = "Tmax" if "Tmax" in maps else maps[0]
    trained = [(c, m, n) for c in cohorts for n in maps for m in models]
    pages = [Page(name, is_shown=True) for name in ALONE]
    pages += [Page("04_prepare", cohort, is_shown=cohort == first) for cohort in cohorts]
    for cohort, name, map_name in trained:
        chapter = "05_train" if cohort == first else "06_finetune"
        is_shown = (name, map_name) == (model, shown_map) and cohort in shown_cohorts
        pages.append(Page(chapter, cohort, name, map_name, is_shown))
    for cohort, name, map_name in trained:
        is_shown = (cohort, name, map_name) == (first, model, shown_map)
        pages.append(Page("07_evaluate", cohort, name, map_name, is_shown))
    return [*pages, *(Page(name, is_shown=True) for name in LAST)]


def read_execution(path: Path, command: str) -> nbformat.NotebookNode:
    """Read an executed chapter; refuse one that is missing, failed or was never run."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run {command}, which executes this chapter.")
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    outputs = [output for cell in code for output in cell.outputs]
    if any(output.output_type == "error" for output in outputs):
        raise ValueError(f"{path} holds an error: remove it and run {command} again.")
    if code and not outputs:
        raise ValueError(f"{path} has no outputs, so it was not executed: run {command}.")
    return notebook


def to_page(notebook: nbformat.NotebookNode, page: Page, study: str) -> nbformat.NotebookNode:
    """Make an executed chapter a page: parameters told, figures described, labels unique."""
    names = _names(notebook, page, study)
    notebook.metadata.pop("widgets", None)
    notebook.cells = [_tell_parameters(cell) for cell in notebook.cells]
    if not page.is_shown:
        notebook.cells = _without_exercises(notebook.cells)
        notebook.cells = [_without_labels(cell) for cell in notebook.cells]
        _retitle(notebook, page.title)
    heading = page.title
    notebook.cells = [part for cell in notebook.cells for part in _parted(cell)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = [m.group(2) for m in map(HEADING.match, cell.source.splitlines()) if m]
            heading = headings[-1] if headings else heading
        elif cell.cell_type == "code":
            _describe_figures(cell, heading, names)
    return notebook


def _names(notebook, page: Page, study: str) -> dict[str, str]:
    """Words that a caption may hold in braces: the chapter's parameters, as they were run."""
    tagged = [c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    names = {}
    for node in ast.parse("\n".join(tagged)).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
            names[node.target.id] = node.value.value
    names |= notebook.metadata.get("papermill", {}).get("parameters", {})
    told = {"cohort": page.cohort, "map_name": page.map_name, "model_name": page.model_name}
    names |= {name: value for name, value in told.items() if value} | {"study": study}
    return {name: str(value) for name, value in names.items()}


def _tell_parameters(cell):
    """Replace papermill's injected cell by one sentence that says what was set."""
    if "injected-parameters" not in cell.metadata.get("tags", []):
        return cell
    lines = [line for line in cell.source.splitlines() if line and not line.startswith("#")]
    said = ", ".join(f"`{line}`" for line in lines)
    text = f":::{{note}}\nThis page was run with {said}.\n:::"
    return nbformat.v4.new_markdown_cell(text)


def _retitle(notebook, title: str) -> None:
    """Give the first heading of level one a title of its own."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"^# ", cell.source, re.MULTILINE):
            cell.source = re.sub(r"^# .*$", f"# {title}", cell.source, count=1, flags=re.MULTILINE)
            return


def _without_exercises(cells: list) -> list:
    """Drop the sections called Exercises, with their code cells, up to the next heading."""
    kept, level = [], None
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source, level = _cut_exercises(cell.source, level)
            if cell.source.strip():
                kept.append(cell)
        elif level is None:
            kept.append(cell)
    return kept


def _cut_exercises(text: str, level: int | None) -> tuple[str, int | None]:
    """Cut exercise sections out of one cell; `level` is the open section's, or None."""
    kept, fence = [], None
    for line in text.splitlines():
        opened = FENCE.match(line)
        if fence is not None:
            fence = None if opened and opened.group(1) == fence and not opened.group(2) else fence
        elif opened:
            fence = opened.group(1)
        elif match := HEADING.match(line):
            depth = len(match.group(1))
            if EXERCISES.match(match.group(2)):
                level = depth
            elif level is not None and depth <= level:
                level = None
        if level is None:
            kept.append(line)
    return "\n".join(kept), level


def _without_labels(cell):
    """Remove every label and index entry: the chapter shown in the book keeps them."""
    if cell.cell_type == "markdown":
        cell.source = INDEX.sub("", cell.source)
        cell.source = re.sub(r"^\([\w:.-]+\)=\s*$", "", cell.source, flags=re.MULTILINE)
        cell.source = re.sub(r"^:(label|name):.*\n", "", cell.source, flags=re.MULTILINE)
        cell.source = re.sub(r"^\$\$[ \t]*\([\w:.-]+\)", "$$", cell.source, flags=re.MULTILINE)
    cell.metadata.get("mystnb", {}).get("figure", {}).pop("name", None)
    return cell


def _describe_figures(cell, heading: str, names: dict[str, str]) -> None:
    """Fill captions and give every picture of a cell its alternative text.

    Beside the chapter's parameters, a caption may name what was given to its picture alone:
    `display(figure, metadata={"image/png": {"cohort": cohort}})`.
    """
    pictures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
    own = pictures[0].get("metadata", {}).get("image/png", {}) if pictures else {}
    names = names | {name: str(value) for name, value in own.items()}
    options = cell.metadata.setdefault("mystnb", {})
    for kind, key in (("figure", "caption"), ("figure", "name"), ("image", "alt")):
        if key in options.get(kind, {}):
            options[kind][key] = _fill(options[kind][key], names)
    if not pictures:
        return
    caption = options.get("figure", {}).get("caption")
    alt = options.setdefault("image", {}).get("alt") or caption or f"Figure: {heading}"
    options["image"]["alt"] = re.sub(r"[*_`$]|\{[\w:-]+\}", "", alt)


def _parted(cell) -> list:
    """Give each figure of a captioned cell a cell of its own, below the cell's tables.

    A caption belongs to one figure and to no table; a label to the first figure.
    """
    is_captioned = cell.cell_type == "code" and "figure" in cell.metadata.get("mystnb", {})
    pictures = [o for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    others = [o for o in cell.get("outputs", []) if o not in pictures]
    if not is_captioned or len(pictures) + bool(others) < 2 or not pictures:
        return [cell]
    told = "# figures of the cell above"  # a cell without source would be dropped
    parts = [nbformat.v4.new_code_cell(told, outputs=[picture]) for picture in pictures]
    for k, part in enumerate(parts):
        part.metadata = deepcopy(cell.metadata) | {"tags": ["remove-input"]}
        if k > 0:
            part.metadata["mystnb"]["figure"].pop("name", None)
    cell.outputs = others
    del cell.metadata["mystnb"]["figure"]
    return [cell, *parts]


def _fill(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text
