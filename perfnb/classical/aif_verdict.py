"""Measures of an arterial input, and what an expert would hold against it."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from perfnb.classical.aif_features import correlations, curve_features, tissue_features

MIN_VOXELS = 3
MIN_AREA_RATIO = 2.4
"""Area of the first pass over that of tissue, after the partial-volume factor. Blood of relaxivity
1/7 has 3.3 times the area of tissue with a CBV of 3 ml/100 g, between grey and white matter: at 2.4
more than a quarter is missing. Brains differ in their CBV (simulated ones by 12 %), so that no
threshold tells every curve that lost 40 % from one that lost 30."""
FIRST_PASS_S = 20.0  # after the tissue's peak; later, what a motion or a drift leaves adds up
MIN_LEAD_S, MAX_LEAD_S = 0.8, 8.0  # peak before that of tissue
MAX_ROUGHNESS = 2.2  # path of the curve over that of one smooth bolus
MAX_NOISE = 0.06  # standard deviation before the bolus over the peak: 2 % at a SNR of 20
MIN_AGREEMENT = 0.9  # mean correlation of the voxels with their mean
MAX_MISFIT = 0.012  # of the tissue curve's energy
TISSUE_DELAY_S = (-1.0, 4.0)  # of tissue after its input; more where half the brain is late
MIN_SHARE = 0.25  # of artery in voxels from which tissue is taken out: noise grows by its inverse
MAX_MOTION_MM = 4.0  # one voxel
RADIUS_MM = 50.0  # of a head: turns into shifts
MTT_GRID_S = (1.0, 2.0, 3.0, 4.5, 6.5, 9.0, 13.0)
DELAY_GRID_S = np.arange(-4.0, 6.1, 0.5)
FINE = 4  # steps a frame


def measure(
    own: np.ndarray,
    curves: np.ndarray,
    features: dict[str, np.ndarray],
    repetition_time_s: float,
    arrival: int,
    motion: np.ndarray | None = None,
) -> dict[str, float]:
    """Measure an arterial input against the brain's tissue."""
    curve = own.mean(axis=0)
    mean = curve_features(curve[None], repetition_time_s, arrival)
    tissue = tissue_features(features)
    target = tissue_curve(curves, features)
    misfit, delay_s = tissue_misfit(curve[None], target, repetition_time_s, arrival)
    return (
        {name: float(values[0]) for name, values in mean.items()}
        | {
            "n_voxels": len(own),
            "lead_s": tissue["peak_s"] - float(mean["peak_s"][0]),
            "tissue_height": tissue["height"],
            "tissue_width_s": tissue["width_s"],
            "agreement": float(correlations(own, curve).mean()),
            "misfit": float(misfit[0]),
            "tissue_delay_s": float(delay_s[0]),
            "area_ratio": first_pass_ratio(curve, target, repetition_time_s, arrival),
        }
        | ({} if motion is None else {"motion_mm": motion_at_peak(motion, curve, arrival)})
    )


def first_pass_ratio(
    curve: np.ndarray, tissue: np.ndarray, repetition_time_s: float, arrival: int
) -> float:
    """Find how much larger an arterial curve is than tissue's, by the areas of the first pass.

    A head that comes to lie elsewhere leaves curves raised or lowered until the end of the film;
    over all frames, that would count as blood.

    Parameters
    ----------
    curve, tissue : float array, shape (T,)
        Arterial input and tissue's curve [1/s].
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        First frame of the bolus.

    Returns
    -------
    float
        Ratio of the sums from the arrival to FIRST_PASS_S after the tissue's peak; 0 where tissue
        shows no bolus.
    """
    peak = arrival + int(np.argmax(tissue[arrival:]))
    passage = slice(arrival, peak + int(round(FIRST_PASS_S / repetition_time_s)))
    size = float(tissue[passage].sum())
    return float(curve[passage].sum()) / size if size > 0 else 0.0


def tissue_curve(curves: np.ndarray, features: dict[str, np.ndarray]) -> np.ndarray:
    """Median curve (T,) of the voxels with a typical bolus: what the brain's tissue shows."""
    typical = tissue_features(features)["height"]
    return np.median(curves[np.abs(features["height"] / typical - 1) < 0.3], axis=0)


