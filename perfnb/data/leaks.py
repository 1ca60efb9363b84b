"""Can perfusion be told without watching the bolus? A phantom that leaks teaches nothing.

A network may guess flow from the brightness of tissue, or from the other side of the brain, and
never look at the film. Here a ridge regression tries just that: what does it know about patients
that it has not seen, beyond what the kind of tissue tells anyway?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, sobel

from perfnb.data.anatomy import LABELS
from perfnb.data.patient import Patient

MAPS = ("CBF", "Tmax")
SOURCES = ("pre-bolus", "mirror")
BOUND = 0.05
"""Largest share of the variance left by tissue class that a source may explain."""
MIDLINE_MM = 25.0  # nearer to the middle, the other side's surroundings are one's own
PRE_BOLUS = slice(3, 8)  # settled, and before any bolus arrives
RIDGE = 1e-3


@dataclass(frozen=True)
class Look:
    """What can be seen of M tissue voxels of one patient without the bolus.

    `target` holds each map less the median of its own side, shape (M,): one side tells the level
    of the other, as in any patient. `tissue`, shape (M, C), is the kind of tissue here and on the
    other side; `sources` what each of SOURCES shows, shape (M, P), by map.
    """

    target: dict[str, np.ndarray]
    tissue: np.ndarray
    sources: dict[str, dict[str, np.ndarray]]


def look(patient: Patient, n_voxels: int = 3000) -> Look:
    """Collect tissue voxels of a patient, off the midline, whose mirrored voxel is tissue too.

    Parameters
    ----------
    patient : Patient
        With noise or without.
    n_voxels : int
        How many voxels at most, drawn by the patient's seed.

    Returns
    -------
    Look
    """
    inside = np.isin(patient.tissue, (LABELS["GM"], LABELS["WM"]))
    both = inside & mirrored(inside, patient.mask) & _aside(patient)
    voxels = np.flatnonzero(both)
    rng = np.random.default_rng(patient.seed)
    voxels = rng.permutation(voxels)[:n_voxels]
    before = patient.series[..., PRE_BOLUS]
    level = np.median(before[patient.mask])
    seen = _texture(before.mean(-1) / level, patient.mask)
    seen.append(before.std(-1) / level)
    target, other = {}, {}
    for name in MAPS:
        relative = _less_median(patient.truth[name], inside)
        target[name] = relative.ravel()[voxels].astype(float)
        far = mirrored(relative, patient.mask)
        other[name] = _columns([far, *_smooth(far, both)], voxels)
    seen = _columns(seen, voxels)
    return Look(
        target,
        _columns(_classes(patient), voxels),
        {"pre-bolus": dict.fromkeys(MAPS, seen), "mirror": other},
    )


def mirrored(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Volume reflected left to right about the middle of the mask, shape (X, Y, Z)."""
    x = np.arange(mask.shape[0])
    return volume[np.clip(np.rint(2 * _middle(mask) - x).astype(int), 0, mask.shape[0] - 1)]


def _less_median(volume: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Volume less its median on either side, 0 outside."""
    left = (np.arange(inside.shape[0]) < _middle(inside))[:, None, None]
    relative = np.zeros(volume.shape)
    for side in (inside & left, inside & ~left):
        relative[side] = volume[side] - np.median(volume[side]) if side.any() else 0.0
    return relative


def _middle(mask: np.ndarray) -> float:
    """Middle of a mask along X [voxels]."""
    share = mask.sum((1, 2))
    return float((share * np.arange(mask.shape[0])).sum() / max(share.sum(), 1))


def _aside(patient: Patient) -> np.ndarray:
    """Where a voxel lies more than MIDLINE_MM from the middle, shape (X, 1, 1)."""
    x = np.arange(patient.mask.shape[0]) - _middle(patient.mask)
    return (np.abs(x) * abs(patient.affine[0, 0]) > MIDLINE_MM)[:, None, None]


def known_by_tissue(train: Sequence[Look], test: Sequence[Look], map_name: str) -> float:
    """R^2 on unseen patients from the kind of tissue alone."""
    target = np.concatenate([one.target[map_name] for one in test])
    return float(1 - _error(train, test, map_name, None) / ((target - target.mean()) ** 2).mean())


def known_beyond_tissue(
    train: Sequence[Look], test: Sequence[Look], map_name: str, source: str
) -> float:
    """Share of the variance left by the kind of tissue that a source explains, unseen patients.

    Parameters
    ----------
    train, test : sequence of Look
        Different patients.
    map_name : str
        One of MAPS.
    source : str
        One of SOURCES.

    Returns
    -------
    float
        1 if it tells all, 0 if nothing, below 0 if what it seemed to tell was chance.
    """
    return 1 - _error(train, test, map_name, source) / _error(train, test, map_name, None)


def _error(train: Sequence[Look], test: Sequence[Look], map_name: str, source: str | None) -> float:
    """Mean squared error on the test patients of a ridge regression, with or without a source."""
    design, columns = (_design(group, map_name, source) for group in (train, test))
    mean, size = design.mean(0), design.std(0) + 1e-9
    design, columns = (design - mean) / size, (columns - mean) / size
    target = np.concatenate([one.target[map_name] for one in train])
    square = design.T @ design + RIDGE * len(target) * np.eye(design.shape[1])
    weights = np.linalg.solve(square, design.T @ (target - target.mean()))
    truth = np.concatenate([one.target[map_name] for one in test])
    return float(((columns @ weights + target.mean() - truth) ** 2).mean())


def _design(looks: Sequence[Look], map_name: str, source: str | None) -> np.ndarray:
    """Columns of the regression, shape (all voxels, columns): tissue, and the source if any."""
    rows = [
        one.tissue if source is None else np.hstack([one.tissue, one.sources[source][map_name]])
        for one in looks
    ]
    return np.concatenate(rows)


def _classes(patient: Patient) -> list[np.ndarray]:
    """Tissue fractions, their squares, scars and surroundings, here and on the other side."""
    anatomy = patient.anatomy
    scarred = np.zeros(patient.mask.shape)
    scarred[patient.mask] = anatomy.gliosis
    parts = [anatomy.gm, anatomy.wm, anatomy.csf, scarred, scarred * anatomy.wm]
    parts += [anatomy.gm**2, anatomy.wm**2, anatomy.gm * anatomy.wm]
    parts += [_blur(anatomy.gm, 1.5), _blur(anatomy.wm, 1.5)]
    far = [mirrored(part, patient.mask) for part in (anatomy.gm, anatomy.wm, scarred)]
    return [*parts, *far]


def _texture(image: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """Brightness, its square, its surroundings at two sizes and its edges."""
    image = np.where(mask, image, 0.0)
    edges = np.hypot(sobel(image, 0), sobel(image, 1))
    return [image, image**2, *_smooth(image, mask), edges]


def _smooth(image: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """Mean over the mask's voxels around each voxel, within the slice, at two sizes."""
    weights = mask.astype(float)
    return [
        _blur(np.where(mask, image, 0.0), size) / np.maximum(_blur(weights, size), 0.05)
        for size in (1.0, 3.0)
    ]


def _blur(image: np.ndarray, size: float) -> np.ndarray:
    """Gaussian mean within the slice; `size` in voxels."""
    return gaussian_filter(image.astype(float), (size, size, 0.0))


def _columns(volumes: list[np.ndarray], voxels: np.ndarray) -> np.ndarray:
    """Values of volumes in some voxels, shape (M, P)."""
    return np.stack([volume.ravel()[voxels] for volume in volumes], axis=1)
