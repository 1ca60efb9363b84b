"""How good the automatic arterial input is where the truth is known, and how honest its verdict.

``python benchmarks/aif.py [--patients 200] [--moved 150] [--shape 64 64 20]``
``                         [--motion considerable] [--seed 20000]``

Still patients of both cohorts (SNR 30 to 100), against the true arterial curve at the frames'
start. Bars, each in 95 %: r >= 0.98; area ratio 0.9 to 1.1, as read and after the partial-volume
factor told by the vein; arrival (20 % of the peak, on the way up) within half a repetition time;
never a vein. The chronic rater's side ("healthier") is asked for too.

Patients whose head moves by at least 2 mm while the bolus passes (the mean over points 50 mm from
the centre, largest distance between two frames from the arrival to 1.5 widths later), half of each
cohort: after the motion is taken out, as for reference maps, and as the films come. A curve is
*wrong* if r < 0.95, or its arrival is off by more than one repetition time, or its area after the
partial-volume factor is less than 0.67 or more than 1.5 times the truth; else it is good. Bars, for
films whose motion was taken out: a wrong curve passed in at most 5 % of these patients, a good one
refused in at most 20 %; both are also told as a share of the wrong and of the good ones.

Shares come with Wilson intervals (95 %). The thresholds of the verdict were chosen on seeds below
2000; the seeds here are others.
"""

import argparse
import time
from math import sqrt

import numpy as np

from perfnb.classical import signal
from perfnb.classical.aif import find_aif
from perfnb.classical.aif_features import arrival_time
from perfnb.classical.motion import correct_motion
from perfnb.data import acquisition
from perfnb.data.patient import Patient
from perfnb.data.phantom import draw_patient
from perfnb.data.warp import rotation

MOVED_MM = 2.0
COARSE = (8, 8, 4)
POINTS_MM = 50.0 * np.concatenate([np.eye(3), -np.eye(3)])


def judge(patient: Patient, side: str | None = None, corrects: bool = False) -> dict:
    """Find the arterial input of one patient and compare it with the truth."""
    repetition_time_s = patient.repetition_time_s
    series, resampled = patient.series, False
    if corrects:
        motion = correct_motion(series, patient.mask, patient.affine)
        series, resampled = motion.series, motion.moved != "none"
    try:
        baseline = signal.find_baseline(series, patient.mask)
    except ValueError:
        return {"found": False, "ok": False}
    curves = signal.delta_r2star(series, patient.echo_time_s, baseline)
    usable = signal.usable_voxels(series, patient.mask, baseline)
    times = acquisition.slice_offsets(patient.mask.shape[2], repetition_time_s)
    started = time.process_time()
    how = {"side": side, "slice_times_s": times, "resampled": resampled}
    aif = find_aif(curves, usable, repetition_time_s, baseline.arrival, **how)
    seconds = time.process_time() - started
    if not aif.measures:
        return {"found": False, "ok": False, "seconds": seconds}
    true = patient.aif
    error_s = arrival_time(aif.curve, repetition_time_s) - arrival_time(true, repetition_time_s)
    area = float(aif.curve[baseline.arrival :].sum() / true[baseline.arrival :].sum())
    return {
        "found": True,
        "ok": aif.ok,
        "seconds": seconds,
        "r": float(np.corrcoef(aif.curve, true)[0, 1]),
        "area": area,
        "scaled": area * aif.measures["partial_volume"],
        "arrival": error_s / repetition_time_s,
        "vein": bool((aif.voxels & patient.vein).any()),
        "artery": float((aif.voxels & patient.arteries).sum() / aif.voxels.sum()),
        "purest": float(np.sort(patient.anatomy.arteries[patient.mask])[-3]),
    }


def is_wrong(found: dict) -> bool:
    """Tell whether a curve would mislead, as defined above."""
    return found["r"] < 0.95 or abs(found["arrival"]) > 1 or not 1 / 1.5 <= found["scaled"] <= 1.5


def way_during_bolus(patient: Patient) -> float:
    """Largest mean distance between two places of the head while the bolus passes [mm]."""
    times = np.arange(len(patient.motion)) * patient.repetition_time_s
    start = patient.facts["bolus_arrival_s"]
    inside = (times >= start) & (times <= start + 1.5 * patient.facts["bolus_fwhm_s"])
    places = np.stack([POINTS_MM @ rotation(row[3:]).T + row[:3] for row in patient.motion[inside]])
    return float(np.linalg.norm(places[:, None] - places[None], axis=-1).mean(axis=-1).max())


