"""What a chapter's code is made of: its notebook and the perfnb modules it imports, all the way.

Snakemake runs a chapter again when one of these files changes, and not when another does.
"""

import ast
import json
from collections.abc import Iterable
from pathlib import Path

PACKAGE = "perfnb"


def sources(root: Path, notebook: Path, without: Iterable[str] = ()) -> list[Path]:
    """List a chapter's notebook and modules.

    Parameters
    ----------
    root : Path
        The project's folder, which holds ``perfnb/``.
    notebook : Path
        The chapter.
    without : iterable of str
        Top modules of perfnb whose change does not concern the chapter's results.

    Returns
    -------
    list of Path
        The notebook first, then its modules in alphabetical order.
    """
    found: set[Path] = set()
    todo = _imports(_code_of(notebook), root, package=[])
    while todo:
        path = todo.pop()
        parts = path.relative_to(root).with_suffix("").parts
        if path in found or parts[1] in without:
            continue
        found.add(path)
        todo |= _imports(path.read_text(encoding="utf-8"), root, package=list(parts[:-1]))
    return [notebook, *sorted(found)]


def _code_of(notebook: Path) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    lines = "\n".join(code).splitlines()
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)


def _imports(code: str, root: Path, package: list[str]) -> set[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            names |= {f"{base}.{alias.name}" for alias in node.names}
    files = {_file_of(name.split("."), root) for name in names if name.split(".")[0] == PACKAGE}
    return {path for path in files if path is not None}


def _file_of(parts: list[str], root: Path) -> Path | None:
    """Find the deepest module that a dotted name reaches; perfnb/__init__ is none."""
    for depth in range(len(parts), 1, -1):
        stem = root.joinpath(*parts[:depth])
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None
