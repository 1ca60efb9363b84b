"""Drawing a patient's map and a training step, against the dense form that they equal.

``python benchmarks/inference.py [--ngf 8 16 32] [--training-ngf 8 16] [--repeats 3] [--threads 1]``

Prints CPU times, medians of one run on random slices whose mask is a third of the slice:

* a whole patient of 21 slices of 128 x 128 x 80 through `predict`, through plain `Conv3d`, batch
  norm and U-Net in eval mode, and through onnxruntime where it is installed; the arithmetic that
  brain voxels need, a second, as a share of this processor's rate in a float32 product of two
  1024 x 1024 matrices;
* one step of both networks, batch 4, 128 x 128, as `fit` makes it and in plain layers.
"""

import argparse
import copy
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from perfnb.data.scaling import Scaling
from perfnb.models import export, inference, training
from perfnb.models.networks import PatchDiscriminator, TempPix2PixGenerator

FRAMES, SLICES, MATRIX, BATCH, BRAIN = 80, 21, 128, 4, 1 / 3
UNET_NGF, NDF = 8, 16
SETTINGS = {"seed": 1, "unet_ngf": UNET_NGF, "ndf": NDF, "upsampling": "transpose",
            "learning_rate": 5e-4, "precision": "fp32", "l1_weight": 1.0,
            "adversarial_weight": 0.01}  # fmt: skip


class DenseGenerator(TempPix2PixGenerator):
    """temp-pix2pix as the paper writes it: every pixel through `Conv3d`."""

    def forward(self, series, mask=None):
        """Map a series (N, T, H, W) to a map (N, 1, H, W)."""
        return self.unet(self.temporal.dense(series).contiguous())


class PlainDiscriminator(PatchDiscriminator):
    """The discriminator with its first layer on series and map together."""

    def look(self, series):
        """Return the series as it is."""
        return series

    def judge(self, seen, perfusion_map):
        """Judge maps (N, 1, H, W) with their series."""
        return self.layers(torch.cat([seen, perfusion_map], dim=1))


def make_slices(count: int, matrix: int = MATRIX) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random series (N, T, H, W) inside a disk, -1 outside, and the disk (N, H, W)."""
    line = torch.linspace(-1, 1, matrix)
    radius = line[:, None] ** 2 + line[None] ** 2
    mask = (radius < BRAIN * 4 / torch.pi).expand(count, matrix, matrix).contiguous()
    series = torch.randn(count, FRAMES, matrix, matrix)
    return torch.where(mask[:, None], series, -1.0), mask


def seconds(works: dict, repeats: int) -> dict[str, float]:
    """Return the median CPU time of each piece of work, taken in turns after a first round."""
    taken = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            started = time.process_time()
            work()
            taken[name].append(time.process_time() - started)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def arithmetic(generator: nn.Module, mask: torch.Tensor) -> float:
    """Return the operations of the temporal path on brain voxels and of the U-Net's layers.

    Frames of padding before and behind a series cost nothing and are not counted.
    """
    frames, voxels, count = FRAMES, int(mask.sum()), 0.0
    for convolution in generator.temporal.convolutions:
        padded = 2 if frames % 2 == 0 else 1
        frames //= 2
        count += 2 * (frames - padded / 4) * voxels * convolution.weight.numel()
    return count + unet_arithmetic(generator.unet, mask)


def unet_arithmetic(unet: nn.Module, mask: torch.Tensor) -> float:
    """Return the operations of a U-Net on whole slices: two for each weight and position."""
    count, hooks = [0.0], []

    def add(layer, given, drawn):
        pixels = given[0] if isinstance(layer, nn.ConvTranspose2d) else drawn
        count[0] += 2 * layer.weight.numel() * pixels.shape[-1] * pixels.shape[-2] * len(pixels)

    for layer in unet.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            hooks.append(layer.register_forward_hook(add))
    channels = next(unet.parameters()).shape[1]
    with torch.inference_mode():
        unet.eval()(torch.zeros(1, channels, *mask.shape[1:]))
    for hook in hooks:
        hook.remove()
    return count[0] * len(mask)


def draw_patient(ngf: int, repeats: int) -> str:
    """Return one row: both times, their ratio, and the share of the product's rate."""
    series, mask = make_slices(SLICES)
    dense = DenseGenerator(FRAMES, ngf, UNET_NGF).eval()
    given, inside, square = series.numpy(), mask.numpy(), torch.randn(1024, 1024)

    @torch.inference_mode()
    def plainly():
        for first in range(0, SLICES, BATCH):
            part = slice(first, first + BATCH)
            inference.draw(dense, series[part], mask[part])

    works = {"predict": lambda: inference.predict(fast(dense), given, inside), "dense": plainly}
    works["product"] = lambda: square @ square
    run = onnx_run(dense, given, inside)
    works |= {"onnx": run} if run else {}
    taken = seconds(works, repeats)
    rate = arithmetic(dense, mask) / taken["predict"]
    share = rate / (2 * 1024**3 / taken["product"])
    return (
        f"{ngf:>4} {taken['dense']:>9.2f} {taken['predict']:>9.2f} "
        f"{taken['dense'] / taken['predict']:>7.1f} {rate / 1e9:>9.1f} {share:>7.2f} "
        f"{taken['onnx'] / taken['predict'] if 'onnx' in taken else float('nan'):>16.2f}"
    )


