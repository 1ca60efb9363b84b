"""A simulated patient: the film, and every truth behind it. Not for clinical use.

One seed gives one patient. Each part (brain, lesion, perfusion, bolus, contrast, protocol, noise,
motion) draws from its own child stream, so that a new draw in one part leaves the others alone.
"""

from __future__ import annotations

import numpy as np

from perfnb.data import acquisition, bolus, film
from perfnb.data.anatomy import LABELS, draw_anatomy
from perfnb.data.pathology import draw_lesion
from perfnb.data.patient import Patient, write_patient
from perfnb.data.physiology import draw_perfusion

__all__ = ["Patient", "draw_patient", "write_patient"]

MIN_FRAMES = 20
STREAMS = ("anatomy", "lesion", "perfusion", "bolus", "contrast", "protocol", "noise", "motion")


def draw_patient(
    cohort: str,
    seed: int,
    shape: tuple[int, int, int] = (64, 64, 12),
    n_frames: int | None = None,
    noise: bool = True,
    motion: str = "none",
) -> Patient:
    """Draw a patient: brain, lesion, perfusion, bolus and film.

    Parameters
    ----------
    cohort : str
        "acute" (TR 2.22 s, TE 36 ms, 50 to 75 frames) or "chronic" (1.39 s, 29 ms, 80 frames).
    seed : int
        Decides everything; the same seed is the same patient, bit for bit.
    shape : tuple
        Voxels (X, Y, Z); the brain stays the same on every grid.
    n_frames : int, optional
        Time points; None draws the cohort's. The whole passage needs about 50 (acute) or 70.
    noise : bool
        False leaves out noise, drift and motion: the series is the noise-free film.
    motion : str
        "none", "mild" or "considerable".

    Returns
    -------
    Patient

    Raises
    ------
    ValueError
        If a parameter is unknown or out of range.
    """
    _check(cohort, seed, shape, n_frames, motion)
    streams = _streams(cohort, seed)
    protocol = acquisition.PROTOCOLS[cohort]
    n_frames, arrival_s, snr, dummies = _session(streams["protocol"], protocol, n_frames)
    anatomy = draw_anatomy(streams["anatomy"], tuple(shape), protocol.field_of_view_mm)
    lesion = draw_lesion(cohort, streams["lesion"], anatomy)
    perfusion = draw_perfusion(streams["perfusion"], anatomy, lesion)
    length_s = (n_frames + 1) * protocol.repetition_time_s
    injection = bolus.draw_bolus(streams["bolus"], arrival_s, length_s, protocol.arterial_peak)
    table = bolus.build_library(
        injection, perfusion.mtt_index.ravel(), np.tile(perfusion.dispersion_index, 2)
    )
    passage = film.Passage(anatomy, perfusion, lesion, injection, protocol, n_frames, table)
    baseline, t1_s = acquisition.draw_baseline(streams["contrast"], anatomy, protocol)
    start = acquisition.approach_to_steady_state(
        t1_s, protocol.repetition_time_s, n_frames, dummies
    )
    noise_free, level = film.make_film(passage, baseline, start)
    path = acquisition.draw_motion(streams["motion"], motion if noise else "none", n_frames)
    series = noise_free
    if noise:
        series = acquisition.move(noise_free, path, anatomy.affine)
        series = acquisition.add_noise(
            streams["noise"], series, snr, level, protocol.repetition_time_s
        )
    facts = {"snr": snr, "dummies": dummies, "motion": motion}
    return _assemble(cohort, seed, passage, series, noise_free, path, facts)


def _check(cohort: str, seed: int, shape: tuple, n_frames: int | None, motion: str) -> None:
    """Raise a ValueError that names the first parameter that is unknown or out of range."""
    for name, value, known in (
        ("cohort", cohort, acquisition.PROTOCOLS),
        ("motion", motion, acquisition.MOTIONS),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown: choose one of {', '.join(known)}")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed={seed!r}: a whole number from 0 on is needed")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape={shape!r}: three positive numbers of voxels (X, Y, Z) are needed")
    if n_frames is not None and n_frames < MIN_FRAMES:
        raise ValueError(
            f"n_frames={n_frames}: give at least {MIN_FRAMES}, or None for the cohort's"
        )


def _streams(cohort: str, seed: int) -> dict[str, np.random.Generator]:
    """One independent generator per name in STREAMS."""
    root = np.random.SeedSequence([seed, list(acquisition.PROTOCOLS).index(cohort)])
    children = root.spawn(len(STREAMS))
    return {n: np.random.default_rng(child) for n, child in zip(STREAMS, children, strict=True)}


def _session(
    rng: np.random.Generator, protocol: acquisition.Protocol, n_frames: int | None
) -> tuple[int, float, float, int]:
    """Frames, arrival of the bolus [s], signal-to-noise ratio and dummy pulses of one session."""
    drawn = int(rng.integers(protocol.frames[0], protocol.frames[1] + 1))
    arrival = rng.uniform(*protocol.arrival_frames) * protocol.repetition_time_s
    snr, dummies = float(rng.uniform(30.0, 100.0)), int(rng.integers(0, 3))
    return n_frames or drawn, float(arrival), snr, dummies


def _assemble(
    cohort: str, seed: int, passage: film.Passage, series: np.ndarray, noise_free: np.ndarray,
    path: np.ndarray, facts: dict,
) -> Patient:  # fmt: skip
    """Collect series, truths and facts of one passage."""
    anatomy, lesion = passage.anatomy, passage.lesion
    protocol, injection = passage.protocol, passage.injection
    tissue = np.isin(anatomy.tissue, (LABELS["GM"], LABELS["WM"]))
    core, penumbra = np.zeros(anatomy.mask.shape, bool), np.zeros(anatomy.mask.shape, bool)
    core[anatomy.mask] = lesion.core > 0.5
    penumbra[anatomy.mask] = (lesion.core + lesion.penumbra > 0.5) & (lesion.core <= 0.5)
    aif = np.interp(
        passage.frames_s, np.arange(injection.curve.size) * bolus.STEP_S, injection.curve
    )
    facts = facts | {"relaxivity_ratio": film.RELAXIVITY_RATIO}
    facts |= anatomy.facts | lesion.facts | passage.perfusion.facts | injection.facts
    facts |= {"core_ml": float((core & tissue).sum() * anatomy.voxel_ml)}
    facts |= {"penumbra_ml": float((penumbra & tissue).sum() * anatomy.voxel_ml)}
    return Patient(
        cohort, int(seed), series, anatomy.affine, protocol.repetition_time_s,
        protocol.echo_time_s, anatomy.mask, anatomy.tissue, film.find_truth(passage),
        core & tissue, penumbra & tissue, anatomy.tissue == LABELS["artery"],
        anatomy.tissue == LABELS["vein"], aif, path, noise_free, anatomy, facts,
    )  # fmt: skip
