"""One tiny study, run once, for every test that needs executed chapters."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from small_films import prepare, write_folder

from perfnb import forkserver
from perfnb.data.slices import Slices

ROOT = Path(__file__).resolve().parents[1]
KERNELS = re.compile("tiny_home|run_study|run_chapter|forkserver|chapters\\.main")
LONGEST = ("test_workflow", "test_chapters", "test_bad_input", "test_book", "test_own_films")


def pytest_configure(config):
    """Let the kernels of all workers be forked from one server, which ends with the tests."""
    if not hasattr(config, "workerinput") and forkserver.SOCKET not in os.environ:
        os.environ.update(dict.fromkeys(forkserver.THREADS, "1"))  # as the workflow has it
        if any(starts_kernels(Path(name.split("::")[0])) for name in config.args):
            forkserver.start()


def starts_kernels(path: Path) -> bool:
    """Tell whether a file of tests executes chapters; of a folder, some always do."""
    return not path.is_file() or bool(KERNELS.search(path.read_text(encoding="utf-8")))


def pytest_collection_modifyitems(items):
    """Begin with the modules that take longest, so that both workers end together."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def run_study():
    """Return a function that runs a study through Snakemake, as `make book` does."""

    def run(home: Path, *targets: str, study="tiny", cores=2, root=ROOT, check=True, **environment):
        command = [sys.executable, str(root / "workflow" / "run.py")]
        command += ["--study", study, "--cores", str(cores), *targets]
        done = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "PERFNB_HOME": str(home), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert not check or done.returncode == 0, done.stdout[-3000:]
        return done

    return run


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory, run_study) -> Path:
    """Return a folder in which every chapter of the tiny study was executed, once for all tests.

    Tests may add to it, never change what is there. The worker that comes first executes it.
    """
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent  # shared by the workers
    home = session / "tiny"
    with FileLock(session / "tiny.lock"):
        if not (home / "complete").is_file():
            home.mkdir(exist_ok=True)
            run_study(home, "chapters")
            (home / "complete").touch()
    return home


@pytest.fixture(scope="session")
def splits(tmp_path_factory):
    """Return training and validation slices of Tmax of a small folder of films."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERFNB_HOME", str(home))
        run = prepare(write_folder(home / "films"))
    return [Slices(run.data_dir, split, "Tmax") for split in ("train", "validation")]
