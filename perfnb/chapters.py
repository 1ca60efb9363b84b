"""Run one chapter strictly: known parameters only, output written whole or not at all.

``python -m perfnb.chapters run NOTEBOOK OUTPUT [-p NAME VALUE]... [--log FILE]``

The kernel works in the notebook's own folder, as in Jupyter, and ends when this program ends.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import logging
import os
import re
import sys
import tempfile
import threading
import time
import tokenize
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml
from traitlets.config import Config

from perfnb import study

TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict}
ANSI = re.compile(r"\x1b\[[0-9;]*m")
logger = logging.getLogger("papermill")


class ChapterError(RuntimeError):
    """A chapter ran and one of its cells failed."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: annotation = default  # help``."""

    name: str
    annotation: str
    default: object
    help: str

    def accepts(self, value: object) -> bool:
        """Tell whether a value has this parameter's type; the default's type stands in for none."""
        if value is None or self.default is None and not self.annotation:
            return (
                self.default is None or "None" in self.annotation or "Optional" in self.annotation
            )
        return _matches(
            ast.parse(self.annotation or type(self.default).__name__, mode="eval").body, value
        )

    def parse(self, text: str) -> object:
        """Read a command-line value as a JSON or YAML literal, or as text where text is asked for."""
        value = _literal(text)
        if not self.accepts(value) and self.accepts(text):
            return text
        return value

    def __str__(self) -> str:
        kind = f": {self.annotation}" if self.annotation else ""
        return f"{self.name}{kind} = {self.default!r}".ljust(34) + f"  {self.help}"


def _literal(text: str) -> object:
    for read in (json.loads, yaml.safe_load):
        try:
            return read(text)
        except (ValueError, yaml.YAMLError):
            continue
    return text


def _matches(node: ast.expr, value: object) -> bool:
    if isinstance(node, ast.BinOp):
        return _matches(node.left, value) or _matches(node.right, value)
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _matches(ast.parse(node.value, mode="eval").body, value)
        return value is None and node.value is None
    if isinstance(node, ast.Subscript):
        name = getattr(node.value, "id", "")
        return _matches(node.slice if name == "Optional" else node.value, value)
    expected = TYPES.get(getattr(node, "id", ""), object)
    return isinstance(value, expected) and (
        expected in (bool, object) or not isinstance(value, bool)
    )


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Read the parameters that a chapter takes.

    Parameters
    ----------
    notebook : Path
        A chapter; one of its cells is tagged ``parameters`` and holds assignments of literals.

    Returns
    -------
    dict of Parameter
        By name, in the cell's order.

    Raises
    ------
    FileNotFoundError, ValueError
        The notebook is missing, is no notebook, or has no such cell.
    """
    if not notebook.is_file():
        raise FileNotFoundError(f"{notebook} is missing: give the path of a chapter in notebooks/")
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except Exception as error:
        raise ValueError(f"{notebook} is not a Jupyter notebook: {error}") from error
    tagged = [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(
            f"{notebook} has {len(tagged)} cells tagged 'parameters', expected one: "
            "tag the cell that holds the chapter's parameters"
        )
    return {p.name: p for p in _assignments(tagged[0], notebook)}


def _assignments(source: str, notebook: Path) -> list[Parameter]:
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = []
    for node in ast.parse(source).body:
        typed = isinstance(node, ast.AnnAssign)
        target = node.target if typed else node.targets[0] if isinstance(node, ast.Assign) else None
        try:
            name, default = target.id, ast.literal_eval(node.value)
        except (AttributeError, ValueError) as error:
            raise ValueError(
                f"{notebook}: '{ast.unparse(node)}' in the parameters cell is not 'name = literal': "
                "move derived values to the next cell"
            ) from error
        annotation = ast.unparse(node.annotation) if typed else ""
        found.append(Parameter(name, annotation, default, comments.get(node.end_lineno, "")))
    return found


def check_parameters(
    chapter: str, known: dict[str, Parameter], given: dict[str, object]
) -> dict[str, object]:
    """Refuse parameters that the chapter doesn't know and values of the wrong type.

    Parameters
    ----------
    chapter : str
        Name for the messages.
    known : dict of Parameter
        What `read_parameters` found.
    given : dict
        Values by name; a string is read as a literal where the parameter isn't text.

    Returns
    -------
    dict
        The values, each of its parameter's type.

    Raises
    ------
    ValueError
        One message that lists the known parameters, or names the type that was expected.
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        listing = "\n".join(f"  {parameter}" for parameter in known.values())
        raise ValueError(f"{chapter} has no parameter {', '.join(unknown)}. It knows:\n{listing}")
    values = {}
    for name, value in given.items():
        parameter = known[name]
        values[name] = parameter.parse(value) if isinstance(value, str) else value
        if not parameter.accepts(values[name]):
            kind = parameter.annotation or type(parameter.default).__name__
            raise ValueError(
                f"{chapter}: parameter {name} = {values[name]!r} is of type "
                f"{type(values[name]).__name__}, expected {kind}: {parameter.help}"
            )
    return values


