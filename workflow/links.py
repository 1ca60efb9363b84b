"""Links in staged pages: those to pages that a study does not have become plain words."""

import re
from collections.abc import Iterable
from pathlib import Path
from posixpath import join, normpath

from perfnb.notebook import nbformat

DOC = re.compile(r"\{doc\}`(?:([^`<]+?)\s*<([^`>]+)>|([^`]+))`")
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:\s]+\.(?:ipynb|md))(?:#[\w-]*)?\)")


def unlink(text: str, folder: str, docnames: Iterable[str]) -> str:
    """Turn links to missing pages into words.

    Parameters
    ----------
    text : str
        MyST Markdown.
    folder : str
        Folder of the page, relative to the source: links are relative to it.
    docnames : strings
        Pages that there are, without suffix.

    Returns
    -------
    str
        A missing chapter is named in code font, unless the link had words of its own.
    """
    known = set(docnames)

    def is_known(target: str) -> bool:
        path = target.lstrip("/") if target.startswith("/") else normpath(join(folder, target))
        return path in known

    def doc(found) -> str:
        words, target = found[1], found[2] or found[3]
        return found[0] if is_known(target) else words or f"`{Path(target).name}`"

    def link(found) -> str:
        target = re.sub(r"\.(ipynb|md)$", "", found[2])
        return found[0] if is_known(target) else found[1] or f"`{Path(target).name}`"

    return LINK.sub(link, DOC.sub(doc, text))


def unlink_missing(source: Path, docnames: Iterable[str]) -> None:
    """Rewrite every staged page, prose and chapters, that links to a page not in `docnames`."""
    docnames = set(docnames)
    for docname in docnames:
        folder = Path(docname).parent.as_posix()
        prose, chapter = (source / f"{docname}{suffix}" for suffix in (".md", ".ipynb"))
        if prose.is_file():
            text = prose.read_text(encoding="utf-8")
            prose.write_text(unlink(text, folder, docnames), encoding="utf-8")
        elif chapter.is_file():
            notebook = nbformat.read(chapter, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "markdown":
                    cell.source = unlink(cell.source, folder, docnames)
            nbformat.write(notebook, chapter)
