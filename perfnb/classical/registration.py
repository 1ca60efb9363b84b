"""Where the head lies in each frame of a bolus film, by weighted least squares.

A frame is modelled as the head before the bolus, its contrast changed, then moved rigidly.
The change of contrast is fitted with the pose, so that the bolus itself is no reason to move:
smooth fields, for a bolus that reaches one part earlier than another, and curves of the baseline's
brightness, for tissues that darken differently. Voxels that neither explains, such as vessels,
lose their say by weights taken from the fit's own residuals over the film.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from perfnb.classical.rigid import compose, grid_points, interpolate, invert, move_points

RIM = 2  # voxels around the brain that count too: its outline tells most
MIN_VOXELS = 100
MARGIN = 3  # further voxels in which the head may move before voxels are lost from view
FIELDS = (3, 3, 3)  # cosines along x, y, z
LEVELS = 8  # steps of the baseline's brightness
COARSE_VOXELS = 1.0  # in-plane smoothing of the first round, standard deviation
SHARPENINGS = 5  # rounds that undo the blur of moved frames
COARSE_STEPS, FINE_STEPS = 4, (3, 3)
ENOUGH = 0.02  # a smaller step, in mm and degrees, ends a frame's search: noise allows no less


@dataclass(frozen=True)
class Head:
    """The box around a brain, and the voxels of it that count.

    `box` cuts (X, Y, Z) in-plane; `points` (3, M) are its voxel centres from the centre of the
    whole volume [mm]; `chosen` (N,) indexes those of brain and rim, `inside` (M,) is the brain.
    """

    box: tuple[slice, slice, slice]
    shape: tuple[int, int, int]
    size_mm: np.ndarray
    points: np.ndarray
    chosen: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, broken: np.ndarray, size_mm: np.ndarray) -> Head:
        """Return the box of a brain (X, Y, Z), without broken voxels and their neighbours."""
        cross = np.ones((3, 3, 1), bool)
        rim = binary_dilation(mask, cross, iterations=RIM)
        near = [np.flatnonzero(rim.any(axis=other)) for other in ((1, 2), (0, 2))]
        cut = [slice(max(n[0] - MARGIN, 0), n[-1] + MARGIN + 1) for n in near]
        box = (*cut, slice(None))
        good = rim & ~binary_dilation(broken, cross) if broken.any() else rim
        whole = grid_points(mask.shape, size_mm).reshape(3, *mask.shape)[(slice(None), *box)]
        chosen = np.flatnonzero(good[box])
        if chosen.size < MIN_VOXELS:
            raise ValueError(
                f"{chosen.size} voxels in and around the mask have a signal in all frames; "
                f"expected at least {MIN_VOXELS}: check the series and the mask"
            )
        return cls(box, mask[box].shape, size_mm, whole.reshape(3, -1), chosen, mask[box].ravel())

    def read(self, volume: np.ndarray, pose: np.ndarray, everywhere: bool = False) -> np.ndarray:
        """Read a volume of the box where a pose takes its voxels, linearly between them.

        A thick slice sees the mean of its thickness: shifted by a part of it, a mix of two slices.
        Float32 of shape (N,), NaN where the volume does not reach; or (X, Y, Z) of the whole box.
        """
        points = self.points if everywhere else self.points[:, self.chosen]
        index = (move_points(pose, points) - self.points[:, :1]) / self.size_mm[:, None]
        values = interpolate(volume, index)
        if everywhere:
            return values.reshape(self.shape)
        last = np.array(self.shape)[:, None] - 0.5
        values[((index < -0.5) | (index > last)).any(axis=0)] = np.nan
        return values


@dataclass(frozen=True)
class Model:
    """The head before the bolus, and how its frames may differ: contrast (N, K) and pose.

    `solver` (K + 6, N) gives the least-squares contrast and small motion that explain a residual.
    """

    volume: np.ndarray
    contrast: np.ndarray
    solver: np.ndarray

    @classmethod
    def of(cls, head: Head, volume: np.ndarray, fields: np.ndarray, weights: np.ndarray) -> Model:
        """Linearise about a reference volume (X, Y, Z), with weights (N,)."""
        contrast = fields * volume.ravel()[head.chosen][:, None]
        columns = np.concatenate([contrast, -_motion_columns(head, volume)], axis=1)
        scale = np.sqrt(weights @ columns**2)
        columns /= np.where(scale > 0, scale, 1)
        weighted = columns * weights[:, None]
        gram = (weighted.T @ columns).astype(float) + 1e-5 * np.eye(len(scale))
        solver = np.linalg.solve(gram, weighted.T) / np.where(scale > 0, scale, 1)[:, None]
        return cls(volume, contrast, solver.astype(np.float32))

    def solve(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Contrast (K,) and motion (6,) that explain values (N,); NaN counts for nothing."""
        found = self.solver @ np.nan_to_num(values, nan=0.0)
        return found[:-6], found[-6:].astype(float)

    def frame(self, head: Head, contrast: np.ndarray) -> np.ndarray:
        """The reference with another contrast (K,), shape (X, Y, Z); beyond the rim as it was."""
        volume = self.volume.copy()
        volume.reshape(-1)[head.chosen] = self.contrast @ contrast
        return volume


