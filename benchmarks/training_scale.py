"""Cost of an epoch against the number of patients, waiting for data, and what float16 does.

``python benchmarks/training_scale.py [--patients 10 20 40 80 160] [--ngf 8] [--films FOLDER]``

Writes random prepared slices (3 a patient, 64 x 64 x 80, a quarter brain) into a temporary folder
and trains one epoch of temp-pix2pix for each number of patients, each in a process of its own.
Prints CPU seconds, the share of the time spent waiting for data, and the peak of the process's own
memory (mapped files aside, which the system drops at need); then the exponent of the cost.

With ``--films``, a folder of films such as ``data/small/acute/patients``: how large the error of
storing the series in float16 is against the films' own noise.
"""

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.lib.format import open_memmap

from perfnb.data.cohorts import find_cases
from perfnb.data.scaling import Scaling, write_scaling
from perfnb.data.slices import Slices
from perfnb.models import training
from perfnb.study import read_study
from perfnb.volumes import brain_mask, read_mask, read_series

SLICES, FRAMES, MATRIX = 3, 80, 64
BEFORE_BOLUS = 6  # frames


class Waited:
    """Batches that add up how long the training step waited for them."""

    def __init__(self, batches):
        self.batches, self.seconds = batches, 0.0

    def __iter__(self):
        batches = iter(self.batches)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch


def write_slices(folder: Path, patients: int) -> None:
    """Write random prepared slices, as chapter 04 leaves them."""
    (folder / "slices").mkdir(parents=True)
    count, draw = patients * SLICES, np.random.default_rng(1)
    mask = np.zeros((MATRIX, MATRIX), bool)
    mask[16:48, 16:48] = True
    arrays = {"series": (np.float16, (FRAMES, MATRIX, MATRIX)), "mask": (bool, mask.shape)}
    arrays |= {name: (np.float32, mask.shape) for name in ("reference_Tmax", "truth_Tmax")}
    for name, (kind, shape) in arrays.items():
        stored = open_memmap(folder / "slices" / f"{name}.npy", "w+", kind, (count, *shape))
        for row in stored:
            row[...] = mask if name == "mask" else draw.random(shape, np.float32) * mask
    names = [f"p{i:03}" for i in range(patients)]
    rows = [(name, z, 9 + i % 7) for i, name in enumerate(names) for z in range(SLICES)]
    index = pd.DataFrame(rows, columns=["patient", "z", "arrival"])
    index.to_csv(folder / "slices/index.csv", index=False)
    (folder / "slices" / "fingerprint.json").write_text('"random"')
    write_scaling(folder, Scaling({"series": (0.0, 1.0), "Tmax": (0.0, 1.0)}, arrival_frame=12))
    (folder / "split.json").write_text(json.dumps({"train": names}))


def own_memory() -> float:
    """Return this process's memory in MiB without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def epoch(folder: Path, patients: int, ngf: int, answer) -> None:
    """Train one epoch on the first patients; answer seconds, share of waiting, and memory."""
    torch.set_num_threads(1)
    slices = Slices(folder, "train", "Tmax")
    slices._index = slices._index[: patients * SLICES]
    settings = read_study("small")["chapters"]["05_train"] | {"ngf": ngf}
    nets = training.make_networks("temp-pix2pix", FRAMES, settings, "cpu")
    kept, peak, ended, original = [], [0.0], threading.Event(), training.one_ahead

    def watch():
        while not ended.wait(0.05):
            peak[0] = max(peak[0], own_memory())

    def waited(*arguments):
        kept.append(Waited(original(*arguments)))
        return kept[-1]

    training.one_ahead = waited
    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, processor = time.perf_counter(), time.process_time()
    training.train_epoch(nets, slices, settings, 0)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    ended.set()
    watcher.join()
    answer.put((processor, kept[0].seconds / wall, peak[0]))


def scale(patients: list[int], ngf: int) -> pd.DataFrame:
    """Return one row for each number of patients."""
    rows, context = [], multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "cohort"
        write_slices(folder, max(patients))
        for count in patients:
            answer = context.Queue()
            child = context.Process(target=epoch, args=(folder, count, ngf, answer))
            child.start()
            rows.append((count, *answer.get()))
            child.join()
    return pd.DataFrame(rows, columns=["patients", "seconds", "waiting", "own memory MiB"])


def float16_harm(folder: Path, count: int = 3) -> pd.DataFrame:
    """Return for some films the error of float16 and the noise, both in units of the baseline.

    The noise: the difference of successive frames before the bolus, over the root of two.
    """
    rows = []
    for case in find_cases(folder)[:count]:
        film = read_series(case.series_path)
        known = case.mask_path
        mask = read_mask(known, film) if known else brain_mask(film.data, film.affine)
        early = film.data[mask][:, 2 : 2 + BEFORE_BOLUS].astype(np.float32)
        early /= np.median(early)
        lost = early - early.astype(np.float16).astype(np.float32)
        noise = np.diff(early, axis=1).std() / np.sqrt(2)
        rows.append((case.patient, lost.std(), noise, lost.std() / noise))
    return pd.DataFrame(rows, columns=["patient", "float16", "noise", "ratio"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, nargs="*", default=[10, 20, 40, 80, 160])
    parser.add_argument("--ngf", type=int, default=8)
    parser.add_argument("--films", type=Path)
    options = parser.parse_args()
    if options.patients:
        table = scale(options.patients, options.ngf)
        print(table.to_string(index=False, float_format="{:.3g}".format))
        exponent = np.polyfit(np.log(table.patients), np.log(table.seconds), 1)[0]
        memory = table["own memory MiB"]
        print(f"cost ~ patients^{exponent:.3f}; memory {memory.max() / memory.min() - 1:+.1%}")
    if options.films:
        print(float16_harm(options.films).to_string(index=False, float_format="{:.2g}".format))


if __name__ == "__main__":
    main()
