"""Speed of the phantom, what its patients look like, and whether they leak.

``python benchmarks/phantom.py [--matrix 128] [--slices 25] [--frames 75] [--patients 60]``

Prints CPU seconds of one patient on one core and their ratio to a plain pass over a film of that
size (one real Fourier transform along time and one exponential), the parts that take longest, the
patients' distributions beside published ones, and the share of perfusion that can be told without
the bolus (unseen patients, beyond tissue class; the bound is `perfnb.data.leaks.BOUND`).
"""

import argparse
import cProfile
import pstats
import time
from collections import Counter

import numpy as np

from perfnb.data import leaks, phantom, realism

SMALL = (64, 64, 12)
PARTS = (
    "draw_anatomy", "draw_lesion", "draw_perfusion", "draw_bolus", "build_library",
    "draw_baseline", "make_film", "find_truth", "move", "add_noise",
)  # fmt: skip


def seconds(work, repeats: int = 3) -> float:
    """Least CPU time of a piece of work."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def report_speed(shape: tuple[int, int, int], n_frames: int) -> None:
    """Print seconds, ratios and parts of one patient, still and moved."""
    film = np.random.default_rng(0).uniform(size=(*shape, n_frames)).astype(np.float32)

    def plain():
        np.fft.rfft(film, axis=-1)
        np.exp(-film)

    phantom.draw_patient("acute", 0, (64, 64, 2), 20)  # load the template
    reference = seconds(plain)
    size = "x".join(map(str, (*shape, n_frames)))
    print(f"one patient of {size}; a plain pass over such a film: {reference:.2f} s")
    for motion in ("none", "considerable"):
        taken = seconds(
            lambda m=motion: phantom.draw_patient("acute", 3, shape, n_frames, motion=m)
        )
        print(f"  motion {motion}: {taken:.2f} s, {taken / reference:.1f} plain passes")
    profile = cProfile.Profile(time.process_time)
    profile.runcall(phantom.draw_patient, "acute", 3, shape, n_frames, motion="considerable")
    found = {key[2]: row[3] for key, row in pstats.Stats(profile).stats.items()}
    print("  of which", ", ".join(f"{name} {found.get(name, 0.0):.2f} s" for name in PARTS))


def draw(cohort: str, count: int) -> tuple[list, list, Counter]:
    """Looks, measurements and lesions of `count` patients at SMALL size."""
    looks, measured, kinds = [], [], Counter()
    for seed in range(count):
        patient = phantom.draw_patient(cohort, 1000 + seed, SMALL)
        looks.append(leaks.look(patient))
        late = np.isin(patient.tissue, (2, 3)) & (patient.truth["Tmax"] > 6)
        measured.append(
            realism.measure(patient)
            | {"penumbra [ml]": patient.facts["penumbra_ml"] or np.nan}
            | {"Tmax > 6 s [ml]": late.sum() * patient.anatomy.voxel_ml}
            | {"white-matter lesions [ml]": patient.facts["wm_lesion_ml"]}
        )
        kinds[patient.facts["lesion"]] += 1
    return looks, measured, kinds


def report_patients(cohort: str, count: int) -> None:
    """Print lesions, distributions and leaks of a cohort."""
    looks, measured, kinds = draw(cohort, count)
    print(f"\n{cohort}: {count} patients of {'x'.join(map(str, SMALL))}; {dict(kinds)}")
    late = np.array([one["Tmax > 6 s [ml]"] for one in measured])
    print(f"  {np.mean(late > 5):.0%} have more than 5 ml with Tmax > 6 s")
    for name in measured[0]:
        values = np.array([one[name] for one in measured])
        values = values[np.isfinite(values)]
        known = realism.PUBLISHED.get(name)
        said = f"; published {known.low:g} to {known.high:g}" if known else ""
        if values.size:
            low, middle, high = np.percentile(values, (5, 50, 95))
            print(f"  {name}: {low:.1f} / {middle:.1f} / {high:.1f} (5, 50, 95 %){said}")
    split = 2 * count // 3
    train, test = looks[:split], looks[split:]
    for name in leaks.MAPS:
        beyond = [
            f"{source} {leaks.known_beyond_tissue(train, test, name, source):+.3f}"
            for source in leaks.SOURCES
        ]
        known = leaks.known_by_tissue(train, test, name)
        print(f"  {name}: R^2 of tissue class {known:.3f}; beyond it {', '.join(beyond)}")
    print(f"  bound {leaks.BOUND}; trained on {split} patients, tested on {count - split}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matrix", type=int, default=128)
    parser.add_argument("--slices", type=int, default=25)
    parser.add_argument("--frames", type=int, default=75)
    parser.add_argument("--patients", type=int, default=60, help="of each cohort; 0 for none")
    options = parser.parse_args()
    print(f"phantom {phantom.PHANTOM_VERSION}")
    report_speed((options.matrix, options.matrix, options.slices), options.frames)
    for cohort in ("acute", "chronic") if options.patients else ():
        report_patients(cohort, options.patients)


if __name__ == "__main__":
    main()
