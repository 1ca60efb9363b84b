"""Lesions: what an occluded or a narrowed artery does to flow, volume, delay and dispersion.

Acute: a territory with a core (flow 0.05 to 0.28 of normal) in a penumbra (0.3 to 0.6) and blood
that comes up to 12 s late. Chronic: a hemisphere or its border zones, 1 to 5 s late and dispersed,
volume up, flow mildly down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from perfnb.data.anatomy import Anatomy
from perfnb.data.vessels import territory_distances
from perfnb.data.warp import sample, smooth_field

EDGE_MM = 2.0
KINDS = {
    "acute": {
        "none": 0.12,
        "stenosis": 0.08,
        "trunk": 0.32,
        "branch": 0.28,
        "ACA": 0.08,
        "PCA": 0.12,
    },
    "chronic": {"none": 0.1, "hemisphere": 0.5, "border zone": 0.4},
}


REACH_MM = {"trunk": (34.0, 52.0), "branch": (22.0, 34.0), "ACA": (22.0, 34.0), "PCA": (20.0, 32.0)}
"""How far from its heart an acute lesion reaches [mm]; collaterals feed the rest."""


@dataclass(frozen=True)
class Lesion:
    """What a lesion does to each of the N mask voxels.

    `flow` and `volume` multiply CBF and CBV; `delay_s` and `dispersion_s` add to them [s];
    `core` and `penumbra` are memberships from 0 to 1 (the penumbra without its core).
    """

    flow: np.ndarray
    volume: np.ndarray
    delay_s: np.ndarray
    dispersion_s: np.ndarray
    core: np.ndarray
    penumbra: np.ndarray
    facts: dict = field(default_factory=dict)


def draw_lesion(cohort: str, rng: np.random.Generator, anatomy: Anatomy) -> Lesion:
    """Draw a patient's lesion.

    Parameters
    ----------
    cohort : str
        "acute" or "chronic".
    rng : numpy Generator
        Source of all draws.
    anatomy : Anatomy
        The patient's brain.

    Returns
    -------
    Lesion
        Vectors over the mask voxels; without a lesion, nothing changes.
    """
    kind = str(rng.choice(list(KINDS[cohort]), p=list(KINDS[cohort].values())))
    side = int(rng.choice((-1, 1)))
    depth = _depth_mm(kind, side, rng, anatomy)
    facts = {"lesion": kind, "side": "none" if kind == "none" else ("left", "right")[side > 0]}
    if kind == "none":
        one, zero = np.ones(depth.size), np.zeros(depth.size)
        return Lesion(one, one, zero, zero, zero, zero, facts)
    waves = [sample(smooth_field(rng, 14.0), anatomy.points_mm) for _ in range(4)]
    if cohort == "chronic" or kind == "stenosis":
        return _narrowed(kind, rng, depth, waves, facts)
    return _occluded(rng, depth, waves, anatomy, facts)


def _depth_mm(kind: str, side: int, rng: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Signed distance of mask voxels to the edge of the region at risk [mm], inside positive."""
    far = territory_distances(anatomy.template_mm)
    aca, mca, pca, vb = (far[name] for name in ("ACA", "MCA", "PCA", "VB"))
    _, y, z = anatomy.template_mm
    margin = {
        "none": -np.full(y.size, 99.0),
        "trunk": np.minimum(np.minimum(aca, pca), vb) - mca,
        "ACA": np.minimum(mca, np.minimum(pca, vb)) - aca,
        "PCA": np.minimum(mca, np.minimum(aca, vb)) - pca,
        "hemisphere": np.minimum(pca, vb) - np.minimum(aca, mca),
        "border zone": 16.0 - np.maximum(2 * anatomy.border_mm, 1.2 * (-10.0 - z)),
    }
    margin["branch"] = margin["trunk"]
    margin["stenosis"] = margin["hemisphere"]
    depth = margin[kind] / 2
    if kind == "branch":
        upper = 0.95 * (z - 10.0) + 0.3 * (y + 8.0)
        depth = np.minimum(depth, upper if rng.uniform() < 0.5 else -upper)
    depth = np.minimum(depth, side * anatomy.template_mm[0])
    if kind in REACH_MM:
        depth = np.minimum(depth, rng.uniform(*REACH_MM[kind]) - _from_heart(rng, depth, anatomy))
    depth = depth + 3.0 * sample(smooth_field(rng, 9.0), anatomy.points_mm) - rng.uniform(-2.0, 4.0)
    return np.minimum(depth, side * anatomy.template_mm[0])


