"""The arterial input function: found in the film, with a verdict that can say "none".

Arteries show the bolus early, tall, narrow and smooth, and never alone: a voxel is kept only
beside others like it. Veins are tall but late; tissue is low and wide; noise is rough.
The criteria follow Mouridsen et al. 2006 (Magn Reson Med 55:524).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from perfnb.classical.deconvolution import smooth_in_time, time_to_peak
from perfnb.classical.signal import check_repetition_time, check_signal

N_VOXELS = 6  # voxels averaged for the AIF: the fewer, the purer
MIN_VOXELS = 3
MIN_HEIGHT = 2.0  # peak over that of tissue; grey matter alone stays below
MIN_LEAD_S = 1.2  # peak before that of tissue
MAX_ROUGHNESS = 2.2  # path of the curve over that of one smooth bolus
LEAD_SCALE_S = 2.0  # a peak this much earlier is worth a factor e
MAX_LEAD_S = 8.0  # no artery leads the tissue by more


@dataclass(frozen=True)
class AIF:
    """An arterial input function and how far it can be trusted.

    Attributes
    ----------
    curve : float array, shape (T,)
        Mean delta R2* of the voxels [1/s].
    voxels : bool array, shape (X, Y, Z)
        Where it was read.
    ok : bool
        The verdict.
    reasons : tuple of str
        What speaks against it; empty for a good one.
    measures : dict
        n_voxels, height [1/s], noise [1/s], peak_s, width_s, lead_s (before tissue), roughness,
        agreement (mean correlation of the voxels with the curve), tissue_height [1/s],
        tissue_width_s.
    """

    curve: np.ndarray
    voxels: np.ndarray
    ok: bool
    reasons: tuple[str, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)


class NoAIF(ValueError):
    """No arterial input function can be read from a series; `reasons` says why."""

    def __init__(self, reasons: tuple[str, ...]):
        self.reasons = tuple(reasons)
        super().__init__(
            f"no arterial input function found: {'; '.join(self.reasons)}; "
            "give aif_mask with voxels of an artery, or leave this patient out"
        )


def find_aif(
    delta_r2star: np.ndarray,
    mask: np.ndarray,
    repetition_time_s: float,
    arrival: int = 5,
    aif_mask: np.ndarray | None = None,
) -> AIF:
    """Find the arterial input function, or judge the one that the user placed.

    Parameters
    ----------
    delta_r2star : float array, shape (X, Y, Z, T)
        Change of relaxation rate [1/s], not smoothed in space.
    mask : bool array, shape (X, Y, Z)
        Usable voxels of the brain.
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        First frame of the bolus; the frames before it tell the noise.
    aif_mask : bool array, shape (X, Y, Z), optional
        Voxels of an artery chosen by the user; the search is skipped.

    Returns
    -------
    AIF
        With ``ok=False`` and reasons where none can be trusted. Voxels chosen by the user are
        believed (``ok=True``) as long as they hold a bolus; the reasons are then warnings.

    Raises
    ------
    ValueError
        Shapes that don't fit, an empty mask or aif_mask.
    """
    check_repetition_time(repetition_time_s)
    mask = np.asarray(mask, bool)
    check_signal(delta_r2star, mask)
    curves = delta_r2star[mask]
    features = curve_features(curves, repetition_time_s, arrival)
    if aif_mask is None:
        chosen = np.zeros(mask.shape, bool)
        chosen[mask] = _choose(curves, features, mask)
    else:
        chosen = _checked_aif_mask(aif_mask, mask.shape)
    selected = delta_r2star[chosen]
    if not len(selected):
        reason = "no voxel is early, tall, narrow and smooth beside others like it"
        return AIF(np.zeros(delta_r2star.shape[-1], np.float32), chosen, False, (reason,), {})
    curve = selected.mean(axis=0)
    measures = _measures(curve, selected, features, repetition_time_s, arrival)
    reasons = _reasons(measures)
    ok = not reasons if aif_mask is None else bool(curve[arrival:].sum() > 0)
    return AIF(curve.astype(np.float32), chosen, ok, reasons, measures)


def curve_features(
    curves: np.ndarray, repetition_time_s: float, arrival: int
) -> dict[str, np.ndarray]:
    """Measure what tells arteries from the rest.

    Parameters
    ----------
    curves : float array, shape (N, T)
        Delta R2* [1/s].
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        First frame of the bolus.

    Returns
    -------
    dict of float arrays, shape (N,)
        height and noise [1/s], peak_s, width_s (full width at half maximum), roughness (path of
        the curve over twice its height: 1 for one smooth bolus).
    """
    smooth = smooth_in_time(curves)
    height = np.maximum(smooth[:, arrival:].max(axis=1), 1e-6)
    path = np.abs(np.diff(curves[:, max(arrival - 1, 0) :], axis=1)).sum(axis=1)
    above = smooth[:, arrival:] > 0.5 * height[:, None]
    return {
        "height": height,
        "noise": curves[:, 1:arrival].std(axis=1),
        "peak_s": time_to_peak(curves, repetition_time_s, arrival),
        "width_s": above.sum(axis=1) * repetition_time_s,
        "roughness": path / (2 * height),
    }


def _typical(features: dict[str, np.ndarray]) -> dict[str, float]:
    """Median features of the voxels that show a bolus above noise: the tissue."""
    seen = features["height"] > 3 * features["noise"]
    seen = seen if seen.sum() >= 10 else np.ones_like(seen)
    return {name: float(np.median(values[seen])) for name, values in features.items()}


def _choose(curves: np.ndarray, features: dict[str, np.ndarray], mask: np.ndarray) -> np.ndarray:
    """Voxels (of the mask) that make up the AIF."""
    typical = _typical(features)
    candidate = (
        (features["height"] > 1.3 * typical["height"])
        & (features["height"] > 8 * features["noise"])
        & (features["peak_s"] < typical["peak_s"])
        & (features["width_s"] <= 1.1 * typical["width_s"])
        & (features["roughness"] < MAX_ROUGHNESS)
    )
    if candidate.sum() < MIN_VOXELS:
        return np.zeros(len(curves), bool)
    lead_s = np.clip(typical["peak_s"] - features["peak_s"], 0, MAX_LEAD_S)
    score = features["height"] * np.exp(lead_s / LEAD_SCALE_S) / features["width_s"].clip(1e-3) ** 2
    score = np.where(candidate, score, 0)
    volume = np.zeros(mask.shape)
    volume[mask] = score
    neighbours = ndimage.uniform_filter(volume, size=3, mode="constant")[mask] * 27 - score
    score = np.where(neighbours > 0, score, 0)
    return _agreeing(curves, score)


def _agreeing(curves: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Best-scored voxels whose curves correlate with the best of them."""
    best = np.argsort(score)[::-1][: 3 * N_VOXELS]
    best = best[score[best] > 0]
    chosen = np.zeros(len(curves), bool)
    if len(best) >= MIN_VOXELS:
        leader = np.median(curves[best[:N_VOXELS]], axis=0)
        alike = [np.corrcoef(curves[i], leader)[0, 1] > 0.9 for i in best]
        chosen[best[np.array(alike)][:N_VOXELS]] = True
    return chosen


