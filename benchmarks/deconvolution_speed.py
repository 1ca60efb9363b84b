"""Time and memory of deconvolution against one matrix product of the same size.

``python benchmarks/deconvolution_speed.py [--voxels 93008] [--frames 80] [--repeats 3]``

One thread, float32, one run: the product is tissue (N x T) times a matrix (T x 2T). Prints CPU
seconds (medians), the ratio to the product, and how much the peak memory of a process of its own
grows over what it holds before the call.
"""

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from perfnb.classical.deconvolution import METHODS, deconvolve
from perfnb.classical.reference_object import reference_object

TR_S, ECHO_TIME_S = 1.4, 0.029
BARS = {"SVD": "-", "block-circulant SVD": "3 products", "oscillation-index SVD": "10 products"}


def make_curves(voxels: int, frames: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return tissue curves (N, T) of a noisy reference object, its AIF (T,) and its arrival."""
    made = reference_object(TR_S, "gamma", n_frames=frames, delays_s=(0.0, 2.0, 4.0))
    rows = np.random.default_rng(0).integers(len(made.tissue), size=voxels)
    return made.tissue[rows].astype(np.float32), made.aif, made.arrival


def run(tissue, aif, method: str, arrival: int) -> None:
    """Deconvolve as a user would; SVD methods have no use for the echo time."""
    deconvolve(tissue, aif, TR_S, method, arrival, echo_time_s=ECHO_TIME_S)


def seconds(work, repeats: int) -> float:
    """Return the median CPU time of a piece of work, after one unmeasured round."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def extra_memory(method: str, voxels: int, frames: int, answer) -> None:
    """Put by how many MiB the peak memory of this process grows while it deconvolves."""
    torch.set_num_threads(1)
    tissue, aif, arrival = make_curves(voxels, frames)
    run(tissue[:64], aif, method, arrival)  # loads what has to be loaded
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = peak_mib()
    run(tissue, aif, method, arrival)
    answer.put(peak_mib() - before)


def peak_mib() -> float:
    """Return the peak resident memory of this process since it was last forgotten (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measured_memory(method: str, voxels: int, frames: int) -> float:
    """Return `extra_memory` of a fresh process."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=extra_memory, args=(method, voxels, frames, answer))
    process.start()
    grown = answer.get()
    process.join()
    return grown


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=93_008)
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tissue, aif, arrival = make_curves(options.voxels, options.frames)
    left, right = torch.as_tensor(tissue), torch.randn(options.frames, 2 * options.frames)
    product = seconds(lambda: left @ right, 7)
    print(f"{options.voxels} voxels, {options.frames} frames, one thread; product {product:.3f} s")
    print(f"{'method':24}{'s':>8}{'products':>10}{'MiB':>8}  at most")
    for method in METHODS:
        repeats = 1 if method == "parametric" else options.repeats
        taken = seconds(lambda m=method: run(tissue, aif, m, arrival), repeats)
        grown = measured_memory(method, options.voxels, options.frames)
        bar = BARS.get(method, "30 s")
        print(f"{method:24}{taken:8.3f}{taken / product:10.1f}{grown:8.0f}  {bar}, 300 MiB")


if __name__ == "__main__":
    main()
