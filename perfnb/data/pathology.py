"""Lesions: what an occluded or a narrowed artery does to flow, volume, delay and dispersion.

Acute: a territory with a core (flow 0.05 to 0.28 of normal) in a penumbra (0.3 to 0.6) and blood
that comes up to 12 s late. Chronic: a hemisphere or its border zones, 1 to 5 s late and dispersed,
volume up, flow mildly down. Confounders among the acute: an old stenosis, a weak heart, and an
artery that has opened again. Core and penumbra as in Astrup et al. (Stroke 12:723, 1981); early
reperfusion with more flow than normal as in Kidwell et al. (Neurology 57:2015, 2001).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from perfnb.data.anatomy import Anatomy
from perfnb.data.vessels import seeds, territory_distances
from perfnb.data.warp import sample, smooth_field

EDGE_MM = 2.0
KINDS = {
    "acute": {
        "none": 0.09,
        "stenosis": 0.07,
        "low output": 0.05,
        "reperfused": 0.06,
        "trunk": 0.29,
        "branch": 0.26,
        "ACA": 0.07,
        "PCA": 0.11,
    },
    "chronic": {"none": 0.1, "hemisphere": 0.5, "border zone": 0.4},
}
"""Shares of the kinds of lesion in each cohort."""
HELD_OUT_KINDS = {"acute": "emboli", "chronic": "both sides"}
"""Kinds that no patient has unless asked for: several scattered foci; both hemispheres narrowed."""
ALL_OVER = ("none", "low output", "emboli", "both sides")

REACH_MM = {
    "trunk": (34.0, 52.0),
    "branch": (25.0, 38.0),
    "reperfused": (22.0, 40.0),
    "ACA": (24.0, 36.0),
    "PCA": (22.0, 34.0),
}
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


def draw_lesion(
    cohort: str, rng: np.random.Generator, anatomy: Anatomy, kind: str | None = None
) -> Lesion:
    """Draw a patient's lesion.

    Parameters
    ----------
    cohort : str
        "acute" or "chronic".
    rng : numpy Generator
        Source of all draws.
    anatomy : Anatomy
        The patient's brain.
    kind : str, optional
        Kind of lesion; None draws one of KINDS[cohort], never the one held out.

    Returns
    -------
    Lesion
        Vectors over the mask voxels; without a lesion, nothing changes.
    """
    drawn = str(rng.choice(list(KINDS[cohort]), p=list(KINDS[cohort].values())))
    kind, side = kind or drawn, int(rng.choice((-1, 1)))
    facts = {"lesion": kind, "side": ("left", "right")[side > 0]}
    if kind in ALL_OVER:
        facts["side"] = "none" if kind == "none" else "both"
    if kind == "none":
        one, zero = np.ones(anatomy.border_mm.size), np.zeros(anatomy.border_mm.size)
        return Lesion(one, one, zero, zero, zero, zero, facts)
    waves = [sample(smooth_field(rng, 14.0), anatomy.points_mm) for _ in range(4)]
    if kind == "low output":
        return _slowed(rng, anatomy, waves, facts)
    depth = _depth_mm(kind, side, rng, anatomy)
    if cohort == "chronic" or kind == "stenosis":
        return _narrowed(kind, rng, depth, waves, anatomy, facts)
    if kind == "reperfused":
        return _reopened(rng, depth, waves, anatomy, facts)
    return _occluded(kind, rng, depth, waves, anatomy, facts)


def _depth_mm(kind: str, side: int, rng: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Signed distance of mask voxels to the edge of the region at risk [mm], inside positive."""
    if kind == "emboli":
        return _foci(rng, anatomy)
    far = territory_distances(anatomy.template_mm)
    aca, mca, pca, vb = (far[name] for name in ("ACA", "MCA", "PCA", "VB"))
    _, y, z = anatomy.template_mm
    margin = {
        "trunk": np.minimum(np.minimum(aca, pca), vb) - mca,
        "ACA": np.minimum(mca, np.minimum(pca, vb)) - aca,
        "PCA": np.minimum(mca, np.minimum(aca, vb)) - pca,
        "hemisphere": np.minimum(pca, vb) - np.minimum(aca, mca),
        "border zone": 16.0 - np.maximum(2 * anatomy.border_mm, 1.2 * (-10.0 - z)),
    }
    margin |= {name: margin["trunk"] for name in ("branch", "stenosis", "reperfused")}
    depth = margin.get(kind, margin["hemisphere"]) / 2
    if kind in ("branch", "reperfused"):  # the upper or the lower division of the middle artery
        upper = 0.8 * (y + 8.0) + 0.6 * (z - 14.0)
        depth = np.minimum(depth, upper if rng.uniform() < 0.5 else -upper)
    inside = np.inf if kind == "both sides" else side * anatomy.template_mm[0]
    depth = np.minimum(depth, inside)
    if kind in REACH_MM:
        depth = np.minimum(depth, rng.uniform(*REACH_MM[kind]) - _from_heart(rng, depth, anatomy))
    depth = depth + 3.0 * sample(smooth_field(rng, 9.0), anatomy.points_mm) - rng.uniform(-2.0, 4.0)
    return np.minimum(depth, inside)


