"""Motion correction against the phantom's true motion, and what it costs.

``python benchmarks/motion.py [--patients 8] [--first-seed 3000] [--rival]``

Prints, for each size of motion, the displacement that brain voxels have before and after the
correction [mm]: mean and 95th percentile over frames, of all frames and of the 20 s after the
bolus arrives; on still films that is motion invented. Beside it: the error of the film in the
brain against the noise-free one at rest, uncorrected, resampled and corrected, as a fraction of
the mean signal; the verdicts; and CPU time as a multiple of one linear resampling of the series.
`--rival` adds SimpleITK's own registration of each frame to the mean baseline frame (Mattes
mutual information), the common way.
"""

import argparse
import time

import numpy as np
import SimpleITK as sitk

from perfnb.classical.motion import correct_motion, resample
from perfnb.classical.rigid import displacement, displacement_between, voxel_size
from perfnb.classical.signal import find_baseline
from perfnb.data.acquisition import MOTIONS
from perfnb.data.phantom import Patient, draw_patient

SHAPE, BOLUS_S = (64, 64, 10), 20.0


def mutual_information(patient: Patient) -> np.ndarray:
    """Parameters (T, 6) from SimpleITK's registration, against the first frame."""
    first = find_baseline(patient.series, patient.mask).frames
    reference = to_image(patient, patient.series[..., first].mean(axis=-1))
    method, last = sitk.ImageRegistrationMethod(), None
    method.SetMetricAsMattesMutualInformation(32)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.001, 60)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetNumberOfThreads(1)
    method.SetMetricFixedMask(sitk.Cast(to_image(patient, patient.mask), sitk.sitkUInt8))
    found = []
    for t in range(patient.series.shape[-1]):
        start = sitk.Euler3DTransform(last) if last else sitk.Euler3DTransform()
        start.SetComputeZYX(True)
        start.SetCenter([float(v) for v in centre_mm(patient)])
        method.SetInitialTransform(start, inPlace=True)
        method.Execute(reference, to_image(patient, patient.series[..., t]))
        last = start
        turns, shift = np.rad2deg(start.GetParameters()[:3]), start.GetParameters()[3:]
        found.append([*shift, *turns])
    return np.array(found)


def centre_mm(patient: Patient) -> np.ndarray:
    """Centre of the volume from its first voxel [mm]."""
    return (np.array(patient.mask.shape) - 1) / 2 * voxel_size(patient.affine)


def to_image(patient: Patient, volume: np.ndarray) -> sitk.Image:
    """A volume (X, Y, Z) as SimpleITK has it."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.T.astype(np.float32)))
    image.SetSpacing([float(v) for v in voxel_size(patient.affine)])
    return image


def cpu_seconds(work) -> tuple[float, object]:
    """CPU time of a piece of work, and its result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def film_error(patient: Patient, series: np.ndarray) -> float:
    """Root mean square error in the brain, as a fraction of its mean signal."""
    truth = patient.noise_free[patient.mask]
    return float(np.sqrt(np.mean((series[patient.mask] - truth) ** 2)) / truth.mean())


def measure(patient: Patient, rival: bool) -> dict:
    """Displacements per frame [mm], film errors, verdict and cost of one patient."""
    place = patient.mask, patient.affine
    seconds, result = cpu_seconds(lambda: correct_motion(patient.series, *place))
    tilted = np.where(result.parameters == 0, 1e-3, result.parameters)  # no frame is skipped
    size_mm = voxel_size(patient.affine)
    once, resampled = cpu_seconds(lambda: resample(patient.series, tilted, size_mm))
    start = int(patient.facts["bolus_arrival_s"] / patient.repetition_time_s)
    bolus = np.arange(patient.series.shape[-1])
    row = {
        "bolus": (bolus >= start) & (bolus <= start + BOLUS_S / patient.repetition_time_s),
        "before": displacement(patient.motion, *place),
        "after": displacement_between(result.parameters, patient.motion, *place),
        "films": [film_error(patient, s) for s in (patient.series, resampled, result.series)],
        "verdict": result.moved + ("" if result.ok else ", not ok"),
        "seconds": seconds,
        "ratio": seconds / once,
    }
    if rival:
        row["rival_seconds"], found = cpu_seconds(lambda: mutual_information(patient))
        row["rival"] = displacement_between(found, patient.motion, *place)
    return row


def print_rows(motion: str, rows: list[dict]) -> None:
    """Print one size of motion."""
    print(f"\n{motion}: {len(rows)} patients")
    for name in ("before", "after", "rival"):
        if name not in rows[0]:
            continue
        every = np.concatenate([row[name] for row in rows])
        bolus = np.concatenate([row[name][row["bolus"]] for row in rows])
        worst = max(row[name].mean() for row in rows)
        worst_bolus = max(row[name][row["bolus"]].mean() for row in rows)
        print(
            f"  {name:7} all frames: mean {every.mean():.3f}, p95 {np.percentile(every, 95):.3f}, "
            f"worst patient {worst:.3f}; bolus: mean {bolus.mean():.3f}, "
            f"p95 {np.percentile(bolus, 95):.3f}, worst patient {worst_bolus:.3f} mm"
        )
    raw, resampled, corrected = np.mean([row["films"] for row in rows], axis=0)
    print(f"  film error: raw {raw:.4f}, resampled {resampled:.4f}, corrected {corrected:.4f}")
    verdicts = [row["verdict"] for row in rows]
    print("  verdicts:", {name: verdicts.count(name) for name in sorted(set(verdicts))})
    seconds, ratio = (np.median([row[name] for row in rows]) for name in ("seconds", "ratio"))
    print(f"  CPU: {seconds:.2f} s a patient, {ratio:.1f} resamplings (medians)")
    if "rival" in rows[0]:
        print(f"  rival's CPU: {np.median([row['rival_seconds'] for row in rows]):.2f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=8, help="patients per size of motion")
    parser.add_argument("--first-seed", type=int, default=3000)
    parser.add_argument("--rival", action="store_true", help="SimpleITK's registration too; slow")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.patients)
    print(f"acute phantom, {SHAPE[0]}x{SHAPE[1]}x{SHAPE[2]}; displacement of brain voxels")
    for motion in MOTIONS:
        drawn = (draw_patient("acute", seed, SHAPE, motion=motion) for seed in seeds)
        print_rows(motion, [measure(patient, options.rival) for patient in drawn])


if __name__ == "__main__":
    main()