def _checked_aif_mask(aif_mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    chosen = np.asarray(aif_mask) > 0
    if chosen.shape != shape:
        raise ValueError(f"aif_mask has shape {chosen.shape}; expected the series' grid {shape}")
    if not chosen.any():
        raise ValueError("aif_mask is empty; mark at least one voxel of an artery")
    return chosen


def _measures(curve, selected, features, repetition_time_s, arrival) -> dict[str, float]:
    own = curve_features(curve[None], repetition_time_s, arrival)
    typical = _typical(features)
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement = np.mean([np.corrcoef(row, curve)[0, 1] for row in selected])
    return {name: float(values[0]) for name, values in own.items()} | {
        "n_voxels": len(selected),
        "lead_s": typical["peak_s"] - float(own["peak_s"][0]),
        "tissue_height": typical["height"],
        "tissue_width_s": typical["width_s"],
        "agreement": float(np.nan_to_num(agreement)),
    }


def _reasons(measures: dict[str, float]) -> tuple[str, ...]:
    """What an expert would hold against these measures."""
    m = measures
    times = m["height"] / m["tissue_height"]
    checks = {
        f"only {m['n_voxels']} voxels (expected {MIN_VOXELS})": m["n_voxels"] < MIN_VOXELS,
        f"peak {times:.2f} times that of tissue (expected {MIN_HEIGHT})": times < MIN_HEIGHT,
        f"peak leads that of tissue by {m['lead_s']:.1f} s (expected {MIN_LEAD_S})": (
            m["lead_s"] < MIN_LEAD_S
        ),
        f"width {m['width_s']:.0f} s, tissue {m['tissue_width_s']:.0f} s (expected less)": (
            m["width_s"] > 1.1 * m["tissue_width_s"]
        ),
        f"baseline noise {m['noise'] / m['height']:.0%} of the peak (expected below 15 %)": (
            m["noise"] > 0.15 * m["height"]
        ),
        f"jumpy: path {m['roughness']:.1f} times that of one bolus (expected below 2)": (
            m["roughness"] > MAX_ROUGHNESS
        ),
        f"voxels disagree: mean correlation {m['agreement']:.2f} (expected 0.9)": (
            m["agreement"] < 0.9
        ),
    }
    return tuple(reason for reason, failed in checks.items() if failed)
