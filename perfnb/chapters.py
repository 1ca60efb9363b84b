"""Run one chapter strictly: known parameters only, output written whole or not at all.

``python -m perfnb.chapters run NOTEBOOK OUTPUT [-p NAME VALUE]... [--log FILE]``

The kernel works in the notebook's own folder, as in Jupyter, and ends when this program ends.
"""

import argparse
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout
from traitlets.config import Config

from perfnb import files, forkserver
from perfnb import parameters as chapter_parameters
from perfnb import study as studies
from perfnb.maps import spec
from perfnb.notebook import nbformat

ANSI = re.compile(r"\x1b\[[0-9;]*m")
logger = logging.getLogger("papermill")


class ChapterError(RuntimeError):
    """A chapter ran and one of its cells failed."""


def run_chapter(
    notebook: Path, output: Path, parameters: dict[str, object], log: Path | None = None
) -> float:
    """Execute a chapter and keep the executed notebook only if every cell succeeded.

    Parameters
    ----------
    notebook, output : Path
        The chapter, and where its executed form goes (written whole, by rename).
    parameters : dict
        Values by name; see `perfnb.parameters.check`.
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

    known = chapter_parameters.read(notebook)
    values = chapter_parameters.check(notebook.stem, known, parameters)
    _refuse_unknown_names({name: p.default for name, p in known.items()} | values)
    log = log or output.with_suffix(".log")
    partial = log.with_suffix(".partial.ipynb")
    begin = time.monotonic()
    with (
        files.explain_unwritable(log),
        _logging_to(log),
        TemporaryDirectory(prefix=forkserver.scratch_prefix()) as sockets,
    ):
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
                extra_arguments=["--log-level=CRITICAL"],  # of the kernel itself
            )
        except papermill.PapermillExecutionError as error:
            logger.error(ANSI.sub("", "\n".join(error.traceback)))
            raise _chapter_error(f"{error.ename}: {error.evalue}", partial, log) from error
        except RuntimeError as error:  # the kernel died or never came up
            reason = f"{type(error).__name__}: {error} The computer may have run out of memory."
            raise _chapter_error(reason, partial, log) from error
    executed.metadata.papermill.update(input_path=notebook.name, output_path=output.name)
    with files.write_atomic(output) as temporary:
        nbformat.write(executed, temporary)
    partial.unlink()
    return time.monotonic() - begin


def _refuse_unknown_names(values: dict[str, object]) -> None:
    """Raise ValueError for a study, cohort, map or model that does not exist, naming the known."""
    if "study" in values:
        studies.read_study(values["study"])
    for name in ("cohort", "init_from", "trained_on"):
        if values.get(name) is not None:
            try:
                studies.cohort_key(values[name])
            except ValueError as error:
                raise ValueError(str(error).replace("cohort=", f"{name}=", 1)) from error
    if "map_name" in values:
        spec(values["map_name"])
    if values.get("model_name", studies.MODELS[0]) not in studies.MODELS:
        known = ", ".join(studies.MODELS)
        raise ValueError(f"model_name={values['model_name']!r} is unknown; known: {known}")


def _kernel_config(folder: str) -> Config:
    """Talk to the kernel through files: kernels that start at once may draw the same port."""
    return Config(
        NotebookClient={"kernel_manager_class": "perfnb.kernels.Manager"},
        KernelManager={"transport": "ipc", "connection_file": f"{folder}/kernel.json"},
    )


def _literal_path(path: Path) -> str:
    """Hide braces from papermill, which would fill them in as parameters."""
    return str(path.absolute()).replace("{", "{{").replace("}", "}}")


def _chapter_error(reason: str, partial: Path, log: Path) -> ChapterError:
    logger.error(reason)
    return ChapterError(
        f"Log: {log}\nNotebook up to the failed cell: {partial}\n{' '.join(reason.split())}"
    )


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send papermill's progress and the cells' printed text to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def _slot(count: str, folder: str) -> Iterator[int | None]:
    """Hold one of `count` locks in a folder while a chapter runs, and say which; 0 holds none.

    Snakemake 9.15 forgets to count a job that was the only one ready, and starts more jobs than
    there are cores from then on. A lock ends with its process, however that ends.
    """
    if not int(count):
        yield None
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    locks = [FileLock(Path(folder) / f"{i}.lock") for i in range(int(count))]
    while (held := next((lock for lock in locks if _acquired(lock)), None)) is None:
        time.sleep(0.2)
    try:
        yield locks.index(held)
    finally:
        held.release()


def _show_only(gpu: int | None) -> None:
    """Let the chapter see one GPU alone: each takes the first that it sees."""
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(gpu + 1)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[gpu % len(names)]


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m perfnb.chapters",
        description=__doc__.replace("``", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,  # keeps the lines
    )
    command = parser.add_subparsers(required=True).add_parser("run", help="execute one chapter")
    command.add_argument("notebook", type=Path, help="the chapter, a file in notebooks/")
    command.add_argument("output", type=Path, help="the executed notebook")
    command.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter of the chapter's second cell, as often as needed",
    )
    command.add_argument("--log", type=Path, help="log file (default: beside the output)")
    command.add_argument(
        "--slots", nargs=2, metavar=("N", "FOLDER"), help="wait until fewer than N others run"
    )
    command.add_argument(
        "--gpus", nargs=2, metavar=("N", "FOLDER"), help="take one of N GPUs that no other has"
    )
    command.add_argument("--end-with-parent", action="store_true", help="for workflows")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status (1 a chapter failed, 2 it was not started)."""
    options = _parser().parse_args(arguments)
    if options.end_with_parent:
        files.end_with(os.getppid())
    try:
        given = dict(options.parameters)
        for name in {"cohort", "trained_on", "init_from"} & set(given):
            folder = Path(given[name])
            if given[name] not in studies.COHORTS and folder.is_dir():
                given[name] = str(folder.resolve())  # the kernel works in the notebook's folder
        none = ("0", ".")
        with _slot(*(options.slots or none)), _slot(*(options.gpus or none)) as gpu:
            _show_only(gpu)
            seconds = run_chapter(options.notebook, options.output, given, options.log)
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{options.output.stem}: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(error.strerror or error, file=sys.stderr)
        return 1
    print(f"{options.output.stem}: {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
