"""Deconvolution: from tissue curves and the arterial input to residues and maps.

Tissue sees the arterial input convolved with its residue function: c = CBF (aif * R).
Block-circulant SVD inverts that without caring when the bolus arrives (Wu et al. 2003,
Magn Reson Med 50:164).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from perfnb.classical.curves import (
    DENSITY,
    KAPPA_H,
    PER_100_G,
    check_curves,
    interpolated_maximum,
    smooth_in_time,
    time_to_peak,
)
from perfnb.classical.residues import (
    block_circulant_svd,
    maps_from_residue,
    truncated_inverse,
)
from perfnb.classical.signal import check_echo_time, check_repetition_time

__all__ = [
    "DENSITY",
    "KAPPA_H",
    "METHODS",
    "PER_100_G",
    "Deconvolution",
    "block_circulant_svd",
    "deconvolve",
    "interpolated_maximum",
    "maps_from_residue",
    "smooth_in_time",
    "time_to_peak",
    "truncated_inverse",
]

METHODS = {
    "SVD": 0.2,
    "block-circulant SVD": 0.1,
    "oscillation-index SVD": 0.095,
    "parametric": None,
}
"""Methods by name, with their default threshold: the fraction of the largest singular value that
is kept (Ostergaard 1996; Wu 2003), or the oscillation index allowed (Wu 2003)."""

NAMES = ("CBF", "CBV", "MTT", "Tmax", "TTP")


@dataclass(frozen=True)
class Deconvolution:
    """Maps of N voxels and how far they can be trusted.

    Attributes
    ----------
    maps : dict of float arrays, shape (N,)
        CBF [ml/100 g/min], CBV [ml/100 g], MTT, Tmax and TTP [s]; MTT = 60 CBV / CBF.
        All are NaN where not `fitted`, and CBV and MTT where a curve's area is not above zero.
    fitted : bool array, shape (N,)
        False where a curve is not finite, constant, or without flow above zero.
    residual : float array, shape (N,)
        Root mean square of tissue curve minus fit [1/s].
    standard_error : dict of float arrays, shape (N,)
        Unit of the map. SVD methods: CBF, CBV and MTT, from the residual and the linear operator;
        noise only, without the bias of the truncation, and MTT as if CBF and CBV erred
        independently. Parametric: all five, the posterior's standard deviation.
    delay_s : float array, shape (N,), or None
        Arterial delay [s]; parametric only.
    shape : float array, shape (N,), or None
        Alpha of the gamma distribution of transit times: 1 exponential, large a box;
        parametric only.
    method : str
    threshold : float or None
        As used.
    """

    maps: dict[str, np.ndarray]
    fitted: np.ndarray
    residual: np.ndarray
    standard_error: dict[str, np.ndarray]
    delay_s: np.ndarray | None
    shape: np.ndarray | None
    method: str
    threshold: float | None


def deconvolve(
    tissue: np.ndarray,
    aif: np.ndarray,
    repetition_time_s: float,
    method: str = "block-circulant SVD",
    arrival: int = 0,
    threshold: float | None = None,
    echo_time_s: float | None = None,
    prior: str = "flat",
    device: str = "cpu",
    dtype: str = "float32",
) -> Deconvolution:
    """Make five perfusion maps of all voxels at once, by one of four methods.

    Tmax is the lag of the residue's maximum, by a parabola through three frames (SVD methods) or
    the fitted delay (parametric: a residue that only falls is largest where it begins). SVD
    methods look no later than the tissue's peak allows, so that noise in the residue's tail is
    not taken for its maximum: see `singular_values.Solver.maximum`.
    TTP is the peak of the fitted tissue curve, counted from the first frame, also interpolated.
    CBV of SVD methods is the ratio of areas from `arrival` on.

    Parameters
    ----------
    tissue : float array, shape (N, T)
        Delta R2* of the tissue [1/s].
    aif : float array, shape (T,)
        Delta R2* of the artery [1/s].
    repetition_time_s : float
        Repetition time [s].
    method : str
        Name in METHODS.
    arrival : int
        First frame of the bolus; the frames before it were the baseline.
    threshold : float, optional
        The method's default, in METHODS, unless given; not for "parametric".
    echo_time_s : float, optional
        Echo time [s], for the parametric method alone: dark frames then weigh less, as their
        delta R2* is noisier.
    prior : str
        Of the parametric method: name in `parametric.PRIORS`.
    device : str
        "cpu" or a GPU as torch names it.
    dtype : str
        "float32" or "float64".

    Returns
    -------
    Deconvolution

    Raises
    ------
    ValueError
        Shapes that do not fit; an AIF that is not finite, constant, below zero or peaks in the
        first frame; a frame without any finite value, or no usable curve; unknown method, prior,
        dtype or device.
    """
    tissue, aif = np.asarray(tissue), np.asarray(aif, float)
    check_repetition_time(repetition_time_s)
    check_curves(tissue, aif, arrival)
    threshold = _checked_threshold(method, threshold)
    if echo_time_s is not None:
        check_echo_time(echo_time_s)
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype={dtype!r}; expected 'float32' or 'float64'")
    import torch  # takes a second to load, and finding an AIF does without

    from perfnb.classical import parametric, singular_values

    usable = np.isfinite(tissue.sum(axis=1)) & (np.ptp(tissue, axis=1) > 0)
    if not usable.any():
        raise ValueError(
            f"none of the {len(tissue)} tissue curves is finite and changes in time; expected "
            "delta R2* of a series with a bolus"
        )
    curves = tissue if usable.all() else tissue[usable]
    data = torch.as_tensor(curves).to(_checked_device(device), getattr(torch, dtype))
    if method == "parametric":
        fit = parametric.fit_gamma(data, aif, repetition_time_s, arrival, echo_time_s, prior)
        values, delay, alpha = parametric.maps(fit)
        residual, errors = fit.residual, fit.deviation * values.new_tensor(parametric.UNITS)
    else:
        solver = singular_values.Solver(aif, repetition_time_s, arrival, method, threshold, data)
        values, residual, errors = singular_values.read_maps(data, solver)
        delay = alpha = None
    values[:, 1:3] = torch.where(values[:, 1:2] > 0, values[:, 1:3], torch.nan)
    fitted = usable.copy()
    fitted[usable] = (values[:, 0] > 0).cpu().numpy()
    spread = partial(_spread, usable=usable, fitted=fitted)
    return Deconvolution(
        maps={name: spread(column) for name, column in zip(NAMES, values.T, strict=True)},
        fitted=fitted,
        residual=spread(residual),
        standard_error={n: spread(column) for n, column in zip(NAMES, errors.T, strict=False)},
        delay_s=None if delay is None else spread(delay),
        shape=None if alpha is None else spread(alpha),
        method=method,
        threshold=threshold,
    )


def _spread(column, usable: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Values of the usable voxels as values of all N, NaN where there is none."""
    found = column.cpu().numpy()
    full = np.full(len(usable), np.nan, found.dtype)
    full[usable] = found
    full[~fitted] = np.nan
    return full


def _checked_device(device: str):
    import torch

    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here ({str(error).splitlines()[0]}); "
            "expected 'cpu', or 'cuda' on a machine with such a GPU"
        ) from error


def _checked_threshold(method: str, threshold: float | None) -> float | None:
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; known methods: {', '.join(METHODS)}")
    if threshold is None:
        return METHODS[method]
    if method == "parametric":
        raise ValueError(f"threshold={threshold}; the parametric method has none: leave it out")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold}; expected a fraction of at least 0 and below 1")
    return float(threshold)
