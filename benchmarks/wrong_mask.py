"""What a wrong brain mask does to the maps of a trained network.

``python benchmarks/wrong_mask.py [--home FOLDER] [--study small] [--map Tmax]``

Reads the test patients of the acute cohort and both trained generators, as `make book` left them
in the folder. Each mask is made wrong in four ways: one or two pixels of its rim missing, a hole
of 8 pixels across, a quarter of the brain missing. What it leaves out becomes background, in film
and map, as the preparation would have done. Prints the mean absolute error against the reference,
in the map's unit, over the tissue that the wrong mask still holds: first with the right mask, then
with the wrong one, and the largest change in a pixel.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import binary_erosion

from perfnb.data.slices import BACKGROUND, Slices
from perfnb.models import inference
from perfnb.models.evaluation import load_generator


def wrong_masks(mask: np.ndarray) -> dict[str, np.ndarray]:
    """Return masks (Z, H, W) that are too small, each in its own way."""
    rows, columns = np.indices(mask.shape[1:])
    middle = [int(where.mean()) for where in np.nonzero(mask.any(axis=0))]
    hole = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 <= 4**2
    corner = (rows > middle[0]) & (columns > middle[1])
    cross = np.zeros((3, 3, 3), bool)
    cross[1, 1], cross[1, :, 1] = True, True
    return {
        "one pixel of the rim missing": binary_erosion(mask, cross),
        "two pixels of the rim missing": binary_erosion(mask, cross, iterations=2),
        "a hole of 8 pixels": mask & ~hole,
        "a quarter missing": mask & ~corner,
    }


def compare(generator, test: Slices, patient: str) -> list[dict]:
    """Return a row for each wrong mask of one patient."""
    slab, rows = test.patient(patient), []
    right = inference.predict(generator, slab.series, slab.mask)
    right = test.scaling.backward(test.map_name, right)
    for way, mask in wrong_masks(slab.mask).items():
        series = np.where(mask[:, None], slab.series, BACKGROUND)
        wrong = inference.predict(generator, series, mask)
        wrong, left = test.scaling.backward(test.map_name, wrong), slab.tissue & mask
        off = {"right mask": right, "wrong mask": wrong}
        errors = {k: np.abs(v - slab.reference_physical)[left].mean() for k, v in off.items()}
        rows.append({"mask": way, **errors, "largest change": np.abs(wrong - right)[left].max()})
    return rows


def main() -> None:
    """Print a table of means over patients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path())
    parser.add_argument("--study", default="small")
    parser.add_argument("--map", default="Tmax")
    options = parser.parse_args()
    test = Slices(options.home / "data" / options.study / "acute", "test", options.map)
    for model in ("pix2pix", "temp-pix2pix"):
        run = options.home / "runs" / options.study / "acute" / f"{model}-{options.map}"
        generator = load_generator(run, test.frames)
        rows = [row for patient in test.patients for row in compare(generator, test, patient)]
        print(f"{model}, {options.map}, {len(test.patients)} patients")
        print(pd.DataFrame(rows).groupby("mask", sort=False).mean().round(3).to_string())


if __name__ == "__main__":
    main()
