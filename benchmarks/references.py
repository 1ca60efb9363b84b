"""How near the acute cohort's reference maps come to their teacher's on a perfect film.

``python benchmarks/references.py [--patients 10] [--seed 12]``

The teacher is the same pipeline on the noise-free film of the same patient at rest, with the true
arterial curve. Printed for each map: correlation in tissue of reference and teacher, and of each
with the truth (median and range over patients), and how often the arterial input was replaced or
missing. Patients move as often as the cohort's.
"""

import argparse

import numpy as np
import pandas as pd

from perfnb import study as studies
from perfnb.classical.aif import NoAIF
from perfnb.classical.references import reference_maps
from perfnb.data.acquisition import slice_offsets
from perfnb.data.cohorts import patient_seed
from perfnb.data.phantom import draw_patient
from perfnb.data.preparation import GREY_AND_WHITE
from perfnb.maps import MAPS


def compare(seed: int, settings) -> list[dict]:
    """Return one row a map of one patient: correlations in tissue; none without an AIF."""
    patient = draw_patient("acute", seed, (64, 64, 20), motion="drawn")
    times = (patient.repetition_time_s, patient.echo_time_s)
    offsets = slice_offsets(patient.mask.shape[2], patient.repetition_time_s)
    size = tuple(np.abs(np.diag(patient.affine)[:3]))
    common = {"smoothing_mm": settings["smoothing_mm"], "threshold": settings["threshold"]}
    common |= {"method": settings["method"], "slice_times_s": offsets}
    options = {name: settings[name] for name in ("search", "corrects_motion", "rescale_by_vein")}
    try:
        made = reference_maps(patient.series, patient.mask, *times, size, **common, **options)
    except NoAIF:
        return [{"motion": patient.facts["motion"], "aif": "none"}]
    taught = reference_maps(
        patient.noise_free, patient.mask, *times, size, aif_curve=patient.aif, **common
    ).maps
    tissue = np.isin(patient.tissue, GREY_AND_WHITE) & patient.mask

    def r(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.corrcoef(one[tissue], other[tissue])[0, 1])

    about = {"motion": patient.facts["motion"], "aif": made.aif_source}
    return [
        {
            **about,
            "map": name,
            "reference, teacher": r(made.maps[name], taught[name]),
            "reference, truth": r(made.maps[name], patient.truth[name]),
            "teacher, truth": r(taught[name], patient.truth[name]),
        }
        for name in MAPS
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=10)
    parser.add_argument("--seed", type=int, default=12)
    options = parser.parse_args()
    settings = studies.start("04_prepare", "small", "acute").settings
    rows = []
    for index in range(options.patients):
        seed = patient_seed("acute", options.seed, index)
        rows += [{"patient": index, **row} for row in compare(seed, settings)]
    table = pd.DataFrame(rows)
    inputs = table.drop_duplicates("patient").groupby(["motion", "aif"]).size()
    print(inputs.unstack(fill_value=0).to_string(), "\n")
    found = table.dropna(subset=["map"]).drop(columns=["patient", "motion", "aif"])
    print(found.groupby("map").agg(["median", "min", "max"]).round(3).to_string())


if __name__ == "__main__":
    main()
