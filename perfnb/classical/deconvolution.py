"""Deconvolution: from tissue curves and the arterial input to residues and maps.

Tissue sees the arterial input convolved with its residue function: c = CBF (aif * R).
Block-circulant SVD inverts that without caring when the bolus arrives (Wu et al. 2003,
Magn Reson Med 50:164).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfnb.classical.curves import (
    DENSITY,
    EARLIEST_LAG_S,
    KAPPA_H,
    LATEST_LAG_S,
    PER_100_G,
    check_curves,
    interpolated_maximum,
    smooth_in_time,
    time_to_peak,
)
from perfnb.classical.signal import check_repetition_time

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


def truncated_inverse(aif: np.ndarray, repetition_time_s: float, threshold: float) -> np.ndarray:
    """Matrix that deconvolves any tissue curve by one product.

    The AIF is padded with zeros to 2T and wrapped into a circulant matrix.
    Its singular values are the moduli of the AIF's Fourier coefficients, so the SVD is an FFT,
    and its truncated inverse is circulant again.

    Parameters
    ----------
    aif : float array, shape (T,)
        Arterial input [1/s].
    repetition_time_s : float
        Repetition time [s].
    threshold : float
        Singular values below this fraction of the largest are dropped.

    Returns
    -------
    float32 array, shape (T, 2T)
        ``tissue @ matrix`` is the residue.
    """
    n_frames = len(aif)
    spectrum = np.fft.fft(np.asarray(aif, float), 2 * n_frames) * repetition_time_s
    kept = np.abs(spectrum) >= threshold * np.abs(spectrum).max()
    inverse = np.zeros_like(spectrum)
    inverse[kept] = 1 / spectrum[kept]
    kernel = np.fft.ifft(inverse).real
    lag = np.arange(2 * n_frames)[None, :] - np.arange(n_frames)[:, None]
    return kernel[lag % (2 * n_frames)].astype(np.float32)


def block_circulant_svd(
    tissue: np.ndarray, aif: np.ndarray, repetition_time_s: float, threshold: float = 0.1
) -> np.ndarray:
    """Deconvolve all tissue curves at once by block-circulant SVD.

    Parameters
    ----------
    tissue : float array, shape (N, T)
        Delta R2* of the tissue [1/s].
    aif : float array, shape (T,)
        Delta R2* of the artery [1/s].
    repetition_time_s : float
        Repetition time [s].
    threshold : float
        Singular values below this fraction of the largest are dropped.

    Returns
    -------
    float32 array, shape (N, 2T)
        Residue scaled by flow [ml/ml/s]; lags of `T` and more are negative (they wrap around).

    Raises
    ------
    ValueError
        Shapes that don't fit, an AIF without area, a threshold outside [0, 1).
    """
    aif = np.asarray(aif, float)
    check_repetition_time(repetition_time_s)
    if tissue.ndim != 2 or aif.shape != tissue.shape[1:]:
        raise ValueError(
            f"tissue has shape {tissue.shape} and aif {aif.shape}; expected (N, T) and (T,)"
        )
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold}; expected a fraction of at least 0 and below 1")
    if not np.isfinite(aif).all() or aif.sum() <= 0:
        raise ValueError("aif is not finite or has no area; expected a bolus above zero")
    matrix = truncated_inverse(aif, repetition_time_s, threshold)
    return np.asarray(tissue, np.float32) @ matrix


def maps_from_residue(
    residue: np.ndarray,
    tissue: np.ndarray,
    aif: np.ndarray,
    repetition_time_s: float,
    arrival: int = 0,
) -> dict[str, np.ndarray]:
    """Five perfusion maps of all voxels, in physical units, not clipped.

    CBF is the maximum of the residue and Tmax its lag.
    CBV is the area of the tissue curve over that of the AIF, from the bolus arrival to the end
    of the series: recirculation is part of both, so the ratio holds for the whole series,
    whereas a cut after the first passage would rob delayed tissue.
    MTT = 60 CBV / CBF exactly, since density and kappa_H scale CBF and CBV alike.
    TTP counts from the first frame, on the curve smoothed in time.

    Parameters
    ----------
    residue : float array, shape (N, 2T)
        From `block_circulant_svd`.
    tissue : float array, shape (N, T)
        Delta R2* of the tissue [1/s].
    aif : float array, shape (T,)
        Delta R2* of the artery [1/s].
    repetition_time_s : float
        Repetition time [s].
    arrival : int
        First frame of the bolus.

    Returns
    -------
    dict of float32 arrays, shape (N,)
        CBF [ml/100 g/min], CBV [ml/100 g], MTT, Tmax, TTP [s].
    """
    flow, lag = _residue_maximum(residue, repetition_time_s)
    area = tissue[:, arrival:].sum(axis=-1) / np.sum(aif[arrival:])
    cbf = np.maximum(60 * PER_100_G * flow, 0)
    cbv = np.maximum(PER_100_G * area, 0)
    mtt = np.divide(60 * cbv, cbf, out=np.zeros_like(cbv), where=cbf > 1e-6)
    ttp = time_to_peak(tissue, repetition_time_s, arrival)
    maps = {"CBF": cbf, "CBV": cbv, "MTT": mtt, "Tmax": np.maximum(lag, 0), "TTP": ttp}
    return {name: values.astype(np.float32) for name, values in maps.items()}


def _residue_maximum(residue: np.ndarray, repetition_time_s: float):
    """Maximum of the residue within the believable lags, and its lag [s]."""
    n_lags = residue.shape[1]
    before = min(int(-EARLIEST_LAG_S / repetition_time_s), n_lags // 4)
    after = min(int(LATEST_LAG_S / repetition_time_s) + 1, n_lags // 2)
    window = np.concatenate([residue[:, n_lags - before :], residue[:, :after]], axis=1)
    index, height = interpolated_maximum(window)
    return height, (index - before) * repetition_time_s


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
        first frame; a frame without any finite value; unknown method, dtype or device.
    """
    tissue, aif = np.asarray(tissue), np.asarray(aif, float)
    check_repetition_time(repetition_time_s)
    check_curves(tissue, aif, arrival)
    threshold = _checked_threshold(method, threshold)
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype={dtype!r}; expected 'float32' or 'float64'")
    import torch  # takes a second to load, and finding an AIF does without

    from perfnb.classical import parametric, singular_values

    usable = np.isfinite(tissue.sum(axis=1)) & (np.ptp(tissue, axis=1) > 0)
    curves = tissue if usable.all() else tissue[usable]
    data = torch.as_tensor(curves).to(device, getattr(torch, dtype))
    if method == "parametric":
        fit = parametric.fit_gamma(data, aif, repetition_time_s, arrival, prior)
        values, delay, alpha = parametric.maps(fit)
        residual, errors = fit.residual, fit.deviation * values.new_tensor(parametric.UNITS)
    else:
        solver = singular_values.Solver(aif, repetition_time_s, arrival, method, threshold, data)
        values, residual, errors = singular_values.read_maps(data, solver)
        delay = alpha = None
    values[:, 1:3] = torch.where(values[:, 1:2] > 0, values[:, 1:3], torch.nan)
    good = usable.copy()
    good[usable] = (values[:, 0] > 0).cpu().numpy()

    def spread(column) -> np.ndarray:
        """One value for each of the N voxels, NaN where there is none."""
        full = np.full(len(tissue), np.nan, dtype)
        full[usable] = column.cpu().numpy()
        return np.where(good, full, np.nan)

    return Deconvolution(
        maps={name: spread(column) for name, column in zip(NAMES, values.T, strict=True)},
        fitted=good,
        residual=spread(residual),
        standard_error={n: spread(e) for n, e in zip(NAMES, errors.T, strict=False)},
        delay_s=None if delay is None else spread(delay),
        shape=None if alpha is None else spread(alpha),
        method=method,
        threshold=threshold,
    )


NAMES = ("CBF", "CBV", "MTT", "Tmax", "TTP")


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
