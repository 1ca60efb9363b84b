"""Numbers of the frozen phantom's patients; `python tests/golden_phantom.py` writes them.

Not a hash: sums of floats differ in the last digit between processors. These numbers survive that,
and any change of what is drawn moves them far beyond the tolerance.
"""

import json
from pathlib import Path

import numpy as np

from perfnb.data import phantom

GOLDEN = Path(__file__).with_name("golden_phantom.json")
SHAPE, N_FRAMES = (32, 32, 4), 50
VARIANTS = {
    "acute 1": ("acute", 1, {"motion": "drawn"}),
    "acute 2": ("acute", 2, {"motion": "considerable", "noise_draw": 1}),
    "acute 8": ("acute", 8, {"motion": "bolus", "arterial": "quadratic", "leakage": True}),
    "chronic 1": ("chronic", 1, {}),
    "chronic 2": ("chronic", 2, {"motion": "mild"}),
    "other residue": ("acute", 3, {"held_out": "residue"}),
    "other scanner": ("chronic", 3, {"held_out": "scanner"}),
    "other lesion": ("acute", 4, {"held_out": "lesion"}),
    "other lesion, chronic": ("chronic", 4, {"held_out": "lesion"}),
}


def summary(name: str) -> dict[str, list[float]]:
    """Mean, SD and percentiles of every volume of one patient, and its facts that are numbers."""
    cohort, seed, options = VARIANTS[name]
    patient = phantom.draw_patient(cohort, seed, SHAPE, N_FRAMES, **options)
    scale = 32000 / patient.series.max()
    volumes = {"series": np.rint(patient.series * scale) / scale, "noise_free": patient.noise_free}
    volumes |= patient.truth | {"last frame": patient.series[..., -1]}
    described = {key: _describe(volume[patient.mask]) for key, volume in volumes.items()}
    described["aif"] = _describe(patient.aif)
    described["motion"] = np.abs(patient.motion).mean(0).tolist()
    numbers = {k: v for k, v in patient.facts.items() if isinstance(v, float | int)}
    described["facts"] = [float(numbers[key]) for key in sorted(numbers)]
    return described


def _describe(values: np.ndarray) -> list[float]:
    values = np.asarray(values, float)
    return [values.mean(), values.std(), *np.percentile(values, (5, 50, 95))]


def main() -> None:
    """Write the numbers of the present phantom."""
    golden = {"version": phantom.PHANTOM_VERSION} | {name: summary(name) for name in VARIANTS}
    GOLDEN.write_text(json.dumps(golden, indent=0) + "\n")


if __name__ == "__main__":
    main()
