"""Accuracy of deconvolution on a digital reference object: r / bias / RMSE of every map.

``python benchmarks/deconvolution_accuracy.py [--quick] [--snr 50 20] [--out table.csv]``

Prints a table per repetition time, residue, signal-to-noise ratio and AIF (exact, or read with the
same noise), and what block-circulant SVD makes of delay and of 60 CBV / CBF. Tmax and TTP are
scored too, and beside them the highest frame of residue and tissue curve, as a plain baseline.
A voxel without a value counts as 0. The noise is pooled over four AIF draws.
"""

import argparse
import csv
import itertools
from pathlib import Path

import numpy as np
import torch

from perfnb.classical.deconvolution import METHODS, block_circulant_svd, deconvolve
from perfnb.classical.reference_object import RESIDUES, ReferenceObject, reference_object, score

ECHO_TIME_S = 0.029
DRAWS = 4
MAPS = ("CBF", "CBV", "MTT", "Tmax", "TTP")
PLAIN = "block-circulant SVD, plain maximum"
UNTIMED = "parametric, frames of equal weight"


def estimate(made: ReferenceObject, method: str) -> dict[str, np.ndarray]:
    """Return the maps (N,) that a method makes of a reference object."""
    tr = made.repetition_time_s
    if method == PLAIN:
        frames = len(made.aif)  # lags beyond them are negative
        residue = block_circulant_svd(made.tissue, made.aif, tr)
        return {
            "Tmax": residue[:, :frames].argmax(axis=1) * tr,
            "TTP": made.tissue.argmax(axis=1) * tr,
        }
    name, echo = (method, ECHO_TIME_S) if method in METHODS else ("parametric", None)
    return deconvolve(made.tissue, made.aif, tr, name, made.arrival, echo_time_s=echo).maps


def rows(methods, settings, repeats: int):
    """Yield the scores of every method and setting, one row a map."""
    for tr, residue, snr, noisy in settings:
        draws = [
            reference_object(tr, residue, snr, noisy, repeats, seed)
            for seed in range(DRAWS if snr else 1)
        ]
        truth = {k: np.concatenate([d.truth[k] for d in draws]) for k in MAPS}
        for method in methods:
            found = [estimate(made, method) for made in draws]
            maps = {k: np.concatenate([f[k] for f in found]) for k in found[0]}
            for name, s in score(maps, truth).items():
                yield {
                    "TR": tr, "residue": residue, "SNR": snr or "none",
                    "AIF": "noisy" if noisy else "exact", "method": method, "map": name,
                    "r": s.r, "bias": s.bias, "RMSE": s.rmse, "missing": s.missing,
                }  # fmt: skip


def print_table(table: list[dict]) -> None:
    """Print one block of lines per setting, a line a method."""
    for setting, group in itertools.groupby(
        table, lambda row: tuple(row[k] for k in ("TR", "residue", "SNR", "AIF"))
    ):
        print("\nTR {} s, {} residue, SNR {}, {} AIF: r / bias / RMSE".format(*setting))
        print(f"{'':36}" + "".join(f"{name:>23}" for name in MAPS))
        for method, lines in itertools.groupby(group, lambda row: row["method"]):
            cells = {
                row["map"]: f"{row['r']:.2f} /{row['bias']:+6.2f} /{row['RMSE']:6.2f}"
                for row in lines
            }
            print(f"{method:36}" + "".join(f"{cells.get(name, ''):>23}" for name in MAPS))


def print_checks(repeats: int) -> None:
    """Print what block-circulant SVD makes of delay, and how MTT relates to CBV and CBF."""
    for tr in (1.4, 2.2):
        for kind, snr in (("SNR 50", 50.0), ("no noise", None)):
            made = reference_object(tr, snr=snr, repeats=repeats)
            maps = deconvolve(made.tissue, made.aif, tr, arrival=made.arrival).maps
            early, level = (maps["CBF"][made.truth["Tmax"] == d] for d in (-4, 0))
            ratio = np.median(early / level)
            print(f"TR {tr} s, {kind}: median CBF(-4 s) / CBF(0 s) = {ratio:.3f}")
        error = np.nanmax(np.abs(60 * maps["CBV"] / maps["CBF"] / maps["MTT"] - 1))
        print(f"TR {tr} s: 60 CBV / CBF = MTT within {error:.1e}")


def main() -> None:
    """Score, print, and write a CSV file if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="exact AIF at SNR 50, few draws")
    parser.add_argument("--snr", type=float, nargs="+", default=[50, 20, 100, 0], help="0: none")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, UNTIMED, PLAIN])
    parser.add_argument("--out", type=Path, help="CSV file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    snrs = [50.0] if options.quick else [snr or None for snr in options.snr]
    settings = [
        (tr, residue, snr, noisy)
        for snr in snrs
        for noisy in ([False] if options.quick or snr is None else [False, True])
        for tr in (1.4, 2.2)
        for residue in RESIDUES
    ]
    repeats = 1 if options.quick else 4
    print_checks(64)
    table = list(rows(options.methods, settings, repeats))
    print_table(table)
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=table[0])
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
