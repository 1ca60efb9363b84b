"""Stage the book of one study: prose, executed chapters and generated pages; then build it.

    python workflow/stage_book.py --study small

Reads `<home>/results/<study>/chapters` and writes `<home>/_build/<study>/html`.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

from figure_pack import write_pack  # noqa: E402
from links import unlink_missing  # noqa: E402
from pages import Page, plan, read_execution, to_page  # noqa: E402
from report_pages import build_page, runs_page, seconds_table, write_curves  # noqa: E402

from perfnb import study as studies  # noqa: E402
from perfnb.notebook import nbformat  # noqa: E402

PROJECT = Path(__file__).resolve().parents[1]
INDEX = "# Index\n"  # Sphinx fills it; the contents need a file of this name
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".ipynb_checkpoints")


def stage(study: str, home: Path, source: Path) -> list[Page]:
    """Write the book's source folder anew from prose, executed chapters and manifests.

    Parameters
    ----------
    study : str
        A file in `workflow/studies`.
    home : Path
        Folder with `runs` and `results`.
    source : Path
        Folder to write; what was there is removed.

    Returns
    -------
    list of Page
        Every page made from an executed chapter.

    Raises
    ------
    ValueError, FileNotFoundError
        Unknown study; a chapter that was not executed, with the command that executes it.
    """
    pages = plan(studies.read_study(study)["matrix"])
    command = f'"make book STUDY={study}"'
    chapters = home / "results" / study / "chapters"
    executed = {p: read_execution(chapters / f"{p.execution}.ipynb", command) for p in pages}
    generated = {
        "runs.md": runs_page(pages, study, home),
        "build.md": build_page(executed, study, home, PROJECT),
        "seconds.txt": seconds_table(executed),
    }
    shutil.rmtree(source, ignore_errors=True)
    for shown in ("book", "workflow/profiles"):  # a page shows the profile of a cluster
        shutil.copytree(PROJECT / shown, source / shown, ignore=IGNORED)
    (source / "notebooks").mkdir()
    staged = {page: to_page(notebook, page, study) for page, notebook in executed.items()}
    for page, notebook in staged.items():
        nbformat.write(notebook, source / f"{page.docname}.ipynb")
    write_curves(pages, study, home, source / "book" / "curves")
    for name, text in generated.items():
        (source / "book" / name).write_text(text, encoding="utf-8")
    (source / "genindex.md").write_text(INDEX, encoding="utf-8")
    write_pack(staged, study, source / "book" / "figures.zip")
    unlink_missing(source, _write_settings(source, study, pages))
    return pages


def build(source: Path, html: Path) -> Path:
    """Run Jupyter Book with warnings as errors; return the first page of the finished book."""
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", ".", "-W", "--keep-going"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(command, cwd=source, check=True, env=environment)
    shutil.rmtree(html, ignore_errors=True)
    shutil.move(source / "_build" / "html", html)
    return html / "index.html"


def _write_settings(source: Path, study: str, pages: list[Page]) -> list[str]:
    """Write _config.yml with the study's name in its banner, _toc.yml with the run pages.

    Returns every page of the contents.
    """
    config = yaml.safe_load((PROJECT / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"]["html_theme_options"]["announcement"] = (
        f"Study <strong>{study}</strong>. Simulated patients. Not for clinical use."
    )
    toc = yaml.safe_load((PROJECT / "_toc.yml").read_text(encoding="utf-8"))
    hidden = [{"file": page.docname} for page in pages if not page.is_shown]
    for part in toc["parts"]:
        part["chapters"] = [e for e in part["chapters"] if _is_staged(source, e["file"])]
        for entry in part["chapters"]:
            if entry["file"] == "book/runs" and hidden:
                entry["sections"] = hidden
    for name, settings in (("_config.yml", config), ("_toc.yml", toc)):
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (source / name).write_text(text, encoding="utf-8")
    entries = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [toc["root"], *entries, *(page["file"] for page in hidden)]


def _is_staged(source: Path, docname: str) -> bool:
    """Tell whether a page is there; a study of one cohort has no fine-tuning chapter."""
    return any((source / f"{docname}{suffix}").is_file() for suffix in (".md", ".ipynb"))


def main(arguments: list[str] | None = None) -> int:
    """Command line: stage and build; one line says what is wrong, or where the book is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="small", help="a file in workflow/studies")
    home = os.environ.get("PERFNB_HOME") or PROJECT
    parser.add_argument("--home", type=Path, default=home, help="folder with runs and results")
    parser.add_argument("--out", type=Path, help="folder of the book; default HOME/_build/STUDY")
    options = parser.parse_args(arguments)
    home = options.home.resolve()
    out = (options.out or home / "_build" / options.study).resolve()
    try:
        stage(options.study, home, out / "source")
        index = build(out / "source", out / "html")
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(
            f"Jupyter Book found something wrong (see above): exit {error.returncode}.\n"
        )
        return error.returncode
    sys.stdout.write(f"The book is at {index}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
