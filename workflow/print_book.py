"""Set the book of one study with LaTeX: every chapter once, interactive figures as stills.

    python workflow/print_book.py --study small

Reads `<home>/results/<study>/chapters` and writes `<home>/_build/<study>/perfnb-<study>.pdf`.
"""

import argparse
import base64
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from bs4 import BeautifulSoup
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))

from links import unlink_missing  # noqa: E402
from paper_tables import fill_cells, to_markdown  # noqa: E402
from stage_book import PROJECT, stage  # noqa: E402
from stills import is_interactive, still  # noqa: E402

from perfnb.notebook import nbformat  # noqa: E402

PROGRAMS = ("latexmk", "xelatex", "makeindex", "rsvg-convert")
FILES = (
    "fncychap.sty",
    "titlesec.sty",
    "FreeSerif.otf",
    "DejaVuSansMono.ttf",
)  # of packages that no program tells
PACKAGES = (
    "latexmk texlive-xetex texlive-latex-recommended texlive-latex-extra "
    "texlive-fonts-recommended fonts-freefont-otf fonts-dejavu-core librsvg2-bin"
)
# Jupyter Book loads bbm for its double-stroke letters; Debian has it only in a very large package.
BBM = r"\ProvidesPackage{bbm}\RequirePackage{amssymb}\newcommand{\mathbbm}[1]{\mathbb{#1}}" + "\n"
MOVES = "The sliders of this figure work in the HTML book."
SCREEN_ONLY = ("genindex",)  # LaTeX makes an index of its own
OPENING = r"""

```{raw} latex
\chapter{%s}
```
"""
PREAMBLE = r"""
\usepackage{etoolbox}
\AtBeginEnvironment{tabulary}{\footnotesize\setlength{\tabcolsep}{4pt}}
\AtBeginEnvironment{tabular}{\footnotesize}
\AtBeginEnvironment{longtable}{\fontsize{7.5}{9}\selectfont\setlength{\tabcolsep}{2.9pt}}
\fvset{fontsize=\footnotesize}
\emergencystretch=3em
\AtBeginDocument{\setlength{\tymin}{36pt}}
\newcolumntype{T}{L}
\newcolumntype{\X}[2]{>{\raggedright\arraybackslash}p{\dimexpr\linewidth*#1/#2-2\tabcolsep\relax}}
\setcounter{tocdepth}{1}
\setcounter{secnumdepth}{-1}
\setmonofont{DejaVu Sans Mono}[Scale=0.82]
"""


def missing() -> list[str]:
    """Return the programs and files of LaTeX that this machine lacks."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if shutil.which("kpsewhich") is None:
        return absent
    found = [name for name in FILES if not _find(name)]
    return absent + found


def _find(name: str) -> bool:
    """Tell whether TeX, or the system's fonts, have a file."""
    if subprocess.run(["kpsewhich", name], capture_output=True).returncode == 0:
        return True
    listed = subprocess.run(["fc-list", "--format=%{file}\n"], capture_output=True, text=True)
    return any(line.endswith(f"/{name}") for line in listed.stdout.splitlines())


def print_source(study: str, home: Path, source: Path) -> None:
    """Stage the book for paper: no run pages, stills for sliders, tables that LaTeX knows.

    Parameters
    ----------
    study : str
        A file in `workflow/studies`.
    home, source : Path
        Folder with the results; folder to write.

    Raises
    ------
    ValueError, FileNotFoundError
        As `stage_book.stage`.
    """
    stage(study, home, source)
    settings = source / "_toc.yml"
    toc = yaml.safe_load(settings.read_text(encoding="utf-8"))
    for part in toc["parts"]:
        part["chapters"] = [e for e in part["chapters"] if e["file"] not in SCREEN_ONLY]
        for entry in part["chapters"]:
            entry.pop("sections", None)
    settings.write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
    kept = [toc["root"], *(e["file"] for part in toc["parts"] for e in part["chapters"])]
    for path in [*(source / "notebooks").glob("*.ipynb"), source / "genindex.md"]:
        if path.relative_to(source).with_suffix("").as_posix() not in kept:
            path.unlink()
    for path in (source / "notebooks").glob("*.ipynb"):
        nbformat.write(to_paper(nbformat.read(path, as_version=4)), path)
    for path in (source / "book").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        path.write_text(_prose_to_paper(text), encoding="utf-8")
    unlink_missing(source, kept)
    for path in (source / "book" / "images").glob("*.svg"):
        drawn = ["rsvg-convert", "--format=pdf", f"--output={path.with_suffix('.pdf')}", str(path)]
        subprocess.run(drawn, check=True)
    _configure(source, study)