def run_chapter(
    notebook: Path, output: Path, parameters: dict[str, object], log: Path | None = None
) -> float:
    """Execute a chapter and keep the executed notebook only if every cell succeeded.

    Parameters
    ----------
    notebook, output : Path
        The chapter, and where its executed form goes (written whole, by rename).
    parameters : dict
        Values by name; see `check_parameters`.
    log : Path, optional
        Progress and printed text go here, and the unfinished notebook lies beside it
        (``.partial.ipynb``); by default beside the output.

    Returns
    -------
    float
        Duration [s].

    Raises
    ------
    ValueError
        The parameters don't fit; nothing was run.
    ChapterError
        A cell failed; the message is the cell's own.
    """
    import papermill

    values = check_parameters(notebook.stem, read_parameters(notebook), parameters)
    log = log or output.with_suffix(".log")
    partial = log.with_suffix(".partial.ipynb")
    for path in (output, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with _logging_to(log), tempfile.TemporaryDirectory(prefix="perfnb-") as sockets:
        try:
            executed = papermill.execute_notebook(
                _literal_path(notebook),
                _literal_path(partial),
                values,
                cwd=notebook.parent,
                progress_bar=False,
                log_output=True,
                start_timeout=300,
                iopub_timeout=120,
                config=_kernel_config(sockets),
            )
        except papermill.PapermillExecutionError as error:
            logger.error(ANSI.sub("", "\n".join(error.traceback)))
            raise _chapter_error(f"{error.ename}: {error.evalue}", partial, log) from error
        except RuntimeError as error:  # the kernel died or never came up
            reason = f"{type(error).__name__}: {error} The computer may have run out of memory."
            raise _chapter_error(reason, partial, log) from error
    executed.metadata.papermill.update(input_path=notebook.name, output_path=output.name)
    with study.write_atomic(output) as temporary:
        nbformat.write(executed, temporary)
    partial.unlink()
    return time.monotonic() - begin


def _kernel_config(folder: str) -> Config:
    """Talk to the kernel through files: kernels that start at once may draw the same port."""
    return Config(KernelManager={"transport": "ipc", "connection_file": f"{folder}/kernel.json"})


def _literal_path(path: Path) -> str:
    """Hide braces from papermill, which would fill them in as parameters."""
    return str(path.absolute()).replace("{", "{{").replace("}", "}}")


def _chapter_error(reason: str, partial: Path, log: Path) -> ChapterError:
    logger.error(reason)
    return ChapterError(
        f"Log: {log}\nNotebook up to the failed cell: {partial}\n{' '.join(reason.split())}"
    )


class _logging_to:
    """Send papermill's progress and the cells' printed text to a file."""

    def __init__(self, path: Path) -> None:
        self.handler = logging.FileHandler(path, mode="w", encoding="utf-8")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))

    def __enter__(self) -> None:
        logger.addHandler(self.handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def __exit__(self, *exception: object) -> None:
        logger.removeHandler(self.handler)
        self.handler.close()


def end_with(parent: int) -> None:
    """End this process, and so its kernel, within a second of its parent's end.

    A killed workflow must not leave chapters behind that go on writing.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(143)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status (1 a chapter failed, 2 it was not started)."""
    parser = argparse.ArgumentParser(prog="python -m perfnb.chapters", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("run", help="execute one chapter")
    command.add_argument("notebook", type=Path)
    command.add_argument("output", type=Path, help="the executed notebook")
    command.add_argument(
        "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
    )
    command.add_argument("--log", type=Path, help="log file (default: beside the output)")
    command.add_argument("--end-with-parent", action="store_true", help="for workflows")
    options = parser.parse_args(arguments)
    if options.end_with_parent:
        end_with(os.getppid())
    try:
        seconds = run_chapter(
            options.notebook, options.output, dict(options.parameters), options.log
        )
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.output.stem}: {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
