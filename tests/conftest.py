"""One tiny study, run once, for every test that needs executed chapters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_films import prepare, write_folder

from perfnb.data.slices import Slices

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """Share tests among workers by module; what needs the tiny study stays together, and first.

    A worker of its own would otherwise execute that study, or a module's fixture, once more.
    """
    for item in items:
        shared = "tiny_home" in item.fixturenames
        item.add_marker(pytest.mark.xdist_group("tiny" if shared else item.path.stem))
    items.sort(key=lambda item: "tiny_home" not in item.fixturenames)


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
    """Return a folder in which every chapter of the tiny study was executed, once a session."""
    home = tmp_path_factory.mktemp("tiny")
    run_study(home, "chapters")
    return home


@pytest.fixture(scope="session")
def splits(tmp_path_factory):
    """Return training and validation slices of Tmax of a small folder of films."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERFNB_HOME", str(home))
        run = prepare(write_folder(home / "films"))
    return [Slices(run.data_dir, split, "Tmax") for split in ("train", "validation")]
