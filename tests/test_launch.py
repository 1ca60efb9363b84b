"""`accelerate launch` trains the run of chapter 05 in two processes."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from small_films import prepare, write_folder

from perfnb.models import launch
from perfnb.study import read_study, start

NAMES = {"study": "tiny", "map_name": "Tmax", "model_name": "temp-pix2pix"}


@pytest.fixture
def films(tmp_path, monkeypatch):
    """Return a folder of films, prepared just as the study says."""
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path / "home"))
    folder = write_folder(tmp_path / "films")
    prepare(folder, **start("04_prepare", "tiny", str(folder)).settings)
    return str(folder)


def test_two_processes_make_the_run_of_the_chapter(films):
    run = start("05_train", "tiny", films, NAMES["map_name"], NAMES["model_name"])
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["-m", "perfnb.models.launch", "--study", "tiny", "--cohort", films]
    command += ["--map-name", "Tmax", "--model-name", "temp-pix2pix", "--device", "cpu"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    history = pd.read_csv(run.run_dir / "history.csv")
    assert list(history.epoch) == [1, 2]
    kept = run.run_dir / "checkpoint.safetensors"
    before = kept.stat().st_mtime_ns
    told = launch.train("05_train", cohort=films, device="cpu", **NAMES)  # complete: nothing to do
    assert "after 2 epochs" in told and kept.stat().st_mtime_ns == before
    assert json.loads((run.run_dir / "training.json").read_text())["epochs"] == 2
    assert len(history) == read_study("tiny")["chapters"]["05_train"]["epochs"]


def test_unprepared_cohort_names_the_chapter(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Chapter 04_prepare makes it"):
        launch.train("05_train", cohort="acute", device="cpu", **NAMES)
