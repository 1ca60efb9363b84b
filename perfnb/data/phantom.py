"""A simulated patient: the film, and every truth behind it. Not for clinical use.

One seed gives one patient. Each part (brain, lesion, perfusion, bolus, contrast, protocol, noise,
motion) draws from its own child stream, so that a new draw in one part leaves the others alone.
The phantom is frozen: a patient stays the same, number for number, as long as PHANTOM_VERSION does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfnb.data import acquisition, bolus, film, movement, pathology
from perfnb.data.acquisition import Protocol
from perfnb.data.anatomy import LABELS, draw_anatomy
from perfnb.data.patient import Patient, write_patient
from perfnb.data.physiology import draw_perfusion

__all__ = ["PHANTOM_VERSION", "Patient", "draw_patient", "write_patient"]

PHANTOM_VERSION = "1.0"
MIN_FRAMES = 20
STREAMS = ("anatomy", "lesion", "perfusion", "bolus", "contrast", "protocol", "noise", "motion")
HELD_OUT = ("residue", "scanner", "lesion")


def draw_patient(
    cohort: str,
    seed: int,
    shape: tuple[int, int, int] = (64, 64, 12),
    n_frames: int | None = None,
    noise: bool = True,
    motion: str = "none",
    *,
    noise_draw: int = 0,
    held_out: str | None = None,
    arterial: str = "linear",
    leakage: bool = False,
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
        False leaves out noise, drift and pulsation; the patient still moves as `motion` says.
    motion : str
        "none", "mild" or "considerable"; "bolus" for a considerable nod while the bolus passes;
        "drawn" for one of the first three, as often as in patients.
    noise_draw : int
        0, 1, ...: the same patient, moving alike, scanned with independent noise.
    held_out : str, optional
        What no other patient has: "residue" (another shape of residue), "scanner" (1.5 T with
        other times, contrast, coil and slice order) or "lesion" (acute: scattered emboli; chronic:
        both sides narrowed). The rest of the patient is drawn as ever.
    arterial : str
        "linear", or "quadratic": blood's dR2* grows with concentration as `classical.relaxivity`
        says.
    leakage : bool
        Agent leaks out of the vessels in the lesion, as in `film.LEAK_PER_S`.

    Returns
    -------
    Patient

    Raises
    ------
    ValueError
        If a parameter is unknown or out of range.
    """
    choices = {"motion": motion, "held_out": held_out, "arterial": arterial}
    _check(cohort, seed, shape, n_frames, noise_draw, choices)
    streams = _streams(cohort, seed, noise_draw)
    protocols = acquisition.HELD_OUT_SCANNERS if held_out == "scanner" else acquisition.PROTOCOLS
    protocol = protocols[cohort]
    session = _session(streams["protocol"], protocol, n_frames)
    passage = _draw_passage(cohort, streams, tuple(shape), protocol, session, held_out)
    passage = replace(passage, arterial=arterial, has_leak=leakage)
    baseline, t1_s = acquisition.draw_baseline(streams["contrast"], passage.anatomy, protocol)
    start = acquisition.approach_to_steady_state(
        t1_s, protocol.repetition_time_s, passage.n_frames, session["dummies"],
        protocol.flip_angle_deg,
    )  # fmt: skip
    noise_free, level = film.make_film(passage, baseline, start)
    kind = movement.draw_class(streams["motion"], motion)
    path = _draw_path(streams["motion"], kind, passage)
    series = acquisition.move(noise_free, path, passage.anatomy.affine)
    if noise:
        series = acquisition.add_noise(
            streams["noise"], series, session["snr"], level, protocol.repetition_time_s,
            acquisition.pulsatile_share(passage.anatomy),
        )  # fmt: skip
    facts = {
        "phantom_version": PHANTOM_VERSION, "snr": session["snr"], "dummies": session["dummies"],
        "motion": kind, "noise": noise, "noise_draw": noise_draw, "held_out": held_out or "nothing",
        "arterial": arterial, "leakage": leakage,
    }  # fmt: skip
    return _assemble(cohort, seed, passage, series, noise_free, path, facts)