def draw_moved(
    cohort: str, seed: int, shape: tuple[int, int, int], motion: str
) -> tuple[Patient, int]:
    """Draw the next patient who moves enough, and the seed after it."""
    while True:
        coarse = draw_patient(cohort, seed, COARSE, motion=motion)  # who moves alike on any grid
        seed += 1
        if way_during_bolus(coarse) >= MOVED_MM:
            return draw_patient(cohort, seed - 1, shape, motion=motion), seed


def share(flags: list[bool]) -> str:
    """Write a share with its Wilson interval."""
    n, hits = len(flags), sum(flags)
    if not n:
        return "none"
    z = 1.96
    centre = (hits + z * z / 2) / (n + z * z)
    half = z * sqrt(hits * (n - hits) / n + z * z / 4) / (n + z * z)
    return f"{hits / n:6.1%} ({max(centre - half, 0):.1%} to {min(centre + half, 1):.1%})"


def report_still(cohort: str, found: list[dict], title: str) -> None:
    """Print the shares of still patients that meet each bar."""
    seen = [one for one in found if one["found"]]
    rows = {
        "found and passed": [one["ok"] for one in found],
        "r >= 0.98": [one["r"] >= 0.98 for one in seen],
        "arrival within TR/2": [abs(one["arrival"]) < 0.5 for one in seen],
        "area 0.9 to 1.1": [0.9 <= one["area"] <= 1.1 for one in seen],
        "area x factor 0.9 to 1.1": [0.9 <= one["scaled"] <= 1.1 for one in seen],
        "area x factor 0.8 to 1.2": [0.8 <= one["scaled"] <= 1.2 for one in seen],
        "a vein among the voxels": [one["vein"] for one in seen],
        "only artery voxels": [one["artery"] == 1 for one in seen],
        "wrong and passed": [is_wrong(one) and one["ok"] for one in seen],
        "3 voxels at least 90 % artery": [one["purest"] >= 0.9 for one in seen],
    }
    print(f"\n{cohort}, {title}: {len(found)} patients, {len(seen)} with a curve", flush=True)
    for name, flags in rows.items():
        print(f"  {name:32s} {share(flags)}")
    seconds = np.median([one["seconds"] for one in seen])
    print(f"  {'median seconds of find_aif':32s} {seconds:6.3f}")


def report_moved(found: list[dict], title: str) -> None:
    """Print how often the verdict on moved patients errs."""
    seen = [one for one in found if one["found"]]
    wrong = [one for one in seen if is_wrong(one)]
    good = [one for one in seen if not is_wrong(one)]
    rows = {
        "no curve": [not one["found"] for one in found],
        "wrong passed, of all": [one["found"] and is_wrong(one) and one["ok"] for one in found],
        "good refused, of all": [
            one["found"] and not is_wrong(one) and not one["ok"] for one in found
        ],
        "wrong passed, of the wrong": [one["ok"] for one in wrong],
        "good refused, of the good": [not one["ok"] for one in good],
    }
    print(f"\nmoved, {title}: {len(found)} patients, {len(wrong)} wrong, {len(good)} good")
    for name, flags in rows.items():
        print(f"  {name:32s} {share(flags)}")


def main() -> None:
    """Draw, judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=200, help="still patients a cohort")
    parser.add_argument("--moved", type=int, default=150, help="moved patients in all")
    parser.add_argument("--shape", type=int, nargs=3, default=(64, 64, 20))
    parser.add_argument("--motion", default="considerable", help="the phantom's kind of motion")
    parser.add_argument("--seed", type=int, default=20000, help="first seed")
    options = parser.parse_args()
    shape, moved = tuple(options.shape), {"motion taken out": [], "as it comes": []}
    for cohort in acquisition.PROTOCOLS:
        still, sided = [], []
        for seed in range(options.seed, options.seed + options.patients):
            patient = draw_patient(cohort, seed, shape)
            still.append(judge(patient))
            if cohort == "chronic":
                sided.append(judge(patient, side="healthier"))
        if still:
            report_still(cohort, still, "still")
        if sided:
            report_still(cohort, sided, "still, the healthier side's lateral arteries")
        seed = options.seed
        for _ in range(options.moved // 2):
            patient, seed = draw_moved(cohort, seed, shape, options.motion)
            for title, found in moved.items():
                found.append(judge(patient, corrects=title == "motion taken out"))
    for title, found in moved.items():
        if found:
            report_moved(found, title)


if __name__ == "__main__":
    main()
