"""How the scanner sees a brain: contrast before the bolus, slice order, noise and drift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from perfnb.data.anatomy import Anatomy
from perfnb.data.movement import MOTIONS, draw_motion, move
from perfnb.data.warp import sample, smooth_field

__all__ = [
    "FLIP_ANGLE_DEG", "HELD_OUT_SCANNERS", "MOTIONS", "PROTOCOLS", "Protocol", "add_noise",
    "approach_to_steady_state", "draw_baseline", "draw_motion", "move", "pulsatile_share", "scalp",
    "slice_offsets",
]  # fmt: skip
FLIP_ANGLE_DEG = 60.0


@dataclass(frozen=True)
class Protocol:
    """One scanner's echo-planar protocol.

    `arterial_peak` is the peak dR2* of pure arterial blood at the mean dose [1/s]; `snr` the range
    of the baseline's signal-to-noise ratio; `coil` the size of the smooth coil profile.
    """

    repetition_time_s: float
    echo_time_s: float
    field_of_view_mm: float
    frames: tuple[int, int]
    arrival_frames: tuple[float, float]
    arterial_peak: float
    field_strength_t: float = 3.0
    flip_angle_deg: float = FLIP_ANGLE_DEG
    slice_order: str = "interleaved"
    snr: tuple[float, float] = (30.0, 100.0)
    coil: float = 0.15


PROTOCOLS = {
    "acute": Protocol(2.22, 0.036, 240.0, (50, 75), (9.0, 12.0), 46.0),
    "chronic": Protocol(1.39, 0.029, 230.4, (80, 80), (9.0, 14.0), 55.0),
}
"""The two cohorts' protocols, times and geometry as in Kossen et al. 2023."""
HELD_OUT_SCANNERS = {
    "acute": Protocol(
        2.0, 0.05, 220.0, (60, 70), (10.0, 13.0), 30.0, 1.5, 80.0, "ascending", (25.0, 60.0), 0.3
    ),
    "chronic": Protocol(
        1.6, 0.045, 220.0, (70, 70), (9.0, 12.0), 34.0, 1.5, 80.0, "ascending", (25.0, 60.0), 0.3
    ),
}
"""An older scanner at 1.5 T that no patient meets unless asked for."""

RELAXATION = {
    3.0: {
        "GM": (0.82, 1.30, 0.055),
        "WM": (0.71, 0.85, 0.048),
        "CSF": (1.00, 4.00, 0.250),
        "artery": (0.85, 1.65, 0.050),
        "vein": (0.85, 1.65, 0.025),
    },
    1.5: {
        "GM": (0.82, 1.10, 0.084),
        "WM": (0.71, 0.70, 0.066),
        "CSF": (1.00, 4.00, 0.400),
        "artery": (0.85, 1.45, 0.150),
        "vein": (0.85, 1.45, 0.060),
    },
}
"""Water content, T1 [s] and T2* [s] by field strength [T], textbook values (3 T: Wansapura et al.,
JMRI 9:531, 1999; Lu et al., MRM 52:679, 2004, for blood; T2* at 1.5 T: Peters et al., Magn Reson
Imaging 25:748, 2007)."""
GLIOSIS = (1.12, 1.15, 1.35)
"""Factors on water, T1 and T2* of scarred white matter: bright on T2*-weighted images."""


def slice_offsets(
    n_slices: int, repetition_time_s: float, order: str = "interleaved"
) -> np.ndarray:
    """Time after a frame's start at which each slice is taken, shape (Z,) [s]."""
    places = np.arange(n_slices)
    if order == "interleaved":
        places = np.r_[np.arange(0, n_slices, 2), np.arange(1, n_slices, 2)]
    offsets = np.empty(n_slices)
    offsets[places] = np.arange(n_slices) * repetition_time_s / n_slices
    return offsets