def _check(
    cohort: str, seed: int, shape: tuple, n_frames: int | None, noise_draw: int, choices: dict
) -> None:
    """Raise a ValueError that names the first parameter that is unknown or out of range."""
    choices = {"cohort": cohort} | choices
    known = {
        "cohort": tuple(acquisition.PROTOCOLS), "motion": movement.CHOICES,
        "held_out": (None, *HELD_OUT), "arterial": film.ARTERIAL,
    }  # fmt: skip
    for name, value in choices.items():
        if value not in known[name]:
            listed = ", ".join(str(choice) for choice in known[name])
            raise ValueError(f"{name}={value!r} is unknown: choose one of {listed}")
    for name, value in (("seed", seed), ("noise_draw", noise_draw)):
        if not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{name}={value!r}: a whole number from 0 on is needed")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape={shape!r}: three positive numbers of voxels (X, Y, Z) are needed")
    if n_frames is not None and n_frames < MIN_FRAMES:
        raise ValueError(
            f"n_frames={n_frames}: give at least {MIN_FRAMES}, or None for the cohort's"
        )


def _streams(cohort: str, seed: int, noise_draw: int) -> dict[str, np.random.Generator]:
    """One independent generator per name in STREAMS; each noise draw has its own."""
    root = np.random.SeedSequence([seed, list(acquisition.PROTOCOLS).index(cohort)])
    children = dict(zip(STREAMS, root.spawn(len(STREAMS)), strict=True))
    if noise_draw:
        children["noise"] = children["noise"].spawn(noise_draw)[-1]
    streams = {name: np.random.default_rng(child) for name, child in children.items()}
    streams["noise"] = np.random.Generator(np.random.SFC64(children["noise"]))  # the fastest
    return streams


def _session(rng: np.random.Generator, protocol: Protocol, n_frames: int | None) -> dict:
    """Frames, arrival of the bolus [s], signal-to-noise ratio and dummy pulses of one session."""
    drawn = int(rng.integers(protocol.frames[0], protocol.frames[1] + 1))
    arrival = rng.uniform(*protocol.arrival_frames) * protocol.repetition_time_s
    return {
        "n_frames": n_frames or drawn,
        "arrival_s": float(arrival),
        "snr": float(rng.uniform(*protocol.snr)),
        "dummies": int(rng.integers(0, 3)),
    }


def _draw_passage(
    cohort: str, streams: dict, shape: tuple, protocol: Protocol, session: dict,
    held_out: str | None,
) -> film.Passage:  # fmt: skip
    """Draw brain, lesion, perfusion and bolus."""
    anatomy = draw_anatomy(streams["anatomy"], shape, protocol.field_of_view_mm)
    kind = pathology.HELD_OUT_KINDS[cohort] if held_out == "lesion" else None
    lesion = pathology.draw_lesion(cohort, streams["lesion"], anatomy, kind)
    perfusion = draw_perfusion(streams["perfusion"], anatomy, lesion)
    length_s = (session["n_frames"] + 1) * protocol.repetition_time_s
    injection = bolus.draw_bolus(
        streams["bolus"], session["arrival_s"], length_s, protocol.arterial_peak,
        is_slow=lesion.facts["lesion"] == "low output",
        residue=bolus.HELD_OUT_RESIDUE if held_out == "residue" else None,
    )  # fmt: skip
    table = bolus.build_library(
        injection, perfusion.mtt_index.ravel(), np.tile(perfusion.dispersion_index, 2)
    )
    return film.Passage(anatomy, perfusion, lesion, injection, protocol, session["n_frames"], table)


def _draw_path(rng: np.random.Generator, motion: str, passage: film.Passage) -> np.ndarray:
    """How the head moves, shape (T, 6); a nod "during the bolus" begins in its first pass."""
    injection, tr_s = passage.injection, passage.protocol.repetition_time_s
    first = injection.arrival_s / tr_s
    during = (first, first + injection.fwhm_s / tr_s)
    return movement.draw_motion(rng, motion, passage.n_frames, during)


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
    penumbra &= lesion.penumbra.any()  # a reopened artery leaves none
    aif = np.interp(
        passage.frames_s, np.arange(injection.curve.size) * bolus.STEP_S, injection.curve
    )
    facts = facts | {"relaxivity_ratio": film.RELAXIVITY_RATIO} | {
        name: getattr(protocol, name)
        for name in ("field_strength_t", "flip_angle_deg", "slice_order")
    }  # fmt: skip
    facts |= anatomy.facts | lesion.facts | passage.perfusion.facts | injection.facts
    facts |= {"core_ml": float((core & tissue).sum() * anatomy.voxel_ml)}
    facts |= {"penumbra_ml": float((penumbra & tissue).sum() * anatomy.voxel_ml)}
    return Patient(
        cohort, int(seed), series, anatomy.affine, protocol.repetition_time_s,
        protocol.echo_time_s, anatomy.mask, anatomy.tissue, film.find_truth(passage),
        core & tissue, penumbra & tissue, anatomy.tissue == LABELS["artery"],
        anatomy.tissue == LABELS["vein"], aif, path, noise_free, anatomy, facts,
    )  # fmt: skip
