"""Residues by block-circulant SVD, whole, and the maps read off them.

For teaching and for the reference maps; `deconvolution.deconvolve` is the one call for all methods.
"""

from __future__ import annotations

import numpy as np

from perfnb.classical.curves import (
    EARLIEST_LAG_S,
    LATEST_LAG_S,
    PER_100_G,
    interpolated_maximum,
    time_to_peak,
)
from perfnb.classical.signal import check_repetition_time


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