def draw_baseline(
    rng: np.random.Generator, anatomy: Anatomy, protocol: Protocol
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the signal of each compartment before the bolus.

    Parameters
    ----------
    rng : numpy Generator
        Source of relaxation times, gain, coil profile and drop-out; independent of perfusion.
    anatomy : Anatomy
        The patient's brain.
    protocol : Protocol
        Field strength, TR, TE, flip angle and coil.

    Returns
    -------
    signal : float array, shape (5, N)
        Steady-state signal of pure GM, WM, CSF, artery and vein in each mask voxel [a.u.].
    t1_s : float array, shape (5,)
        T1 of the compartments [s].
    """
    known = RELAXATION[protocol.field_strength_t]
    water, t1, t2star = (np.array([values[i] for values in known.values()]) for i in range(3))
    t1, t2star = t1 * rng.uniform(0.9, 1.1, 5), t2star * rng.uniform(0.9, 1.1, 5)
    points = anatomy.points_mm
    rate = (1 / t2star)[:, None] * (1 + 0.04 * np.stack(
        [sample(smooth_field(rng, 12.0), points) for _ in known]))  # fmt: skip
    steady = water * _steady_state(t1, protocol)
    gain = 1500.0 * np.exp(0.4 * rng.standard_normal())
    coil = np.exp(protocol.coil * sample(smooth_field(rng, 40.0), points))
    rate = rate + _susceptibility(rng, anatomy.template_mm) * protocol.field_strength_t / 3.0
    signal = gain * coil * steady[:, None] * np.exp(-protocol.echo_time_s * rate)
    scarred = water[1] * GLIOSIS[0] * _steady_state(t1[1:2] * GLIOSIS[1], protocol) / steady[1]
    scarred = scarred * np.exp(protocol.echo_time_s / t2star[1] * (1 - 1 / GLIOSIS[2]))
    signal[1] *= 1 + anatomy.gliosis * (scarred - 1)
    return signal, t1


def _steady_state(t1_s: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Transverse magnetisation of a spoiled sequence, before it decays; shape (C,)."""
    angle = np.deg2rad(protocol.flip_angle_deg)
    decay = np.exp(-protocol.repetition_time_s / t1_s)
    return np.sin(angle) * (1 - decay) / (1 - decay * np.cos(angle))


def _susceptibility(rng: np.random.Generator, template_mm: np.ndarray) -> np.ndarray:
    """Extra R2* above the air of frontal sinus and ear canals, shape (N,) [1/s]."""
    extra = np.zeros(template_mm.shape[1])
    for centre, reach in (((0, 40, -30), 14.0), ((48, -22, -34), 11.0), ((-48, -22, -34), 11.0)):
        away = ((template_mm - np.array(centre, float)[:, None]) ** 2).sum(0)
        extra += rng.uniform(20.0, 80.0) * np.exp(
            -0.5 * away / (reach * rng.uniform(0.8, 1.2)) ** 2
        )
    return extra


def approach_to_steady_state(
    t1_s: np.ndarray,
    repetition_time_s: float,
    n_frames: int,
    dummies: int,
    flip_angle_deg: float = FLIP_ANGLE_DEG,
) -> np.ndarray:
    """Signal of the first frames against the steady state.

    Parameters
    ----------
    t1_s : float array, shape (C,)
        Longitudinal relaxation times [s].
    repetition_time_s : float
        Repetition time [s].
    n_frames, dummies : int
        Frames kept, and pulses thrown away before them.
    flip_angle_deg : float
        Flip angle [degrees].

    Returns
    -------
    float array, shape (C, n_frames)
        Falls to 1.
    """
    decay, cosine = np.exp(-repetition_time_s / t1_s), np.cos(np.deg2rad(flip_angle_deg))
    steady = (1 - decay) / (1 - decay * cosine)
    pulses = dummies + np.arange(n_frames)
    left = (decay * cosine)[:, None] ** pulses
    return 1 + (1 / steady - 1)[:, None] * left


def scalp(mask: np.ndarray, affine: np.ndarray, level: float) -> np.ndarray:
    """Faint fat-suppressed scalp around the head, shape (X, Y, Z) [a.u.]."""
    size = np.diag(affine)[:3]
    away = np.stack(
        [distance_transform_edt(~mask[:, :, z], sampling=size[:2]) if mask[:, :, z].any()
         else np.full(mask.shape[:2], 99.0) for z in range(mask.shape[2])], axis=2)  # fmt: skip
    return level * np.exp(-0.5 * ((away - 11.0) / 2.0) ** 2) * ~mask


def pulsatile_share(anatomy: Anatomy) -> np.ndarray:
    """How much of each voxel beats with the heart, shape (X, Y, Z): arteries, less so fluid."""
    return (anatomy.arteries + 0.4 * anatomy.csf).astype(np.float32)


def add_noise(
    rng: np.random.Generator,
    series: np.ndarray,
    snr: float,
    level: float,
    repetition_time_s: float,
    pulsatile: np.ndarray | None = None,
) -> np.ndarray:
    """Add scanner drift, breathing, heartbeat and Rician noise (Gudbjartsson, MRM 34:910, 1995).

    Physiological noise grows with the signal (Kruger and Glover, MRM 46:631, 2001): breathing
    moves all of it by 0.3 to 0.9 %, the heartbeat by up to 2 % where `pulsatile` is 1.

    Parameters
    ----------
    rng : numpy Generator
        Source of all draws.
    series : float32 array, shape (X, Y, Z, T)
        Noise-free signal [a.u.].
    snr, level : float
        `level` / `snr` is the standard deviation of the noise in each channel.
    repetition_time_s : float
        Repetition time [s].
    pulsatile : float32 array, shape (X, Y, Z), optional
        Share of each voxel that beats with the heart; None for nothing.

    Returns
    -------
    float32 array, shape (X, Y, Z, T)
    """
    steady, beat = _unsteadiness(rng, series.shape[-1], repetition_time_s)
    sigma, noisy = np.float32(level / snr), np.empty_like(series)
    for x, (plane, out) in enumerate(zip(series, noisy, strict=True)):
        gain = steady if pulsatile is None else steady + pulsatile[x][..., None] * beat
        real = plane * gain
        noise = rng.standard_normal((2, *plane.shape), np.float32)
        noise *= sigma
        real += noise[0]
        real *= real
        noise[1] *= noise[1]
        real += noise[1]
        np.sqrt(real, out=out)
    return noisy


def _unsteadiness(
    rng: np.random.Generator, n_frames: int, repetition_time_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Relative signal of all tissue, drifting and breathing, and of the heartbeat; float32 (T,)."""
    time = np.arange(n_frames) * repetition_time_s
    drift = rng.normal(0.0, 0.01) * np.linspace(-0.5, 0.5, n_frames)
    steady = 1 + drift + rng.uniform(0.003, 0.009) * _wave(rng, time, (0.2, 0.3))
    beat = rng.uniform(0.005, 0.02) * _wave(rng, time, (0.9, 1.4))
    return steady.astype(np.float32), beat.astype(np.float32)


def _wave(rng: np.random.Generator, time: np.ndarray, rates: tuple[float, float]) -> np.ndarray:
    """A wave of size 1 whose rate [1/s] wanders by some percent, shape (T,)."""
    step = np.diff(time, prepend=time[0])
    wander = 1 + 0.05 * rng.standard_normal(time.size)
    turns = rng.uniform() + np.cumsum(rng.uniform(*rates) * wander * step)
    return np.sin(2 * np.pi * turns)
