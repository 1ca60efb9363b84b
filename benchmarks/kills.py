"""Kill trainings in every way and see that the same command goes on as if nothing had been.

``python benchmarks/kills.py [--staged 15] [--random 10] [--batch 5] [--seed 1]``

Prepares and trains the study ``tiny`` in a temporary folder, once without a kill. Then training is
killed (SIGKILL; every fifth random one SIGTERM):

* staged: while a file is written, at each of five moments, weights and checkpoints in turn;
* random: at a random moment of the run;
* batch: the whole Snakemake workflow, at a random moment of its training.

Each time the same command runs again. Prints for each kind how many ended with weights, optimisers
and history equal bit for bit to the run without a kill, and how many epochs were done twice: of a
batch, those that its last checkpoint held already.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from perfnb.data.slices import Slices
from perfnb.models import checkpoints, training
from perfnb.study import read_study

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("before writing", "half written", "before fsync", "before rename", "after rename")
FILES = ("weights.safetensors", "checkpoint.safetensors")
EPOCHS = 5
SETTINGS = {"epochs": EPOCHS, "patience": 99, "learning_rate": 2e-3}
MODEL = "runs/tiny/acute/temp-pix2pix-Tmax"


def train(data: Path, folder: Path, prepare: Callable[[], None] = lambda: None) -> None:
    """Train five epochs, noting each one that begins in `begun.txt`."""
    torch.set_num_threads(1)
    settings = read_study("tiny")["chapters"]["05_train"] | SETTINGS
    splits = [Slices(data, split, "Tmax") for split in ("train", "validation")]
    original = training.train_epoch

    def noted(nets, slices, settings, epoch):
        with open(folder / "begun.txt", "a") as file:
            print(epoch, file=file)
        return original(nets, slices, settings, epoch)

    training.train_epoch = noted
    prepare()
    training.fit(folder, "temp-pix2pix", *splits, settings)


def die_at(stage: str, name: str, nth: int) -> None:
    """Have this process kill itself while `name` is written for the nth time."""
    seen = {"path": None, "count": 0}
    write, sync, rename = Path.write_bytes, os.fsync, os.replace

    def due(now: str) -> bool:
        return stage == now and name in str(seen["path"]) and seen["count"] == nth

    def write_bytes(path, content):
        seen.update(path=path, count=seen["count"] + (name in str(path)))
        if due("before writing"):
            os.kill(os.getpid(), signal.SIGKILL)
        if due("half written"):
            write(path, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, content)

    def fsync(file):
        if due("before fsync"):
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    def replace(source, target):
        if due("before rename"):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if due("after rename"):
            os.kill(os.getpid(), signal.SIGKILL)

    Path.write_bytes, os.fsync, os.replace = write_bytes, fsync, replace


def in_child(work: Callable[[], None]) -> int:
    """Run some work in a process of its own; return its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child


def ended(child: int) -> int:
    """Wait for a child; return its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_stage(data: Path, folder: Path, stage: str, name: str, nth: int) -> bool:
    """Train until it kills itself, then again; return whether it was killed."""
    folder.mkdir(parents=True)
    first = ended(in_child(lambda: train(data, folder, lambda: die_at(stage, name, nth))))
    again = ended(in_child(lambda: train(data, folder)))
    return first == -signal.SIGKILL and again == 0


def killed_at_random(data: Path, folder: Path, draw: random.Random, lasts: float, how: int) -> bool:
    """Train, kill it at a random moment, and train again; return whether it then came to its end.

    A training that had ended before the kill does not count: another one is begun.
    """
    while True:
        folder.mkdir(parents=True)
        child = in_child(lambda: train(data, folder))
        time.sleep(draw.uniform(0.1, 0.9) * lasts)
        os.kill(child, how)
        if ended(child) == -how:
            return ended(in_child(lambda: train(data, folder))) == 0
        shutil.rmtree(folder)


def same(folder: Path, whole: Path) -> bool:
    """Return whether weights, checkpoint and history are equal bit for bit, times apart."""
    for name in FILES:
        found, expected = (load_file(where / name) for where in (folder, whole))
        if set(found) != set(expected):
            return False
        if not all(torch.equal(found[key], expected[key]) for key in found):
            return False
    tables = [
        pd.read_csv(where / "history.csv").drop(columns="seconds") for where in (folder, whole)
    ]
    return tables[0].equals(tables[1]) and not list(folder.glob(".*.partial*"))


def done_twice(folder: Path) -> int:
    """Return how many epochs were begun more than once."""
    begun = (folder / "begun.txt").read_text().split()
    return len(begun) - len(set(begun))


def workflow(home: Path) -> list[str]:
    """Return the command that prepares and trains one model through Snakemake."""
    command = [sys.executable, str(ROOT / "workflow" / "run.py"), "--study", "tiny"]
    return [*command, "--cores", "1", f"{MODEL}/manifest.json"]


def environment(home: Path) -> dict[str, str]:
    """Return this process's environment with the folder that a run writes to."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PERFNB_HOME": str(home), "PYTHONPATH": paths}