def _narrowed(
    kind: str, rng: np.random.Generator, depth: np.ndarray, waves: list[np.ndarray], facts: dict
) -> Lesion:
    """Chronic stenosis: late, dispersed, more volume, a little less flow; no core."""
    weight = expit(depth / (1.5 * EDGE_MM))
    late, spread = rng.uniform(1.0, 5.0), rng.uniform(1.5, 4.5)
    if kind == "stenosis":
        late, spread = late / 2, spread / 2
    flow, volume = rng.uniform(0.75, 0.95), rng.uniform(1.1, 1.35)
    delay = np.clip(late * (1 + 0.2 * waves[0]), 0.5 * late, 5.0)
    dispersion = np.clip(spread * (1 + 0.15 * waves[1]), 0.5 * spread, 4.5)
    zero = np.zeros(depth.size)
    facts |= {"lesion_delay_s": late, "lesion_dispersion_s": spread, "lesion_flow": flow}
    return Lesion(
        1 - weight * (1 - np.clip(flow * (1 + 0.05 * waves[2]), 0.6, 1.0)),
        1 + weight * (np.clip(volume * (1 + 0.05 * waves[3]), 1.0, 1.5) - 1),
        weight * delay, weight * dispersion, zero, zero, facts,
    )  # fmt: skip


def _occluded(
    rng: np.random.Generator,
    depth: np.ndarray,
    waves: list[np.ndarray],
    anatomy: Anatomy,
    facts: dict,
) -> Lesion:
    """Acute occlusion: a core where collaterals fail, in a penumbra that they still reach."""
    at_risk = expit(depth / EDGE_MM)
    inside = rng.uniform(8.0, 26.0) - _from_heart(rng, depth, anatomy)
    inner = expit((inside + 4.0 * waves[0]) / EDGE_MM) * at_risk
    worse = np.clip(depth / 20.0, 0.0, 1.0)  # collaterals feed the rim best
    late, spread = rng.uniform(4.0, 12.0), rng.uniform(0.5, 2.5)
    remaining = np.clip(0.55 - 0.2 * worse + 0.05 * waves[1], 0.3, 0.6)
    dead = np.clip(rng.uniform(0.08, 0.24) + 0.04 * waves[2], 0.05, 0.28)
    flow = 1 - at_risk * (1 - remaining)
    flow += inner * (dead - remaining)
    volume = 1 + at_risk * (rng.uniform(0.95, 1.2) - 1)
    volume += inner * (rng.uniform(0.3, 0.6) - volume)
    delay = at_risk * np.clip(late * (0.6 + 0.4 * worse) * (1 + 0.08 * waves[3]), 0.0, 12.0)
    facts |= {"lesion_delay_s": late, "lesion_dispersion_s": spread}
    return Lesion(
        np.maximum(flow, 0.05), volume, delay, at_risk * spread, inner, at_risk - inner, facts
    )


def _from_heart(rng: np.random.Generator, depth: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """Distance of mask voxels to a point deep in the region, stretched to an ellipsoid [mm]."""
    deep = np.nonzero(depth >= np.quantile(depth, 0.97))[0]
    order = deep[np.lexsort(anatomy.template_mm[:, deep])]
    centre = anatomy.points_mm[:, order[int(rng.uniform() * order.size)]]
    stretch = rng.uniform(0.8, 1.25, 3)
    return np.sqrt((((anatomy.points_mm - centre[:, None]) / stretch[:, None]) ** 2).sum(0))
