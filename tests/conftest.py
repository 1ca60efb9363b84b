"""One tiny study, run once, for every test that needs executed chapters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
