"""The two generated pages of the book: every run of a study, and how the book was made."""

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
from pages import Page

PACKAGES = (
    "accelerate", "jupyter-book", "matplotlib", "nibabel", "nilearn", "numpy", "pandas",
    "papermill", "safetensors", "scikit-image", "scipy", "snakemake", "statsmodels", "torch",
)  # fmt: skip
SCORES = {
    "SSIM, slice": ("reference", "slice", "SSIM"),
    "SSIM, tissue": ("reference", "tissue", "SSIM"),
    "MAE, tissue": ("reference", "tissue", "MAE"),
}
NOTHING = "–"


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
    trained = [p for p in pages if p.chapter in ("05_train", "06_finetune")]
    evaluated = {_key(p): p for p in pages if p.chapter == "07_evaluate"}
    rows = []
    for page in trained:
        folder = home.joinpath("runs", study, page.cohort, f"{page.model_name}-{page.map_name}")
        row = {"cohort": page.cohort, "model": page.model_name, "map": page.map_name}
        row |= training_facts(folder) | scores(folder, page.model_name)
        row["pages"] = f"[training](../{page.docname}.ipynb)"
        if _key(page) in evaluated:
            row["pages"] += f", [evaluation](../{evaluated[_key(page)].docname}.ipynb)"
        rows.append(row)
    prepared = [f"[{p.cohort}](../{p.docname}.ipynb)" for p in pages if p.chapter == "04_prepare"]
    return RUNS_TEXT.format(study=study, table=markdown_table(rows), prepared=", ".join(prepared))


def _key(page: Page) -> tuple:
    return page.cohort, page.model_name, page.map_name


def training_facts(folder: Path) -> dict[str, str]:
    """Read what a run folder says about its training; a dash where it says nothing."""
    names = ("epochs", "best epoch", "plateau", "seconds")
    facts = dict.fromkeys(names, NOTHING)
    if not (folder / "history.csv").is_file():
        return facts
    history = pd.read_csv(folder / "history.csv")
    best = history["validation_mae"].idxmin()
    facts["epochs"] = str(len(history))
    facts["best epoch"] = str(int(history.loc[best, "epoch"]))
    facts["seconds"] = f"{history['seconds'].sum():.0f}"
    allowed = _read_json(folder / "manifest.json").get("settings", {}).get("epochs")
    if allowed is not None:
        facts["plateau"] = "yes" if len(history) < int(allowed) else "no"
    return facts


def scores(folder: Path, model_name: str) -> dict[str, str]:
    """Average the key scores of one evaluation over its patients."""
    found = dict.fromkeys(SCORES, NOTHING)
    path = folder / "evaluation" / "metrics.csv"
    if not path.is_file():
        return found
    table = pd.read_csv(path)
    table = table[table["model"] == model_name]
    for name, (against, region, measure) in SCORES.items():
        wanted = {"against": against, "region": region, "measure": measure}
        rows = table[(table[list(wanted)] == list(wanted.values())).all(axis=1)]
        if name == "MAE, tissue":
            rows = rows[rows["unit"].astype(str).str.contains("ml|^s$", regex=True)]
        if len(rows):
            unit = str(rows["unit"].iloc[0]) if name == "MAE, tissue" else ""
            found[name] = f"{rows['value'].mean():.3g} {unit}".strip()
    return found


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
            "chapter": f"[{page.execution}](../{page.docname}.ipynb)",
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

{table}

*Epochs* are passes over the training slices, and *best epoch* is the one whose weights were kept.
*Plateau* says whether the validation error stopped falling before the allowed epochs were used up.
*Seconds* is training time.
Scores are means over the test patients, against the reference maps.
*SSIM, slice* is measured as in the paper: whole slices scaled to [-1, 1], background included.
*SSIM, tissue* and *MAE, tissue* count only grey and white matter.

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
