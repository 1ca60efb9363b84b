"""How the scanner sees a brain: contrast before the bolus, slice order, noise, drift and motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform, distance_transform_edt

from perfnb.data.anatomy import Anatomy
from perfnb.data.warp import rotation, sample, smooth_field


@dataclass(frozen=True)
class Protocol:
    """One cohort's echo-planar protocol, as the paper states it.

    `arterial_peak` is the peak dR2* of pure arterial blood at the mean dose [1/s].
    """

    repetition_time_s: float
    echo_time_s: float
    field_of_view_mm: float
    frames: tuple[int, int]
    arrival_frames: tuple[float, float]
    arterial_peak: float


PROTOCOLS = {
    "acute": Protocol(2.22, 0.036, 240.0, (50, 75), (9.0, 12.0), 46.0),
    "chronic": Protocol(1.39, 0.029, 230.4, (80, 80), (9.0, 14.0), 55.0),
}
MOTIONS = {"none": (0.0, 0.0), "mild": (0.5, 0.6), "considerable": (2.0, 2.5)}
"""Size of a patient's motion: shift [mm] and turn [degrees]."""

# Water content, T1 [s] and T2* [s] at 3 T, textbook values (Wansapura et al., JMRI 9:531, 1999;
# Lu et al., MRM 52:679, 2004, for blood).
RELAXATION = {
    "GM": (0.82, 1.30, 0.055),
    "WM": (0.71, 0.85, 0.048),
    "CSF": (1.00, 4.00, 0.250),
    "artery": (0.85, 1.65, 0.050),
    "vein": (0.85, 1.65, 0.025),
}
FLIP_ANGLE_DEG = 60.0


def slice_offsets(n_slices: int, repetition_time_s: float) -> np.ndarray:
    """Time after a frame's start at which each slice is taken, interleaved, shape (Z,) [s]."""
    order = np.r_[np.arange(0, n_slices, 2), np.arange(1, n_slices, 2)]
    offsets = np.empty(n_slices)
    offsets[order] = np.arange(n_slices) * repetition_time_s / n_slices
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
        TR and TE.

    Returns
    -------
    signal : float array, shape (5, N)
        Steady-state signal of pure GM, WM, CSF, artery and vein in each mask voxel [a.u.].
    t1_s : float array, shape (5,)
        T1 of the compartments [s].
    """
    names = list(RELAXATION)
    water, t1, t2star = (np.array([RELAXATION[name][i] for name in names]) for i in range(3))
    t1, t2star = t1 * rng.uniform(0.9, 1.1, 5), t2star * rng.uniform(0.9, 1.1, 5)
    points = anatomy.points_mm
    rate = (1 / t2star)[:, None] * (1 + 0.04 * np.stack(
        [sample(smooth_field(rng, 12.0), points) for _ in names]))  # fmt: skip
    angle, decay = np.deg2rad(FLIP_ANGLE_DEG), np.exp(-protocol.repetition_time_s / t1)
    steady = water * np.sin(angle) * (1 - decay) / (1 - decay * np.cos(angle))
    gain = 1500.0 * np.exp(0.4 * rng.standard_normal())
    coil = np.exp(0.15 * sample(smooth_field(rng, 40.0), points))
    rate = rate + _susceptibility(rng, anatomy.template_mm)
    return gain * coil * steady[:, None] * np.exp(-protocol.echo_time_s * rate), t1


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
    t1_s: np.ndarray, repetition_time_s: float, n_frames: int, dummies: int
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

    Returns
    -------
    float array, shape (C, n_frames)
        Falls to 1.
    """
    decay, cosine = np.exp(-repetition_time_s / t1_s), np.cos(np.deg2rad(FLIP_ANGLE_DEG))
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


def draw_motion(rng: np.random.Generator, motion: str, n_frames: int) -> np.ndarray:
    """Draw how the head moves: mostly a slow drift and sudden nods.

    Parameters
    ----------
    rng : numpy Generator
        Source of all draws.
    motion : str
        Name in MOTIONS.
    n_frames : int
        Frames.

    Returns
    -------
    float array, shape (n_frames, 6)
        Shifts along x, y, z [mm] and turns about x, y, z [degrees]; the first frame is 0.
    """
    shift, turn = MOTIONS[motion]
    sizes = np.array([0.5, 0.7, 1.0, 1.0, 0.4, 0.5]) * np.r_[[shift] * 3, [turn] * 3]
    walk = np.cumsum(rng.standard_normal((n_frames, 6)), axis=0) / np.sqrt(n_frames)
    jumps = (rng.uniform(size=(n_frames, 1)) < 3.0 / n_frames) * rng.standard_normal((n_frames, 6))
    path = sizes * (walk + np.cumsum(jumps, axis=0))
    return path - path[0]


def move(series: np.ndarray, motion: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Move each frame rigidly about the centre of the volume, shape (X, Y, Z, T)."""
    if not motion.any():
        return series
    size, centre = np.diag(affine)[:3], (np.array(series.shape[:3]) - 1) / 2
    moved = np.empty_like(series)
    for t, (x, y, z, *turns) in enumerate(motion):
        matrix = rotation(np.array(turns)).T * size[None, :] / size[:, None]
        back = np.array([sum(row * (centre + np.array([x, y, z]) / size)) for row in matrix])
        moved[..., t] = affine_transform(
            series[..., t], matrix, centre - back, order=1, mode="nearest"
        )
    return moved


def add_noise(
    rng: np.random.Generator, series: np.ndarray, snr: float, level: float, repetition_time_s: float
) -> np.ndarray:
    """Add scanner drift, a breathing wave and Rician noise (Gudbjartsson, MRM 34:910, 1995).

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

    Returns
    -------
    float32 array, shape (X, Y, Z, T)
    """
    n_frames = series.shape[-1]
    time = np.arange(n_frames) * repetition_time_s
    drift = rng.normal(0.0, 0.01) * np.linspace(-0.5, 0.5, n_frames)
    wave = 0.003 * np.sin(2 * np.pi * (time * rng.uniform(0.2, 0.3) + rng.uniform()))
    unsteady, sigma = (1 + drift + wave).astype(np.float32), np.float32(level / snr)
    noisy = np.empty_like(series)
    for plane, out in zip(series, noisy, strict=True):
        real = plane * unsteady + sigma * rng.standard_normal(plane.shape, np.float32)
        imaginary = sigma * rng.standard_normal(plane.shape, np.float32)
        np.sqrt(real * real + imaginary * imaginary, out=out)
    return noisy
