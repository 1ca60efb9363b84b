"""What it changes that every film begins with the bolus in the same frame.

``python benchmarks/arrival.py [--home FOLDER] [--study small] [--cohort acute] [--maps Tmax MTT]``
``                             [--models temp-pix2pix pix2pix]``

Trains models as chapter 05 does, on slices that chapter 04 has left in the folder, three times:
films begin so that the bolus arrives in the study's frame, in training up to `shifting` frames
earlier or later; they begin as they come, as in the paper; they begin as they come, in training up
to four frames earlier or later. Prints for each the epochs, the tissue MAE and the correlation with
the reference at the test patients (means), the constant's error beside it, and in how many patients
the first way is better (paired Wilcoxon).
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from perfnb.data.scaling import read_scaling
from perfnb.data.slices import Slices
from perfnb.metrics import images
from perfnb.metrics.statistics import paired_wilcoxon
from perfnb.models import checkpoints, inference, training
from perfnb.models.networks import make_generator
from perfnb.study import start

WAYS = {"in one frame": None, "as they come": 0, "as they come, varied": 4}  # largest shift


def train_and_score(
    folder: Path, map_name: str, model_name: str, settings: dict, way: str
) -> tuple[int, pd.DataFrame]:
    """Train one model; return its epochs and a row of errors for every test patient."""
    scaling, largest = read_scaling(folder), WAYS[way]
    if largest is not None:
        scaling, settings = replace(scaling, arrival_frame=None), settings | {"shifting": largest}
    splits = {s: Slices(folder, s, map_name, scaling) for s in ("train", "validation", "test")}
    with tempfile.TemporaryDirectory() as run:
        parts = splits["train"], splits["validation"]
        history = training.fit(Path(run), model_name, *parts, settings)
        widths = (settings["ngf"], settings["unet_ngf"], settings["upsampling"])
        generator = make_generator(model_name, splits["test"].frames, *widths)
        checkpoints.load_weights(generator, Path(run) / "weights.safetensors")
    train, rows = splits["train"], {}
    known = [train.patient(p) for p in train.patients]
    constant = np.median(np.concatenate([s.reference_physical[s.tissue] for s in known]))
    for patient in splits["test"].patients:
        slab = splits["test"].patient(patient)
        drawn = scaling.backward(map_name, inference.predict(generator, slab.series, slab.mask))
        flat = np.full(slab.mask.shape, constant)
        found, least = (
            images.physical_errors(slab.reference_physical, one, slab.tissue)
            for one in (drawn, flat)
        )
        rows[patient] = {"MAE": found["MAE"], "r": found["r"], "constant": least["MAE"]}
    return len(history), pd.DataFrame(rows).T


def main() -> None:
    """Print a row for every model and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path())
    parser.add_argument("--study", default="small")
    parser.add_argument("--cohort", default="acute")
    parser.add_argument("--maps", nargs="+", default=["Tmax", "MTT"])
    parser.add_argument("--models", nargs="+", default=["temp-pix2pix", "pix2pix"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.home / "data" / options.study / options.cohort
    if read_scaling(folder).arrival_frame is None:
        parser.error(f"{folder} was prepared with arrival_frame: null; expected a frame")
    settings = start("05_train", options.study, options.cohort).settings
    for map_name in options.maps:
        for model_name in options.models:
            first = None
            for way in WAYS:
                epochs, errors = train_and_score(folder, map_name, model_name, settings, way)
                first = errors if first is None else first
                mean, told = errors.mean(), ""
                if first is not errors:
                    wins = int((first["MAE"] < errors["MAE"]).sum())
                    p = paired_wilcoxon(first["MAE"], errors["MAE"]).p
                    told = f"  worse in {wins} of {len(errors)}, p {p:.3f}"
                print(
                    f"{map_name:5}{model_name:14}{way:22}{epochs:3} epochs  MAE {mean['MAE']:.3f} "
                    f"(constant {mean['constant']:.3f})  r {mean['r']:.3f}{told}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
