"""One optimiser step of both networks at the paper's size, and what its twenty models would cost.

``python benchmarks/paper_step.py [--models pix2pix temp-pix2pix] [--teraflops 14] [--share 0.4]``

Takes widths, batch, picture size, patients and epochs from ``workflow/studies/paper.yml``. Prints,
for each generator, seconds and peak memory of a step on this processor and its arithmetic as torch
counts it; then the hours that all models of the study need on a GPU of so many float32 TFLOP / s,
of which training reaches the given share. A third of each slice is brain. ``--matrix 64 --batch 1``
makes a sixteenth of the step, whose arithmetic is scaled up; seconds and memory are not.
"""

import argparse
import resource
import time

import torch
from inference import make_slices
from torch.utils.flop_counter import FlopCounterMode

from perfnb.models import inference, training
from perfnb.models.networks import count_parameters
from perfnb.study import read_study

STUDY = read_study("paper")
PREPARED, TRAINED, TUNED = (
    STUDY["chapters"][name] for name in ("04_prepare", "05_train", "06_finetune")
)


def one_step(model_name: str, matrix: int, batch: int) -> tuple[float, float, int]:
    """Return seconds, float operations and parameters of a step, on random slices."""
    settings = dict(TRAINED)
    series, mask = make_slices(batch, matrix)
    reference = torch.where(mask[:, None], torch.rand(batch, 1, *mask.shape[1:]), -1.0)
    nets = training.make_networks(model_name, PREPARED["frames"], settings, "cpu")
    started = time.perf_counter()
    with FlopCounterMode(display=False) as counter:
        generated = inference.draw(nets.generator, series, mask)
        training.discriminator_step(nets, series, reference, generated)
        training.generator_step(nets, series, reference, generated, settings)
    seconds = time.perf_counter() - started
    return seconds, counter.get_total_flops(), count_parameters(nets.generator)


def steps() -> int:
    """Return the steps of one model and map over all cohorts: training, then fine-tuning."""
    count = 0
    for cohort, settings in (("acute", TRAINED), ("chronic", TUNED)):
        slices = PREPARED["split"][cohort][0] * PREPARED["slices"]
        count += settings["epochs"] * (slices // settings["batch_size"])
    return count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["pix2pix", "temp-pix2pix"])
    parser.add_argument("--matrix", type=int, default=PREPARED["matrix"])
    parser.add_argument("--batch", type=int, default=TRAINED["batch_size"])
    parser.add_argument("--teraflops", type=float, default=14.0)
    parser.add_argument("--share", type=float, default=0.4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    maps, total = len(STUDY["matrix"]["maps"]), 0.0
    whole = TRAINED["batch_size"] * PREPARED["matrix"] ** 2 / (options.batch * options.matrix**2)
    print("generator      parameters  seconds a step  TFLOP a step  peak GiB so far")
    for model_name in options.models:
        seconds, operations, parameters = one_step(model_name, options.matrix, options.batch)
        operations *= whole
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{model_name:<13} {parameters:>11,} {seconds:>15.1f} {operations / 1e12:>13.2f} "
            f"{peak:>16.1f}",
            flush=True,
        )
        hours = steps() * maps * operations / (options.teraflops * 1e12 * options.share) / 3600
        print(f"  {maps} maps x {steps():,} steps: {hours:.0f} h of GPU", flush=True)
        total += hours
    print(f"All models: {total:.0f} h at {options.share:.0%} of {options.teraflops:g} TFLOP / s")


if __name__ == "__main__":
    main()