def _motion_columns(head: Head, volume: np.ndarray) -> np.ndarray:
    """Change of the chosen voxels per mm and per degree, shape (N, 6); 0 along a single slice."""
    slopes = [
        (np.gradient(volume, size, axis=axis) if n > 1 else np.zeros_like(volume)).ravel()
        for axis, (n, size) in enumerate(zip(volume.shape, head.size_mm, strict=True))
    ]
    along_x, along_y, along_z = (slope[head.chosen] for slope in slopes)
    x, y, z = np.deg2rad(head.points[:, head.chosen])
    turns = [along_z * y - along_y * z, along_x * z - along_z * x, along_y * x - along_x * y]
    if head.shape[2] == 1:
        turns[0], turns[1] = np.zeros_like(x), np.zeros_like(x)
    return np.stack([along_x, along_y, along_z, *turns], axis=1).astype(np.float32)


def _contrast_fields(head: Head, volume: np.ndarray) -> np.ndarray:
    """Smooth fields, and steps of brightness without coil shading, shape (N, K)."""
    points = head.points[:, head.chosen]
    reach = np.ptp(points, axis=1, keepdims=True)
    along = np.pi * (points - points.min(axis=1, keepdims=True)) / np.where(reach > 0, reach, 1)
    fields = [
        np.prod([np.cos(k * u) for k, u in zip(order, along, strict=True)], axis=0)
        for order in np.ndindex(*(min(n, m) for n, m in zip(FIELDS, head.shape, strict=True)))
    ]
    inside = head.inside.reshape(head.shape)
    width = (*(22.0 / head.size_mm[:2]), 1.0)
    shading = gaussian_filter(np.where(inside, volume, 0), width)
    shading /= np.maximum(gaussian_filter(inside.astype(np.float32), width), 0.05)
    level = (volume / np.maximum(shading, 1e-6 * np.abs(volume).max())).ravel()[head.chosen]
    knots = np.r_[
        0, np.quantile(level[level > 0.3 * np.median(level)], np.linspace(0, 1, LEVELS - 1))
    ]
    steps = [np.interp(level, knots, row) for row in np.eye(LEVELS)[1:]]
    return np.stack([*fields, *steps], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Alignment:
    """Where the head lies in each frame.

    `poses` (T, 6) hold shifts [mm] and turns [degrees] against the first frame; `misfit` (T,) is
    the standard deviation of what the model leaves unexplained, as a fraction of the brain's mean.
    """

    head: Head
    frames: np.ndarray
    baseline: np.ndarray
    poses: np.ndarray
    misfit: np.ndarray

    def models(self) -> tuple[np.ndarray, np.ndarray]:
        """Every frame's model, at rest in the first frame's place and where the head lies.

        Two float32 arrays, shape (X, Y, Z, T) of the box `head.box`.
        """
        head, frames, baseline = self.head, self.frames, self.baseline
        reference = _sharpen(head, frames[baseline], self.poses[baseline], None)
        fields = _contrast_fields(head, reference)
        model = Model.of(head, reference, fields, np.ones(len(head.chosen), np.float32))
        still, moved = np.empty((2, *head.shape, len(frames)), np.float32)
        for t, (frame, pose) in enumerate(zip(frames, self.poses, strict=True)):
            contrast = model.solve(head.read(frame, pose))[0]
            rest = frame - head.read(model.frame(head, contrast), invert(pose), True)
            contrast = contrast + model.solve(head.read(rest, pose))[0]
            still[..., t] = model.frame(head, contrast)
            moved[..., t] = head.read(still[..., t], invert(pose), True)
        return still, moved


def align(
    series: np.ndarray, mask: np.ndarray, size_mm: np.ndarray, baseline: np.ndarray
) -> Alignment:
    """Estimate where the head lies in each frame.

    A coarse round on smoothed frames, then rounds that compare each frame with the moved model of
    it (Gauss-Newton, as Lucas and Kanade, IJCAI 1981): both sides then went through the same
    interpolation, which with slices of 5 to 10 mm matters more than noise.

    Parameters
    ----------
    series : float32 array, shape (X, Y, Z, T)
        Finite signal; a voxel that is 0 in all frames says nothing, nor do its neighbours.
    mask : bool array, shape (X, Y, Z)
        Brain.
    size_mm : float array, shape (3,)
        Voxel size [mm].
    baseline : int array, shape (B,)
        Frames before the bolus.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        Fewer than 100 voxels with a signal.
    """
    head = Head.of(mask, ~np.any(series, axis=-1), size_mm)
    frames = np.ascontiguousarray(np.moveaxis(series[head.box], -1, 0))
    poses, fields, weights = _coarse_poses(head, frames, baseline)
    reference = None
    for steps in FINE_STEPS:
        poses = _against(poses, poses[baseline].mean(axis=0))
        reference = _sharpen(head, frames[baseline], poses[baseline], reference)
        model = Model.of(head, reference, fields, weights)
        found = [_refine(head, model, *pair, steps) for pair in zip(frames, poses, strict=True)]
        poses, rest = (np.stack(part) for part in zip(*found, strict=True))
        weights = _weights(rest)
    inside = head.inside[head.chosen]
    level = reference.ravel()[head.chosen][inside].mean()
    misfit = np.sqrt(np.nanmean(rest[:, inside] ** 2, axis=1)) / level
    poses = _against(poses, poses[0])
    poses[0] = 0  # but for rounding
    return Alignment(head, frames, baseline, poses, misfit)


def _against(poses: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Poses (T, 6) as motion from where another pose puts the head."""
    back = invert(origin)
    return np.stack([compose(pose, back) for pose in poses])


def _coarse_poses(
    head: Head, frames: np.ndarray, baseline: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses (T, 6) of smoothed frames, the fields of contrast (N, K), and weights (N,)."""
    smooth = gaussian_filter(frames, (0, COARSE_VOXELS, COARSE_VOXELS, 0))
    reference = smooth[baseline].mean(axis=0)
    fields = _contrast_fields(head, frames[baseline].mean(axis=0))
    model = Model.of(head, reference, fields, np.ones(len(head.chosen), np.float32))
    pose, poses, rest = np.zeros(6), [], []
    for frame in smooth:
        for _ in range(COARSE_STEPS):
            values = head.read(frame, pose)
            contrast, motion = model.solve(values)
            pose = compose(pose, motion)
            if np.abs(motion).max() < 2 * ENOUGH:
                break
        poses.append(pose)
        rest.append(values - model.contrast @ contrast)
        if np.isfinite(values).mean() < 0.5:
            pose = np.zeros(6)  # lost from view: the next frame starts anew
    return np.stack(poses), fields, _weights(np.stack(rest))


def _sharpen(
    head: Head,
    frames: np.ndarray,
    poses: np.ndarray,
    reference: np.ndarray | None,
) -> np.ndarray:
    """Reference (X, Y, Z) that looks like each baseline frame (B, X, Y, Z) once it is moved.

    The mean of frames put back in place is blurred by two interpolations; what it leaves of the
    frames is added to it, in rounds (Irani and Peleg, CVGIP 53:231, 1991).
    """
    pairs = list(zip(frames, poses, strict=True))
    if reference is None:
        reference = np.mean([head.read(f, p, everywhere=True) for f, p in pairs], axis=0)
    for _ in range(SHARPENINGS):
        rest = [frame - head.read(reference, invert(pose), True) for frame, pose in pairs]
        back = [head.read(r, pose, True) for r, (_, pose) in zip(rest, pairs, strict=True)]
        reference = reference + np.mean(back, axis=0)
    return reference.astype(np.float32)


def _refine(
    head: Head, model: Model, frame: np.ndarray, pose: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pose (6,) of one frame, and what is left unexplained in the head's own place, (N,)."""
    contrast = model.solve(head.read(frame, pose))[0]
    for step in range(steps + 1):
        moved = head.read(model.frame(head, contrast), invert(pose), everywhere=True)
        rest = head.read(frame - moved, pose)
        change, motion = model.solve(rest)
        if step == steps or np.abs(motion).max() < ENOUGH:
            return pose, rest
        contrast, pose = contrast + change, compose(pose, motion)


def _weights(rest: np.ndarray) -> np.ndarray:
    """Weights (N,) with mean 1 from residuals (T, N): the inverse of their variance, bounded."""
    seen = np.isfinite(rest)
    variance = (np.where(seen, rest, 0) ** 2).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    weights = 1 / (variance + 0.3 * np.median(variance))
    return (weights / weights.mean()).astype(np.float32)
