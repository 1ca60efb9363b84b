"""Perfusion of a patient's tissues: flow, volume, delay and dispersion in every voxel.

Nothing here looks at the image contrast, so a network that sees only anatomy cannot know it:
the patient's global flow, smooth regional fields, territories and the two sides all vary.
Only scars show on the film and have less flow too, by an amount that differs between patients
(10 to 50 %; white-matter lesions: Brickman et al., Psychiatry Res 172:117, 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfnb.data.anatomy import Anatomy
from perfnb.data.bolus import DISPERSION_LEVELS_S, MTT_LEVELS_S, nearest_level
from perfnb.data.pathology import Lesion
from perfnb.data.warp import sample, smooth_field

# Pure compartments [ml/100 g/min, ml/100 g]; voxels mix them to GM 50-60 / 4, WM 20-25 / 2, as in
# positron emission tomography at similar resolution (Leenders et al., Brain 113:27, 1990).
COMPARTMENTS = {"GM": (74.0, 5.2), "WM": (13.5, 1.35)}
GRUBB_EXPONENT = 0.38  # CBV ~ CBF**0.38 (Grubb et al., Stroke 5:630, 1974)


@dataclass(frozen=True)
class Perfusion:
    """Perfusion of the N mask voxels; compartments in the order GM, WM.

    `cbf` [ml/100 g/min], `cbv` [ml/100 g] and `mtt_index` (into MTT_LEVELS_S) have shape (2, N);
    `delay_s` [s] and `dispersion_index` (into DISPERSION_LEVELS_S) have shape (N,).
    MTT = 60 CBV / CBF holds exactly in each compartment.
    """

    cbf: np.ndarray
    cbv: np.ndarray
    mtt_index: np.ndarray
    delay_s: np.ndarray
    dispersion_index: np.ndarray
    facts: dict

    @property
    def dispersion_s(self) -> np.ndarray:
        """Mean of each voxel's dispersion kernel [s], shape (N,)."""
        return DISPERSION_LEVELS_S[self.dispersion_index]


def draw_perfusion(rng: np.random.Generator, anatomy: Anatomy, lesion: Lesion) -> Perfusion:
    """Draw a patient's perfusion and put the lesion in.

    Parameters
    ----------
    rng : numpy Generator
        Source of all draws; the lesion does not change them.
    anatomy : Anatomy
        The patient's brain.
    lesion : Lesion
        Its effect on the mask voxels.

    Returns
    -------
    Perfusion
    """
    regional, volumes, times, past = rng.spawn(4)
    flow, global_flow = _flow(regional, anatomy)
    own = np.exp(0.07 * sample(smooth_field(volumes, 22.0), anatomy.points_mm))
    own = own * volumes.uniform(0.92, 1.08)
    ratio = np.array([[1.0], [volumes.uniform(0.9, 1.1)]])
    cbf0, cbv0 = (np.array(v)[:, None] for v in zip(*COMPARTMENTS.values(), strict=True))
    loss, lag = past.uniform(0.1, 0.5), past.uniform(0.0, 0.8)
    flow = flow * (1.0 - loss * anatomy.gliosis)
    cbf = cbf0 * flow * ratio * lesion.flow
    cbv = cbv0 * flow**GRUBB_EXPONENT * own * lesion.volume
    mtt_index = nearest_level(60.0 * cbv / cbf, MTT_LEVELS_S)
    delay, dispersion = _arrival(times, anatomy)
    return Perfusion(
        cbf=cbf,
        cbv=cbf * MTT_LEVELS_S[mtt_index] / 60.0,
        mtt_index=mtt_index,
        delay_s=delay + lag * anatomy.gliosis + lesion.delay_s,
        dispersion_index=nearest_level(dispersion + lesion.dispersion_s, DISPERSION_LEVELS_S),
        facts={"global_flow": global_flow},
    )


def _flow(rng: np.random.Generator, anatomy: Anatomy) -> tuple[np.ndarray, float]:
    """Relative flow of the mask voxels: patient, region, side and territory."""
    points, right = anatomy.points_mm, np.tanh(anatomy.template_mm[0] / 15.0)
    global_flow = float(rng.uniform(0.75, 1.25))
    log_flow = 0.12 * sample(smooth_field(rng, 24.0), points)
    log_flow += 0.08 * sample(smooth_field(rng, 12.0), points)
    log_flow += 0.05 * rng.standard_normal() * right
    by_territory = 0.05 * rng.standard_normal(9)
    log_flow += by_territory[anatomy.territories[anatomy.mask]]
    return global_flow * np.exp(log_flow), global_flow


def _arrival(rng: np.random.Generator, anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Normal arterial delay, 0 to 2 s and longest at the border zones, and dispersion [s]."""
    wave = sample(smooth_field(rng, 18.0), anatomy.points_mm)
    border = np.exp(-anatomy.border_mm / 8.0)
    base, slope = rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.9)
    delay = np.clip(base + slope * border + 0.2 * wave, 0.0, 2.0)
    return delay, rng.uniform(0.3, 0.6) * (1 + 0.5 * border)
