"""A patient's brain: warped template tissues, vessels and vascular territories.

The tissues are the grey- and white-matter probabilities of the ICBM152 2009a template that nilearn
ships (Fonov et al., NeuroImage 54:313, 2011); cerebrospinal fluid is the rest of the brain mask.
The template is one mirror-symmetric brain, so each patient gets a strong, asymmetric warp of it,
other ventricles, other sulci and other gyri.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import binary_fill_holes, gaussian_filter, label, map_coordinates

from perfnb.data import scars, vessels
from perfnb.data.warp import Warp, draw_warp, sample, smooth_field

TEMPLATE_MM = 2
SLAB_MM = 125.0
LABELS = {"background": 0, "CSF": 1, "GM": 2, "WM": 3, "artery": 4, "vein": 5}
VESSEL_FRACTION = 0.25
SHARPNESS = 1.6
LANDMARKS = ((0, -16, 4), (0, -25, 76), (22, -22, 74), (-22, -22, 74), (0, 10, 68), (0, -50, 70))
"""MNI points [mm]: the middle of the brain, then points of the vertex."""


@dataclass(frozen=True)
class Anatomy:
    """One brain on one image grid; volumes have shape (X, Y, Z), fractions lie between 0 and 1.

    `gm`, `wm`, `csf`, `arteries` and `vein` are volume fractions that sum to 1 inside `mask`.
    `tissue` holds LABELS; `territories` 0 outside, else 1 + 2 * index in TERRITORIES + (right).
    `points_mm` and `template_mm`, shape (3, N), are scanner and MNI coordinates of the N mask
    voxels in C order; `border_mm`, shape (N,), their distance to the nearest territory border.
    `arterial_delay_s` and `venous_delay_s` tell how late the vessels' own blood comes.
    `gliosis`, shape (N,), is the share of a voxel's tissue that is scarred (`scars`).
    """

    affine: np.ndarray
    gm: np.ndarray
    wm: np.ndarray
    csf: np.ndarray
    arteries: np.ndarray
    vein: np.ndarray
    mask: np.ndarray
    tissue: np.ndarray
    territories: np.ndarray
    arterial_delay_s: np.ndarray
    venous_delay_s: np.ndarray
    points_mm: np.ndarray
    template_mm: np.ndarray
    border_mm: np.ndarray
    gliosis: np.ndarray
    facts: dict

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel [ml]."""
        return float(np.diag(self.affine)[:3].prod() / 1000)


@lru_cache(maxsize=1)
def load_templates() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Grey matter, white matter, brain mask (float32) and affine of nilearn's MNI152 template."""
    from nilearn import datasets  # slow to import, and only this function needs it

    loaders = ("load_mni152_gm_template", "load_mni152_wm_template", "load_mni152_brain_mask")
    images = [getattr(datasets, name)(resolution=TEMPLATE_MM) for name in loaders]
    gm, wm, mask = (np.asarray(image.dataobj, dtype=np.float32) for image in images)
    solid = binary_fill_holes(mask > 0.5).astype(np.float32)
    return gm, wm, gaussian_filter(solid, 0.5), images[0].affine


def make_affine(shape: tuple[int, int, int], field_of_view_mm: float, warp: Warp) -> np.ndarray:
    """RAS affine of an axial slab, placed as a technician would.

    Parameters
    ----------
    shape : tuple
        Voxels (X, Y, Z); few slices lie at the level of the insula, many hang from the vertex.
    field_of_view_mm : float
        Width of a slice [mm].
    warp : Warp
        The patient's head.

    Returns
    -------
    float array, shape (4, 4)
        Voxel to scanner matrix [mm]; slices are 5 to 10 mm thick.
    """
    in_plane = field_of_view_mm / max(shape[:2])
    thickness = float(np.clip(SLAB_MM / shape[2], 5.0, 10.0))
    size, height = np.array([in_plane, in_plane, thickness]), thickness * shape[2]
    marks = warp.to_scanner(np.array(LANDMARKS, float).T)
    hanging = marks[2, 1:].max() + 6.0 - height / 2
    whole = np.clip(2.0 * height / SLAB_MM - 1.0, 0.0, 1.0)
    centre = marks[:, 0].copy()
    centre[2] += whole * (hanging - centre[2])
    affine = np.diag([*size, 1.0])
    affine[:3, 3] = np.round(centre - size * (np.array(shape) - 1) / 2, 3)
    return affine