def run_workflow(home: Path) -> float:
    """Run the workflow to its end; return the seconds that it took."""
    started = time.perf_counter()
    done = subprocess.run(
        workflow(home), env=environment(home), cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - started


def kill_workflow(home: Path, draw: random.Random) -> bool:
    """Kill a workflow with all its processes while it trains; return whether it was training."""
    run = home / MODEL
    for path in [*run.glob("*"), *(home / "results").rglob("05_train*")]:
        path.unlink() if path.is_file() else None
    child = subprocess.Popen(
        workflow(home), env=environment(home), cwd=ROOT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (run / "checkpoint.safetensors").exists() and child.poll() is None:
        time.sleep(0.002)
    time.sleep(draw.uniform(0, 0.1))  # the study tiny trains for some tenths of a second
    training_still = child.poll() is None and not (run / "training.json").exists()
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return training_still


def main() -> None:
    """Kill, go on, compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--staged", type=int, default=15)
    parser.add_argument("--random", type=int, default=10)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        run_workflow(home)
        data, whole = home / "data" / "tiny" / "acute", home / "whole"
        whole.mkdir()
        started = time.perf_counter()
        ended(in_child(lambda: train(data, whole)))
        lasts = time.perf_counter() - started
        rows = []
        for i in range(options.staged):
            stage, name, folder = STAGES[i % 5], FILES[i // 5 % 2], home / f"staged{i}"
            nth = draw.randint(1, EPOCHS) if name == FILES[1] else 1  # weights: only the best
            hit = killed_at_stage(data, folder, stage, name, nth)
            rows.append(told(stage, hit, same(folder, whole), done_twice(folder)))
        for i in range(options.random):
            how = signal.SIGTERM if i % 5 == 4 else signal.SIGKILL
            folder = home / f"random{i}"
            hit = killed_at_random(data, folder, draw, lasts, how)
            rows.append(told(f"random {how.name}", hit, same(folder, whole), done_twice(folder)))
        rows += batch(home, options.batch, draw)
    table = pd.DataFrame(rows, columns=["kill", "hit", "equal", "epochs done twice"])
    table = table.assign(kills=1).groupby("kill", sort=False).agg(
        {"kills": "sum", "hit": "sum", "equal": "sum", "epochs done twice": "max"}
    )  # fmt: skip
    print(table.rename(columns={"epochs done twice": "most epochs done twice"}).to_string())
    print(f"{table.equal.sum()} of {table.kills.sum()} ended bit for bit like a run without a kill")


def told(*row) -> tuple:
    """Return a row, after showing it: the whole takes a while."""
    print(*row, sep=", ", file=sys.stderr, flush=True)
    return row


def batch(home: Path, count: int, draw: random.Random) -> list[tuple]:
    """Kill the workflow some times, each time followed by the same command; return rows."""
    run, rows, whole = home / MODEL, [], home / "unkilled"
    whole.mkdir()
    for name in (*FILES, "history.csv"):
        shutil.copy(run / name, whole)
    for _ in range(count):
        hit, kept = kill_workflow(home, draw), history(run)
        run_workflow(home)
        # an epoch done again has other seconds
        again = sum(a != b for a, b in zip(kept, history(run), strict=False))
        rows.append(told("Snakemake batch", hit and bool(kept), same(run, whole), again))
    return rows


def history(run: Path) -> list:
    """Return the epochs that a checkpoint holds."""
    return json.loads(checkpoints._read_checkpoint(run / "checkpoint.safetensors")[1]["history"])


if __name__ == "__main__":
    main()
