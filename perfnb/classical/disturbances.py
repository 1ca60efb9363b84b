"""What goes wrong in a film, one thing at a time, and what it does to each deconvolution.

Normal tissue of the reference object (CBV 4 ml/100 g, MTT 4 s, exponential residue) is made late,
its bolus smeared out on the way, its signal noisy, its film short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfnb.classical.deconvolution import METHODS, deconvolve
from perfnb.classical.reference_object import ReferenceObject, reference_object

TR_S = 1.4
FINE_S = 0.1  # grid on which a bolus is smeared out; TR_S is a multiple
NORMAL = {"CBF": 60.0, "CBV": 4.0, "MTT": 4.0, "Tmax": 0.0}
LEVELS = {
    "delay [s]": (-4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0),
    "dispersion [s]": (0.0, 1.0, 2.0, 3.0, 4.0, 6.0),
    "noise [% of signal]": (0.5, 1.0, 2.0, 3.0, 4.0, 6.0),
    "end of the film [s]": (28.0, 35.0, 42.0, 49.0, 63.0, 105.0),
}
"""Disturbances by name, with the levels that the book shows."""


@dataclass(frozen=True)
class Disturbed:
    """Curves of normal tissue that something happened to.

    `tissue`, shape (N, T), and `aif`, shape (T,), are delta R2* [1/s]; `arrival` is the first
    frame of the bolus, `delay_s` the true arterial delay [s].
    """

    tissue: np.ndarray
    aif: np.ndarray
    arrival: int
    delay_s: float


def disturb(what: str, level: float, seed: int = 0, repeats: int = 49) -> Disturbed:
    """Make normal tissue with one thing gone wrong.

    Parameters
    ----------
    what : str
        Name in LEVELS.
    level : float
        Arterial delay [s]; mean of the exponential that smears out the bolus [s]; standard
        deviation of the noise [% of the signal before the bolus]; length of the film [s].
    seed : int
        Seed of the noise.
    repeats : int
        Noise draws.

    Returns
    -------
    Disturbed

    Raises
    ------
    ValueError
        Unknown disturbance, or a level that cannot be.
    """
    if what not in LEVELS:
        raise ValueError(f"what={what!r} is unknown; known disturbances: {', '.join(LEVELS)}")
    if level < 0 and what != "delay [s]" or level <= 0 and what[:3] in ("noi", "end"):
        raise ValueError(f"level={level} of {what!r}; expected a value above zero")
    if what == "dispersion [s]":
        return _dispersed(level)
    delay_s = float(level) if what == "delay [s]" else 0.0
    snr = 100 / level if what == "noise [% of signal]" else None
    repeats = repeats if snr else 1
    made = reference_object(TR_S, snr=snr, repeats=repeats, seed=seed, delays_s=(delay_s,))
    last = round(level / TR_S) if what == "end of the film [s]" else None
    chosen = select(made, NORMAL["CBV"], NORMAL["MTT"], delay_s)
    return Disturbed(made.tissue[chosen, :last], made.aif[:last], made.arrival, delay_s)


def effects(what: str, seed: int = 0, repeats: int = 49) -> dict[str, dict[str, np.ndarray]]:
    """What each method finds in normal tissue at every level of one disturbance.

    Parameters
    ----------
    what : str
        Name in LEVELS.
    seed, repeats : int
        Seed and number of the noise draws.

    Returns
    -------
    {map: {method: float array, shape (3, K)}}
        16th, 50th and 84th percentile over the noise draws of CBF [ml/100 g/min], MTT [s] and
        Tmax minus the delay [s], at each of the K levels; "truth", shape (K,), beside the methods.
    """
    cases = [disturb(what, level, seed, repeats) for level in LEVELS[what]]
    found = {name: {"truth": np.full(len(cases), NORMAL[name])} for name in ("CBF", "MTT", "Tmax")}
    for method in METHODS:
        made = [
            deconvolve(c.tissue, c.aif, TR_S, method, c.arrival, dtype="float64").maps
            for c in cases
        ]
        for name, rows in found.items():
            off = [c.delay_s if name == "Tmax" else 0.0 for c in cases]
            values = (maps[name] - away for maps, away in zip(made, off, strict=True))
            rows[method] = np.transpose([np.nanpercentile(v, [16, 50, 84]) for v in values])
    return found


def select(made: ReferenceObject, cbv: float, mtt_s: float, delay_s: float) -> np.ndarray:
    """Indices of all noise draws of one kind of tissue: CBV [ml/100 g], MTT and delay [s].

    Raises
    ------
    ValueError
        The object has no such tissue.
    """
    wanted = {"CBV": cbv, "MTT": mtt_s, "Tmax": delay_s}
    found = np.flatnonzero(
        np.all([np.isclose(made.truth[n], v) for n, v in wanted.items()], axis=0)
    )
    if not found.size:
        known = {n: np.unique(made.truth[n]).tolist() for n in wanted}
        raise ValueError(f"the reference object has no tissue {wanted}; it has {known}")
    return found


def exponential_residue(lags_s: np.ndarray, cbv: float, mtt_s: float, delay_s: float) -> np.ndarray:
    """Residue times flow of a kind of tissue at some lags [s], in ml/100 g/min."""
    since = np.asarray(lags_s, float) - delay_s
    height = 60 * cbv / mtt_s
    return np.where(since >= 0, height * np.exp(-np.maximum(since, 0) / mtt_s), 0.0)


def _dispersed(mean_s: float) -> Disturbed:
    """Normal tissue whose bolus was smeared out by an exponential of this mean [s]."""
    step = round(TR_S / FINE_S)
    fine = reference_object(FINE_S, snr=None, repeats=1, n_frames=80 * step, delays_s=(0.0,))
    curve = fine.tissue[select(fine, NORMAL["CBV"], NORMAL["MTT"], 0.0)[0]]
    if mean_s > 0:
        edges = np.maximum(np.arange(curve.size + 1) - 0.5, 0) * FINE_S
        curve = np.convolve(curve, -np.diff(np.exp(-edges / mean_s)))[: curve.size]
    return Disturbed(curve[None, ::step], fine.aif[::step], 1, 0.0)
