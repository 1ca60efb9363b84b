"""The two generated pages of the book: every run of a study, and how the book was made."""

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
from pages import Page

from perfnb import plots

PACKAGES = (
    "jupyter-book", "matplotlib", "nibabel", "nilearn", "numpy", "pandas",
    "papermill", "safetensors", "scikit-image", "scipy", "snakemake", "torch",
)  # fmt: skip
SCORES = {
    "SSIM, slice": {"region": "slice", "measure": "SSIM"},
    "SSIM, tissue": {"region": "tissue", "measure": "SSIM"},
    "MAE, tissue": {"region": "tissue", "measure": "MAE_physical"},
}
NOTHING = "–"
TRAINING = ("05_train", "06_finetune")


def runs_page(pages: list[Page], study: str, home: Path) -> str:
    """Write the page of all runs: one row per trained model, with links to its executed chapters.

    Parameters
    ----------
    pages : list of Page
        From `pages.plan`.
    study : str
        Name of the study.
    home : Path
        Folder with `runs/<study>/<cohort>/<model>-<map>`.

    Returns
    -------
    str
        MyST Markdown.
    """
    trained = [p for p in pages if p.chapter in TRAINING]
    evaluated = {_key(p): p for p in pages if p.chapter == "07_evaluate"}
    told, rows = skills(home / "results" / study), []
    for page in trained:
        folder = home.joinpath("runs", study, page.cohort, f"{page.model_name}-{page.map_name}")
        row = {"cohort": page.cohort, "map": page.map_name, "model": page.model_name}
        row |= training_facts(folder) | {"curve": _curve_cell(folder, page)}
        row |= scores(folder, page.model_name) | {"skill": told.get(_key(page), NOTHING)}
        row["chapters"] = f"[run](../{page.docname}.ipynb)"
        if _key(page) in evaluated:
            row["chapters"] += f", [scores](../{evaluated[_key(page)].docname}.ipynb)"
        rows.append(row)
    prepared = [f"[{p.cohort}](../{p.docname}.ipynb)" for p in pages if p.chapter == "04_prepare"]
    return RUNS_TEXT.format(study=study, table=markdown_table(rows), prepared=", ".join(prepared))


def _key(page: Page) -> tuple:
    return page.cohort, page.model_name, page.map_name


