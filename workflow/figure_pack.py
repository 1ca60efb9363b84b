"""Pack every figure of the book for slides: PNG and SVG files with their captions, in one zip.

    python workflow/figure_pack.py --study small

Reads `<home>/results/<study>/chapters` and writes `<home>/_build/<study>/figures.zip`.
"""

import argparse
import os
import re
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pages import Page, plan, read_execution, to_page  # noqa: E402
from stills import stills  # noqa: E402

from perfnb import study as studies  # noqa: E402

PROJECT = Path(__file__).resolve().parents[1]
ROLE = re.compile(r"\{[\w:-]+\}")
HEAD = """\
# Figures of the study {study}

Simulated patients. Not for clinical use.
A figure that has sliders in the book is here as it looks at first.
When you show one, name the study: it says how small the networks and how few the patients are.
"""


def write_pack(chapters: dict[Page, object], study: str, path: Path) -> int:
    """Write the figures of the chapters that the book shows, and the drawn diagrams.

    Parameters
    ----------
    chapters : dict of Page to notebook
        Executed chapters as they are staged for the book: captions filled.
    study : str
        Name of the study, for the list of captions.
    path : Path
        The zip file to write.

    Returns
    -------
    int
        Number of figures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines, count = [HEAD.format(study=study)], 0
    with zipfile.ZipFile(path, "w") as pack:  # PNG files don't get smaller
        for page, notebook in chapters.items():
            pictures = stills(notebook) if page.is_shown else []
            lines += [f"\n## Chapter {page.chapter}\n"] if pictures else []
            for k, one in enumerate(pictures, 1):
                name = f"{page.chapter}/{page.chapter}-{k:02}.png"
                pack.writestr(name, one.png)
                words = ROLE.sub("", one.caption or one.alt).replace("`", "")
                lines.append(f"- `{name}`: {words}")
                count += 1
        diagrams = sorted((PROJECT / "book" / "images").glob("*.svg"))
        lines.append("\n## Diagrams\n")
        for picture in diagrams:
            pack.write(picture, f"diagrams/{picture.name}")
            title = re.search(r"<title>(.*?)</title>", picture.read_text(encoding="utf-8"))
            lines.append(f"- `diagrams/{picture.name}`: {title[1]}")
        pack.writestr("captions.md", "\n".join(lines) + "\n")
    return count + len(diagrams)


def main(arguments: list[str] | None = None) -> int:
    """Command line: one line says where the pack is, or what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="small", help="a file in workflow/studies")
    home = os.environ.get("PERFNB_HOME") or PROJECT
    parser.add_argument("--home", type=Path, default=home, help="folder with the results")
    options = parser.parse_args(arguments)
    folder, study = options.home.resolve(), options.study
    source, command = folder / "results" / study / "chapters", f'"make book STUDY={study}"'
    try:
        shown = [p for p in plan(studies.read_study(study)["matrix"]) if p.is_shown]
        executed = {p: read_execution(source / f"{p.execution}.ipynb", command) for p in shown}
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    chapters = {page: to_page(notebook, page, study) for page, notebook in executed.items()}
    path = folder / "_build" / study / "figures.zip"
    count = write_pack(chapters, study, path)
    sys.stdout.write(f"{count} figures with their captions are in {path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