def onnx_run(dense: DenseGenerator, series: np.ndarray, mask: np.ndarray) -> Callable | None:
    """Return a call that draws a patient through onnxruntime; None without the package."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    scaling = Scaling({"series": (-1.0, 1.0), "TTP": (-1.0, 1.0)})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "TTP.onnx"
        export.write_graph(export.Drawing(fast(dense), scaling, "TTP").eval(), FRAMES, MATRIX, path)
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    parts = [
        slice(first, first + inference.BATCH) for first in range(0, len(series), inference.BATCH)
    ]
    return lambda: [session.run(None, {"series": series[p], "mask": mask[p]}) for p in parts]


def fast(dense: DenseGenerator) -> TempPix2PixGenerator:
    """Return the generator of the library with the same weights."""
    generator = copy.copy(dense)
    generator.__class__ = TempPix2PixGenerator
    return generator


def train_step(ngf: int, repeats: int) -> str:
    """Return one row: both times of a step, and their ratio."""
    series, mask = make_slices(BATCH)
    reference = torch.where(mask[:, None], torch.rand(BATCH, 1, MATRIX, MATRIX), -1.0)
    settings = SETTINGS | {"ngf": ngf}
    works = {}
    for name in ("fit", "dense"):
        nets = training.make_networks("temp-pix2pix", FRAMES, settings, "cpu")
        if name == "dense":
            nets.generator.__class__ = DenseGenerator
            nets.discriminator.__class__ = PlainDiscriminator

        def step(nets=nets):
            generated = inference.draw(nets.generator, series, mask)
            training.discriminator_step(nets, series, reference, generated)
            training.generator_step(nets, series, reference, generated, settings)

        works[name] = step
    taken = seconds(works, repeats)
    dense, fit = taken["dense"], taken["fit"]
    return f"{ngf:>4} {dense:>9.2f} {fit:>9.2f} {dense / fit:>7.1f}"


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ngf", type=int, nargs="*", default=[8, 16, 32])
    parser.add_argument("--training-ngf", type=int, nargs="*", default=[8, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    if options.ngf:
        print(f"A map of {SLICES} x {MATRIX} x {MATRIX} x {FRAMES}, {BRAIN:.0%} brain")
        print(
            " ngf   dense s predict s   ratio GFLOP / s   share of a matrix product's rate; "
            "onnxruntime over predict"
        )
    for ngf in options.ngf:
        print(draw_patient(ngf, options.repeats), flush=True)
    if options.training_ngf:
        print(f"A training step of both networks, batch {BATCH}, {MATRIX} x {MATRIX}")
        print(" ngf   dense s     fit s   ratio")
    for ngf in options.training_ngf:
        print(train_step(ngf, options.repeats), flush=True)


if __name__ == "__main__":
    main()
