"""Cost of the temporal path on brain voxels against the dense form that it equals.

``python benchmarks/temporal_path.py [--ngf 8 16] [--matrix 64] [--repeats 5]``

Prints ratios of CPU time within one run (dense over brain voxels, medians), for a training step's
forward and backward pass and for inference, on random slices whose mask is a third of the slice.
"""

import argparse
import statistics
import time

import torch

from perfnb.models.networks import make_generator

FRAMES, BATCH, BRAIN = 80, 4, 1 / 3


def make_slices(matrix: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random series (N, T, H, W) inside a disk, -1 outside, and the disk (N, H, W)."""
    line = torch.linspace(-1, 1, matrix)
    radius = line[:, None] ** 2 + line[None] ** 2
    mask = (radius < BRAIN * 4 / torch.pi).expand(BATCH, matrix, matrix).contiguous()
    series = torch.randn(BATCH, FRAMES, matrix, matrix)
    return torch.where(mask[:, None], series, -1.0), mask


def seconds(work, repeats: int) -> float:
    """Return the median CPU time of a piece of work, after one unmeasured round."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ngf", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--matrix", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    series, mask = make_slices(options.matrix)
    brain = mask.float().mean()
    print(f"dense / brain voxels, {options.matrix}x{options.matrix}, {brain:.0%} brain")
    for ngf in options.ngf:
        path = make_generator("temp-pix2pix", FRAMES, ngf, 8, "transpose").temporal
        dense = seconds(lambda p=path: p.dense(series).mean().backward(), options.repeats)
        voxels = seconds(lambda p=path: p(series, mask).mean().backward(), options.repeats)
        path.eval()
        with torch.inference_mode():
            dense_drawn = seconds(lambda p=path: p.dense(series), options.repeats)
            voxels_drawn = seconds(lambda p=path: p(series, mask), options.repeats)
        print(
            f"ngf {ngf}: training {dense / voxels:.1f}, inference {dense_drawn / voxels_drawn:.1f}"
        )


if __name__ == "__main__":
    main()