def draw_anatomy(
    rng: np.random.Generator,
    shape: tuple[int, int, int] = (64, 64, 12),
    field_of_view_mm: float = 240.0,
) -> Anatomy:
    """Draw one patient's brain.

    Parameters
    ----------
    rng : numpy Generator
        Source of all draws; the same generator state gives the same brain on every grid.
    shape : tuple
        Voxels (X, Y, Z).
    field_of_view_mm : float
        Width of a slice [mm].

    Returns
    -------
    Anatomy
    """
    head, folds, tree, past = rng.spawn(4)
    ventricles, atrophy = head.uniform(0.0, 0.45), head.uniform(0.2, 1.6)
    warp = draw_warp(head, ventricles)
    affine = make_affine(shape, field_of_view_mm, warp)
    gm, wm, brain = _tissue_fractions(folds, warp, affine, shape, atrophy)
    arteries, late = vessels.draw_tubes(tree, vessels.ARTERIES, warp, affine, shape)
    vein, venous = vessels.draw_tubes(tree, (vessels.SINUS,), warp, affine, shape)
    mask = _one_piece((brain > 0.5) | ((arteries + vein > VESSEL_FRACTION) & (brain > 0.1)))
    arteries, vein = arteries * mask, np.minimum(vein, 1.0 - arteries) * mask
    rest = (1.0 - arteries - vein) * mask
    points = affine[:3, 3:] + np.diag(affine)[:3, None] * np.stack(np.nonzero(mask))
    template = warp.to_template(points)
    scarred = scars.draw_scars(past, points, template, warp)
    rest[mask] *= 1.0 - scarred.cavity
    facts = _facts(scarred, wm[mask] * rest[mask], float(np.diag(affine)[:3].prod() / 1000))
    gm, wm = gm * rest, wm * rest
    csf = np.maximum((1.0 - arteries - vein) * mask - gm - wm, 0.0)
    territories, border = _territories(template, mask)
    return Anatomy(
        affine, gm, wm, csf, arteries, vein, mask, _label(gm, wm, csf, arteries, vein, mask),
        territories, late * mask, venous * mask, points, template, border, scarred.gliosis,
        facts={"ventricles": round(ventricles, 3), "atrophy": round(atrophy, 3)} | facts,
    )  # fmt: skip


def _facts(scarred: scars.Scars, wm: np.ndarray, voxel_ml: float) -> dict:
    """How much of the brain is scarred: volumes [ml] and the number of old infarcts."""
    return {
        "wm_lesion_ml": float((scarred.gliosis * wm).sum() * voxel_ml),
        "old_infarcts": scarred.count,
        "old_infarct_ml": float(scarred.cavity.sum() * voxel_ml),
    }


def _tissue_fractions(
    rng: np.random.Generator, warp: Warp, affine: np.ndarray, shape: tuple, atrophy: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey, white (of the parenchyma and CSF) and brain fraction, averaged over each voxel."""
    size = np.diag(affine)[:3]
    centres = affine[:3, 3:] + size[:, None] * np.indices(shape).reshape(3, -1)
    near = np.nonzero(_read(_wide_brain(), warp.to_template(centres)) > 0.01)[0]
    counts = np.maximum(1, np.rint(size / 2.2)).astype(int)
    steps = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    offsets = np.stack(np.meshgrid(*steps, indexing="ij")).reshape(3, -1) * size[:, None]
    points = (centres[:, near, None] + offsets[:, None, :]).reshape(3, -1)
    fields = [smooth_field(rng, 9.0) for _ in range(2)]
    gm, wm, brain = _classify(points, warp, fields, atrophy)
    out = np.zeros((3, centres.shape[1]))
    for row, part in zip(out, (gm * brain, wm * brain, brain), strict=True):
        row[near] = part.reshape(near.size, -1).mean(1)
    out[:2] /= np.maximum(out[2], 1e-6)
    return tuple(part.reshape(shape) for part in out)


def _classify(
    points: np.ndarray, warp: Warp, fields: list[np.ndarray], atrophy: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sharpen the template's probabilities at points and shift them by the patient's own folds."""
    template = warp.to_template(points)
    gm_map, wm_map, brain_map, _ = load_templates()
    gm, wm, brain = (_read(part, template) for part in (gm_map, wm_map, brain_map))
    csf = np.maximum(1.0 - gm - wm, 0.0)
    gyri, sulci = (sample(field, points) for field in fields)
    weights = [
        (gm + 0.01) ** SHARPNESS,
        (wm + 0.01) ** SHARPNESS * np.exp(0.35 * gyri),
        (csf + 0.01) ** SHARPNESS * np.exp(atrophy + 0.35 * sulci),
    ]
    total = weights[0] + weights[1] + weights[2]
    return weights[0] / total, weights[1] / total, brain


@lru_cache(maxsize=1)
def _wide_brain() -> np.ndarray:
    """Template's brain mask, widened by several mm: where to look for a patient's brain."""
    return gaussian_filter(load_templates()[2], 3.0)


def _read(volume: np.ndarray, template_mm: np.ndarray) -> np.ndarray:
    """Read a template volume at MNI points, shape (3, N)."""
    affine = load_templates()[3]
    index = [(template_mm[i] - affine[i, 3]) / affine[i, i] for i in range(3)]
    return map_coordinates(volume, index, order=1)


def _one_piece(mask: np.ndarray) -> np.ndarray:
    """Drop crumbs: pieces smaller than a twentieth of the largest."""
    pieces, count = label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())[1:]
    return np.r_[False, sizes >= sizes.max() / 20][pieces]


def _territories(template_mm: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Territory labels, shape (X, Y, Z), and distance of mask voxels to the next territory [mm]."""
    distances = np.stack(list(vessels.territory_distances(template_mm).values()))
    nearest, second = np.sort(distances, axis=0)[:2]
    labels = np.zeros(mask.shape, np.uint8)
    labels[mask] = 1 + 2 * distances.argmin(0) + (template_mm[0] > 0)
    return labels, (second - nearest) / 2


def _label(gm, wm, csf, arteries, vein, mask) -> np.ndarray:
    """LABELS per voxel: vessel if it fills enough, else the larger of tissue and CSF."""
    tissue = np.where(gm >= wm, LABELS["GM"], LABELS["WM"])
    tissue = np.where(gm + wm >= csf, tissue, LABELS["CSF"])
    tissue = np.where(vein > VESSEL_FRACTION, LABELS["vein"], tissue)
    tissue = np.where(arteries > VESSEL_FRACTION, LABELS["artery"], tissue)
    return (tissue * mask).astype(np.uint8)