def _foci(rng: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Depth in the deepest of three to six small foci on both sides, shape (N,) [mm]."""
    depth, places = np.full(anatomy.border_mm.size, -99.0), seeds()
    for k in range(int(rng.integers(3, 7))):
        centre = np.array(places[int(rng.integers(len(places)))], float) + rng.normal(0.0, 5.0, 3)
        centre[0] = abs(centre[0]) * (-1) ** k
        away = np.sqrt(((anatomy.template_mm - centre[:, None]) ** 2).sum(0))
        depth = np.maximum(depth, rng.uniform(10.0, 19.0) - away)
    return depth + 2.0 * sample(smooth_field(rng, 9.0), anatomy.points_mm)


def _narrowed(
    kind: str, rng: np.random.Generator, depth: np.ndarray, waves: list[np.ndarray],
    anatomy: Anatomy, facts: dict,
) -> Lesion:  # fmt: skip
    """Chronic stenosis: late, dispersed, more volume, a little less flow; no core.

    Most are mild, and the border zones, farthest from any artery, suffer most.
    """
    weight = expit(depth / (1.5 * EDGE_MM))
    far = 0.55 + 0.45 * np.exp(-anatomy.border_mm / 10.0)
    late, spread = 1.0 + 4.0 * rng.uniform() ** 1.5, 1.5 + 3.0 * rng.uniform() ** 1.5
    if kind == "stenosis":
        late, spread = late / 2, spread / 2
    flow, volume = rng.uniform(0.75, 0.95), rng.uniform(1.1, 1.35)
    delay = np.clip(late * far * (1 + 0.2 * waves[0]), 0.3 * late, 5.0)
    dispersion = np.clip(spread * far * (1 + 0.15 * waves[1]), 0.3 * spread, 4.5)
    zero = np.zeros(depth.size)
    facts |= {"lesion_delay_s": late, "lesion_dispersion_s": spread, "lesion_flow": flow}
    return Lesion(
        1 - weight * (1 - np.clip(flow * (1 + 0.05 * waves[2]), 0.6, 1.0)),
        1 + weight * (np.clip(volume * (1 + 0.05 * waves[3]), 1.0, 1.5) - 1),
        weight * delay, weight * dispersion, zero, zero, facts,
    )  # fmt: skip


def _slowed(
    rng: np.random.Generator, anatomy: Anatomy, waves: list[np.ndarray], facts: dict
) -> Lesion:
    """Low cardiac output: less flow everywhere, late on both sides and latest in border zones."""
    border = np.exp(-anatomy.border_mm / 10.0)
    late, flow = rng.uniform(0.5, 2.0), rng.uniform(0.7, 0.9)
    one, zero = np.ones(border.size), np.zeros(border.size)
    delay = late * border * (1 + 0.15 * waves[0])
    spread = rng.uniform(0.2, 0.7) * (1 + border)
    facts |= {
        "lesion_delay_s": late,
        "lesion_dispersion_s": float(spread.max()),
        "lesion_flow": flow,
    }
    return Lesion(flow * (1 - 0.1 * border), one, np.maximum(delay, 0.0), spread, zero, zero, facts)


def _reopened(
    rng: np.random.Generator, depth: np.ndarray, waves: list[np.ndarray], anatomy: Anatomy,
    facts: dict,
) -> Lesion:  # fmt: skip
    """Early reperfusion: the core is lost, but blood flows again, often too much of it."""
    at_risk = expit(depth / EDGE_MM)
    inside = rng.uniform(6.0, 20.0) - _from_heart(rng, depth, anatomy)
    inner = expit((inside + 4.0 * waves[0]) / EDGE_MM) * at_risk
    flow = 1 + inner * (rng.uniform(1.05, 1.5) * (1 + 0.05 * waves[1]) - 1)
    volume = 1 + at_risk * (rng.uniform(1.05, 1.25) - 1)
    late, spread = rng.uniform(0.0, 1.0), rng.uniform(0.0, 0.4)
    facts |= {"lesion_delay_s": late, "lesion_dispersion_s": spread}
    return Lesion(
        flow, volume, late * at_risk, spread * at_risk, inner, np.zeros(depth.size), facts
    )


def _occluded(
    kind: str, rng: np.random.Generator, depth: np.ndarray, waves: list[np.ndarray],
    anatomy: Anatomy, facts: dict,
) -> Lesion:  # fmt: skip
    """Acute occlusion: a core where collaterals fail, in a penumbra that they still reach."""
    at_risk = expit(depth / EDGE_MM)
    inside = rng.uniform(8.0, 26.0) - _from_heart(rng, depth, anatomy)
    if kind == "emboli":
        inside = depth - rng.uniform(3.0, 9.0)
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