def tissue_misfit(
    inputs: np.ndarray, tissue: np.ndarray, repetition_time_s: float, arrival: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find how badly each input explains the tissue: none that is an artery's does.

    Tissue sees the input delayed and convolved with a residue; the best of a grid of delays and
    exponential residues is taken.

    Parameters
    ----------
    inputs : float array, shape (N, T)
        Arterial candidates [1/s].
    tissue : float array, shape (T,)
        The tissue's curve [1/s].
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        First frame of the bolus; what lies before is taken for noise.

    Returns
    -------
    misfit : float array, shape (N,)
        Share of the tissue curve's energy that is left unexplained, 0 to 1.
    delay_s : float array, shape (N,)
        Delay of the best fit [s].
    """
    n_frames, start = len(tissue), max(arrival - 1, 0)
    step = repetition_time_s / FINE
    frames = np.arange(n_frames)
    fine = np.arange((n_frames - 1) * FINE + 1) / FINE
    fade = np.interp(fine, frames, (frames >= start).astype(float))
    low = np.minimum(fine.astype(int), n_frames - 2)
    part = fine - low
    detailed = (inputs[:, low] * (1 - part) + inputs[:, low + 1] * part) * fade
    shifts = np.rint(DELAY_GRID_S / step).astype(int)
    place = frames[None, start:] * FINE - shifts[:, None]
    inside = (place >= 0) & (place < len(fine))
    place = np.clip(place, 0, len(fine) - 1)
    target = tissue[start:]
    misfit, delay_s = np.full(len(inputs), np.inf), np.zeros(len(inputs))
    for mtt_s in MTT_GRID_S:
        decay = np.exp(-step / mtt_s)
        passed = lfilter([1.0], [1.0, -decay], detailed, axis=1)
        models = np.where(inside, passed[:, place], 0)
        scale = np.clip(models @ target, 0, None) / np.maximum((models**2).sum(axis=2), 1e-12)
        rest = ((target - scale[..., None] * models) ** 2).sum(axis=2) / (target**2).sum()
        best = rest.argmin(axis=1)
        lowest = rest[np.arange(len(inputs)), best]
        better = lowest < misfit
        misfit[better], delay_s[better] = lowest[better], DELAY_GRID_S[best[better]]
    return misfit, delay_s


def motion_at_peak(motion: np.ndarray, curve: np.ndarray, arrival: int) -> float:
    """Find how far the head is from its place before the bolus while the curve is high.

    Parameters
    ----------
    motion : float array, shape (T, 6)
        Shifts [mm] and turns [degrees]; a turn counts as the way of a point at RADIUS_MM.
    curve : float array, shape (T,)
        Arterial input.
    arrival : int
        First frame of the bolus.

    Returns
    -------
    float
        Largest distance while the curve is above half its height [mm].
    """
    way = motion * np.r_[np.ones(3), np.full(3, np.deg2rad(1) * RADIUS_MM)]
    place = way - np.median(way[: max(arrival, 1)], axis=0)
    frames = np.arange(len(curve))
    high = (curve > 0.5 * curve[arrival:].max()) & (frames >= arrival)
    return float(np.sqrt((place[high] ** 2).sum(axis=1)).max())


def reasons_against(measures: dict[str, float], alone: bool = False) -> tuple[str, ...]:
    """What an expert would hold against these measures.

    Parameters
    ----------
    measures : dict
        From `measure`, with the partial-volume factor.
    alone : bool
        The input is a curve without voxels: nothing is said about their number and agreement.

    Returns
    -------
    tuple of str
        Each with what was found and expected; empty for an input without fault.
    """
    m = measures
    pure = m["area_ratio"] * m["partial_volume"]
    area = f"area {pure:.2f} times that of tissue"
    early, late = TISSUE_DELAY_S
    moved_mm, share = m.get("motion_mm", 0.0), m.get("arterial_share", 1.0)
    lead_s = f"peak leads that of tissue by {m['lead_s']:.1f} s"
    checks = {
        f"only {m['n_voxels']} voxels (expected {MIN_VOXELS})": (
            not alone and m["n_voxels"] < MIN_VOXELS
        ),
        f"voxels disagree: mean correlation {m['agreement']:.2f} (expected {MIN_AGREEMENT})": (
            not alone and m["agreement"] < MIN_AGREEMENT
        ),
        f"{area} (expected {MIN_AREA_RATIO}): tissue in the voxels": (
            pure < MIN_AREA_RATIO and share >= MIN_SHARE
        ),
        f"only {share:.0%} of its voxels is artery (expected {MIN_SHARE:.0%})": share < MIN_SHARE,
        f"{lead_s} (expected {MIN_LEAD_S:g} to {MAX_LEAD_S:g})": (
            not MIN_LEAD_S <= m["lead_s"] <= MAX_LEAD_S
        ),
        f"width {m['width_s']:.0f} s, tissue {m['tissue_width_s']:.0f} s (expected less)": (
            m["width_s"] > 1.1 * m["tissue_width_s"]
        ),
        f"baseline noise {m['noise'] / m['height']:.0%} of the peak (expected below "
        f"{MAX_NOISE:.0%})": m["noise"] > MAX_NOISE * m["height"],
        f"jumpy: path {m['roughness']:.1f} times that of one bolus (expected below "
        f"{MAX_ROUGHNESS})": m["roughness"] > MAX_ROUGHNESS,
        f"tissue's curve does not follow from it: {m['misfit']:.1%} unexplained (expected below "
        f"{MAX_MISFIT:.1%})": m["misfit"] > MAX_MISFIT,
        f"tissue follows it by {m['tissue_delay_s']:.1f} s (expected {early:g} to {late:g})": (
            not early <= m["tissue_delay_s"] <= late
        ),
        f"head {moved_mm:.1f} mm away at the peak (expected below {MAX_MOTION_MM:g})": (
            moved_mm > MAX_MOTION_MM
        ),
    }
    return tuple(reason for reason, failed in checks.items() if failed)