def to_paper(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Replace what only a screen can show in an executed chapter."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        options = cell.metadata.setdefault("mystnb", {})
        is_moving = any(is_interactive(output) for output in cell.outputs)
        cell.outputs = [_output_to_paper(output, options) for output in cell.outputs]
        pictures = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
        if pictures:
            width = _width(base64.b64decode(pictures[0]), is_moving)
            options["image"] = options.get("image", {}) | {"width": f"{width:.0f}%"}
        tags = cell.metadata.get("tags", [])
        if "hide-output" in tags:
            cell.outputs = []
        if "hide-input" in tags:
            cell.metadata["tags"] = [*tags, "remove-input"]
    return notebook


def _output_to_paper(output, options: dict):
    """Make one output a picture, a table or text."""
    if "text/html" not in output.get("data", {}):
        return output
    if is_interactive(output):
        one = still(output, options)
        output.data = {"image/png": base64.b64encode(one.png).decode(), "text/plain": one.alt}
        caption = " ".join(part for part in (one.caption or one.alt, MOVES) if part)
        options["figure"] = {"caption": caption}
        return output
    table = BeautifulSoup(str(output.data["text/html"]), "html.parser").find("table")
    if table is not None:
        output.data = {"text/markdown": to_markdown(table), "text/plain": ""}
    return output


def _width(png: bytes, is_moving: bool) -> float:
    """Percentage of the line that a picture takes, so that its caption fits on the page too."""
    width, height = Image.open(io.BytesIO(png)).size
    if height < 0.8 * width:
        return 100
    return 55 if is_moving else min(100, 105 * width / height)


def _prose_to_paper(text: str) -> str:
    """Point diagrams at their PDF twins, and drop the download of a zip file."""
    text = re.sub(r"(\{figure\} images/[\w-]+)\.svg", r"\1.pdf", text)
    text = re.sub(r"\{download\}`([^`<]+?)\s*<[^`>]+>`", r"\1", text)
    if "(intro)=" in text:  # LaTeX makes the first page's title that of the book, and drops it here
        text = re.sub(r"(?m)^# (.*)$", lambda title: title[0] + OPENING % title[1], text, count=1)
    return fill_cells(text)


def _configure(source: Path, study: str) -> None:
    """Add LaTeX's settings to _config.yml."""
    path = source / "_config.yml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["latex"] = {
        "latex_engine": "xelatex",
        "latex_documents": {"targetname": "book.tex", "title": f"{config['title']}: study {study}"},
    }
    config["sphinx"]["config"] |= {
        "today": "Simulated patients. Not for clinical use.",  # where LaTeX prints a date
        "numfig_secnum_depth": 0,
        "latex_show_urls": "no",
        "latex_use_xindy": False,
        "latex_elements": {
            "papersize": "a4paper",
            "pointsize": "10pt",
            "preamble": PREAMBLE,
            "figure_align": "H",
            "extraclassoptions": "openany,oneside",
        },
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def build(source: Path, pdf: Path) -> None:
    """Write LaTeX with warnings as errors, set it, and move the PDF to its place.

    Raises
    ------
    subprocess.CalledProcessError
        Jupyter Book or LaTeX found something wrong; its own words are on the screen.
    """
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", ".", "--builder", "latex"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([*command, "-W", "--keep-going"], cwd=source, check=True, env=environment)
    folder = source / "_build" / "latex"
    (folder / "bbm.sty").write_text(BBM, encoding="utf-8")
    latex = ["latexmk", "-xelatex", "-interaction=nonstopmode", "-halt-on-error", "book.tex"]
    with (folder / "screen.txt").open("w", encoding="utf-8") as screen:
        done = subprocess.run(latex, cwd=folder, stdout=screen, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = (folder / "screen.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        sys.stderr.write("\n".join(lines[-30:]) + "\n")
        raise subprocess.CalledProcessError(done.returncode, latex)
    shutil.move(folder / "book.pdf", pdf)


def main(arguments: list[str] | None = None) -> int:
    """Command line: one line says where the PDF is, or what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="small", help="a file in workflow/studies")
    home = os.environ.get("PERFNB_HOME") or PROJECT
    parser.add_argument("--home", type=Path, default=home, help="folder with runs and results")
    parser.add_argument("--check", action="store_true", help="only look whether LaTeX is there")
    options = parser.parse_args(arguments)
    absent = missing()
    if absent:
        sys.stderr.write(
            f"The PDF needs LaTeX; not found: {', '.join(absent)}.\n"
            f"On Debian and Ubuntu: sudo apt-get install {PACKAGES}\n"
        )
        return 2
    if options.check:
        return 0
    out = options.home.resolve() / "_build" / options.study
    pdf = out / f"perfnb-{options.study}.pdf"
    try:
        print_source(options.study, options.home.resolve(), out / "paper")
        build(out / "paper", pdf)
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{error.cmd[0]} found something wrong: exit {error.returncode}.\n")
        return error.returncode
    sys.stdout.write(f"The book is at {pdf}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