def write_curves(pages: list[Page], study: str, home: Path, folder: Path) -> list[Path]:
    """Draw the validation error of every training as a picture the size of a line of text.

    Parameters
    ----------
    pages, study, home
        As in `runs_page`.
    folder : Path
        Where the pictures go, `<execution>.png`; made if missing.

    Returns
    -------
    list of Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for page in pages:
        run = home.joinpath("runs", study, page.cohort or "", f"{page.model_name}-{page.map_name}")
        history = _history(run) if page.chapter in TRAINING else None
        if history is not None:
            best = _read_json(run / "training.json").get("best_epoch")
            written.append(folder / f"{page.execution}.png")
            figure = plots.sparkline(history["epoch"], history["validation_mae"], best)
            figure.savefig(written[-1], dpi=200, transparent=True)
    return written


def _history(folder: Path):
    """Validation error of every epoch; None where a training left none."""
    path = folder / "history.csv"
    history = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    return history if {"epoch", "validation_mae"} <= set(history) else None


def _curve_cell(folder: Path, page: Page) -> str:
    """The picture of a training, as Markdown, with the words that describe it."""
    history = _history(folder)
    if history is None:
        return NOTHING
    error = history["validation_mae"]
    alt = (
        f"validation error over {len(error)} epochs, from {error.iloc[0]:.3f} to {error.min():.3f}"
    )
    return f"![{alt}](curves/{page.execution}.png){{width=90px}}"


def skills(results: Path) -> dict[tuple, str]:
    """Read the skill of each model in tissue, mean absolute error against the reference."""
    path = results / "skill.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path)
    table = table[(table["against"] == "reference") & (table["measure"] == "MAE_physical")]
    return {
        (row["cohort"], row["model"], row["map"]): f"{row['skill']:.2f}"
        for _, row in table.dropna(subset="skill").iterrows()
    }


def training_facts(folder: Path) -> dict[str, str]:
    """Read what a run folder says about its training; a dash where it says nothing."""
    facts = dict.fromkeys(("epochs (best)", "plateau", "seconds"), NOTHING)
    summary = _read_json(folder / "training.json")
    if summary:
        facts["epochs (best)"] = f"{summary['epochs']} ({summary['best_epoch']})"
        facts["plateau"] = "yes" if summary["plateau_reached"] else "no"
    if (folder / "history.csv").is_file():
        facts["seconds"] = f"{pd.read_csv(folder / 'history.csv')['seconds'].sum():.0f}"
    return facts


def scores(folder: Path, model_name: str) -> dict[str, str]:
    """Average the key scores of one evaluation over its patients."""
    found = dict.fromkeys(SCORES, NOTHING)
    path = folder / "evaluation" / "metrics.csv"
    if not path.is_file():
        return found
    table = pd.read_csv(path)
    for name, wanted in SCORES.items():
        wanted = {"model": model_name, "against": "reference", **wanted}
        rows = table[(table[list(wanted)] == list(wanted.values())).all(axis=1)]
        if len(rows):
            mean = rows["value"].mean()
            is_physical = wanted["measure"] == "MAE_physical"
            found[name] = f"{mean:.2f} {rows['unit'].iloc[0]}" if is_physical else f"{mean:.3f}"
    return found


def seconds_table(executed: dict) -> str:
    """Write the seconds of each chapter that the book shows, for whoever plans a lecture."""
    rows = [
        {
            "chapter": f"[{page.chapter}](../{page.docname}.ipynb)",
            "of": ", ".join(n for n in (page.cohort, page.map_name, page.model_name) if n),
            "seconds": _seconds(notebook.metadata.get("papermill", {})),
        }
        for page, notebook in executed.items()
        if page.is_shown
    ]
    return markdown_table(rows)


def build_page(executed: dict, study: str, home: Path, project: Path) -> str:
    """Write the page that says how the book was made.

    Parameters
    ----------
    executed : dict of Page to notebook
        Every executed chapter; papermill's metadata holds its seconds.
    study : str
        Name of the study.
    home, project : Path
        Folder with the results; folder with the repository, for the git revision.

    Returns
    -------
    str
        MyST Markdown.
    """
    times = {page: notebook.metadata.get("papermill", {}) for page, notebook in executed.items()}
    rows = [
        {
            "chapter": f"[{page.chapter}](../{page.docname}.ipynb)",
            "cohort": page.cohort or "",
            "map": page.map_name or "",
            "model": page.model_name or "",
            "seconds": _seconds(told),
            "executed": str(told.get("start_time") or NOTHING)[:16].replace("T", " "),
        }
        for page, told in times.items()
    ]
    total = sum(told.get("duration") or 0.0 for told in times.values())
    facts = {
        "study": study,
        "perfnb": _version("perfnb"),
        "git revision": git_revision(project),
        "built": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": ", ".join(devices(home / "runs" / study)) or NOTHING,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "executed chapters": str(len(rows)),
        "seconds of all chapters": f"{total:.0f}",
    }
    packages = [{"package": name, "version": _version(name)} for name in PACKAGES]
    return BUILD_TEXT.format(
        facts=markdown_table([{"what": k, "value": v} for k, v in facts.items()]),
        chapters=markdown_table(rows),
        packages=markdown_table(packages),
    )


def devices(folder: Path) -> list[str]:
    """Collect the devices named by the manifests below a folder."""
    manifests = (_read_json(path) for path in sorted(folder.rglob("manifest.json")))
    return sorted({m["device"] for m in manifests if m.get("device")})


def git_revision(project: Path) -> str:
    """Name the commit, marked when files were changed since; say so where there is no git."""
    command = ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "not known"
    return told.stdout.strip() or "not known"


def markdown_table(rows: list[dict]) -> str:
    """Write rows with equal keys as a Markdown table."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(row[name]) for name in head) + " |" for row in rows]
    return "\n".join(lines)


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NOTHING


def _seconds(told: dict) -> str:
    duration = told.get("duration")
    return NOTHING if duration is None else f"{duration:.1f}"


RUNS_TEXT = """\
(runs)=
# Every run of this study

This page is written when the book is built.
It lists every model of study `{study}`.
The chapters before this page show one model.
The links lead to the same chapters, run for the others.

:::{{container}} one-line-cells
{table}
:::

*Epochs* are passes over the training slices.
The *best* one, in brackets, is the one whose weights were kept.
*Plateau* says whether the validation error stopped falling before the allowed epochs were used up.
*Seconds* is training time.
*Curve* is the error of the validation patients over the epochs, the dot the kept one.
Scores are means over the test patients, against the reference maps.
*SSIM, slice* is measured as in the paper: whole slices scaled to [-1, 1], background included.
*SSIM, tissue* and *MAE, tissue* count only grey and white matter.
*Skill* puts that MAE between the constant (0) and the noise-free teacher (1).
A dash stands where it has none: see [](../notebooks/08_compare.ipynb).

Preparation of the cohorts: {prepared}.
"""

BUILD_TEXT = """\
(build-information)=
# Build information

This page is written when the book is built.

{facts}

## Seconds of every chapter

{chapters}

## Packages

{packages}
"""
