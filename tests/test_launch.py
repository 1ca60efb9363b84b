"""Launched processes train the run of chapter 05 together, and end with their launcher."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from small_films import prepare, write_folder

from perfnb.models import launch
from perfnb.study import read_study, start

COUNTED = """
import sys
from perfnb.models import devices, launch
launch.main()
with open(sys.argv[0] + ".counted", "a") as file:
    print(devices.process_count(), file=file)
"""
ENDLESS = """
import os, sys, time
from perfnb.models import launch
def train(**_):
    with open(sys.argv[0] + ".pid", "w") as file:
        file.write(str(os.getpid()))
    time.sleep(300)
launch.train = train
launch.main()
"""
NAMES = {"study": "tiny", "map_name": "Tmax", "model_name": "temp-pix2pix"}


@pytest.fixture
def films(tmp_path, monkeypatch):
    """Return a folder of films, prepared just as the study says."""
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path / "home"))
    folder = write_folder(tmp_path / "films")
    prepare(folder, **start("04_prepare", "tiny", str(folder)).settings)
    return str(folder)


def arguments(cohort: str) -> list[str]:
    named = ["--study", "tiny", "--cohort", cohort, "--map-name", "Tmax"]
    return [*named, "--model-name", "temp-pix2pix", "--device", "cpu"]


def test_two_processes_make_the_run_of_the_chapter(films, tmp_path):
    run = start("05_train", "tiny", films, NAMES["map_name"], NAMES["model_name"])
    script = tmp_path / "counted.py"
    script.write_text(COUNTED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", "2", str(script), *arguments(films)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(f"{script}.counted").read_text().split() == ["2", "2"]
    history = pd.read_csv(run.run_dir / "history.csv")
    assert list(history.epoch) == [1, 2]
    kept = run.run_dir / "checkpoint.safetensors"
    before = kept.stat().st_mtime_ns
    told = launch.train("05_train", cohort=films, device="cpu", **NAMES)  # complete: nothing to do
    assert "after 2 epochs" in told and kept.stat().st_mtime_ns == before
    assert json.loads((run.run_dir / "training.json").read_text())["epochs"] == 2
    assert len(history) == read_study("tiny")["chapters"]["05_train"]["epochs"]


def test_a_process_ends_with_its_launcher(tmp_path):
    """Killed or ended, a launcher must leave no one behind who holds the folder's lock."""
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    begun = Path(f"{script}.pid")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    launcher = subprocess.Popen([*command, str(script), *arguments("acute")])
    assert within(60, lambda: begun.exists() and begun.read_text())
    worker = Path("/proc", begun.read_text())
    assert worker.exists()
    launcher.kill()
    launcher.wait()
    assert within(10, lambda: not worker.exists() or "Z" in state(worker))


def state(process: Path) -> str:
    return (process / "stat").read_text().rsplit(")", 1)[1].split()[0]


def within(seconds: float, true) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    return bool(true())


def test_unprepared_cohort_names_the_chapter(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Chapter 04_prepare makes it"):
        launch.train("05_train", cohort="acute", device="cpu", **NAMES)


@pytest.mark.parametrize(
    ("chapter", "init_from", "message"),
    [
        ("06_finetune", None, "06_finetune starts from a trained model, .*--init-from"),
        ("05_train", "acute", "05_train starts from nothing, .*'acute': leave it out"),
    ],
)
def test_fine_tuning_asks_for_a_start_and_training_takes_none(chapter, init_from, message):
    with pytest.raises(ValueError, match=message):
        launch.train(chapter, cohort="chronic", init_from=init_from, device="cpu", **NAMES)
