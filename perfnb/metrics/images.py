"""How near is a predicted map to a reference map? MAE, NRMSE, SSIM and PSNR.

`slice_scores` follows Kossen et al. 2023: every 2-D slice on the scale [-1, 1], background
included, averaged over the slices. The background is easy, so `tissue_scores` asks the same
questions inside tissue, and `physical_errors` in the unit of the map.
"""

import numpy as np
from skimage.metrics import structural_similarity

SSIM_WINDOW = 7  # pixels; the default window of scikit-image


def slice_scores(
    reference: np.ndarray, prediction: np.ndarray, data_range: float = 2.0
) -> dict[str, float]:
    """Scores over whole slices, background included: the paper's way.

    All slices count, also those without brain: the paper does not say that it left any out.
    A slice that is met exactly has no finite PSNR; it is left out of the mean of PSNR only.

    Parameters
    ----------
    reference, prediction : float arrays, shape (Z, H, W)
        Maps on the network's scale, usually [-1, 1].
    data_range : float
        Largest value minus smallest value that the scale allows; 2 for [-1, 1].

    Returns
    -------
    dict
        MAE [scaled], NRMSE [1] (RMSE over the root mean square of the reference), SSIM [1],
        PSNR [dB]; each the mean over slices.

    Raises
    ------
    ValueError
        Shapes that differ or are not (Z, H, W); values that are not finite.
    """
    reference, prediction = _checked(reference, prediction)
    whole = np.ones(reference.shape, dtype=bool)
    scores = _pixel_scores(reference, prediction, whole, data_range)
    edge = SSIM_WINDOW // 2  # windows that leave the slice do not count
    inner = _ssim_maps(reference, prediction, data_range)[:, edge:-edge, edge:-edge]
    return _mean_over_slices({**scores, "SSIM": inner.mean(axis=(1, 2))})


def tissue_scores(
    reference: np.ndarray,
    prediction: np.ndarray,
    tissue: np.ndarray,
    data_range: float = 2.0,
    min_pixels: int = 20,
) -> dict[str, float]:
    """The same four scores, over the tissue pixels of each slice only.

    SSIM is the average of its map over tissue pixels; its 7-pixel windows reach a little over
    the border of the tissue. NRMSE divides by the root mean square of the scaled reference, so
    it grows without meaning where tissue lies near the middle of the scale: compare it between
    models, not between maps.

    Parameters
    ----------
    reference, prediction : float arrays, shape (Z, H, W)
        Maps on the network's scale, usually [-1, 1].
    tissue : bool array, shape (Z, H, W)
        Grey and white matter.
    data_range : float
        Largest value minus smallest value that the scale allows; 2 for [-1, 1].
    min_pixels : int
        A slice with fewer tissue pixels does not count.

    Returns
    -------
    dict
        MAE [scaled], NRMSE [1], SSIM [1], PSNR [dB]; each the mean over the slices that count.

    Raises
    ------
    ValueError
        As `slice_scores`; no slice with `min_pixels` tissue pixels.
    """
    reference, prediction = _checked(reference, prediction)
    tissue = _checked_tissue(tissue, reference.shape)
    pixels = tissue.sum(axis=(1, 2))
    counts = pixels >= min_pixels
    if not counts.any():
        raise ValueError(
            f"tissue has at most {pixels.max()} pixels in a slice, expected {min_pixels} "
            "in at least one: check the tissue mask"
        )
    reference, prediction, tissue = reference[counts], prediction[counts], tissue[counts]
    scores = _pixel_scores(reference, prediction, tissue, data_range)
    similarity = _ssim_maps(reference, prediction, data_range)
    scores["SSIM"] = _slice_means(similarity, tissue)
    return _mean_over_slices(scores)


def physical_errors(
    reference: np.ndarray, prediction: np.ndarray, tissue: np.ndarray
) -> dict[str, float]:
    """Errors in the unit of the map over all tissue voxels of a patient together.

    Parameters
    ----------
    reference, prediction : float arrays, shape (Z, H, W)
        Maps in physical units.
    tissue : bool array, shape (Z, H, W)
        Grey and white matter.

    Returns
    -------
    dict
        MAE, RMSE, bias (mean of prediction minus reference) in the unit of the map, the
        correlation r [1], NaN where one of the maps is constant, and high_bias, the bias in the
        tenth of tissue where the reference is highest. That tenth holds the reference's own
        lucky noise, so a high_bias below zero is expected of any map that does not share it.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, empty tissue.
    """
    reference, prediction = _checked(reference, prediction)
    tissue = _checked_tissue(tissue, reference.shape)
    a, b = reference[tissue], prediction[tissue]
    error = b - a
    varies = np.ptp(a) > 0 and np.ptp(b) > 0
    high = a >= np.quantile(a, 0.9)
    return {
        "MAE": float(np.abs(error).mean()),
        "RMSE": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()),
        "r": float(np.corrcoef(a, b)[0, 1]) if varies else float("nan"),
        "high_bias": float(error[high].mean()),
    }


def _pixel_scores(reference, prediction, where, data_range) -> dict[str, np.ndarray]:
    """MAE, NRMSE and PSNR of each slice over the pixels in `where`."""
    error = prediction - reference
    square = _slice_means(error**2, where)
    energy = _slice_means(reference**2, where)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(square > 0, np.sqrt(square / energy), 0.0)
        psnr = 10 * np.log10(data_range**2 / square)
    return {"MAE": _slice_means(np.abs(error), where), "NRMSE": relative, "PSNR": psnr}


def _slice_means(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean of each slice over the pixels in `where`, shape (Z,)."""
    return np.where(where, values, 0.0).sum(axis=(1, 2)) / where.sum(axis=(1, 2))


def _ssim_maps(reference, prediction, data_range) -> np.ndarray:
    """SSIM of every pixel's window within its own slice, shape (Z, H, W)."""
    return structural_similarity(
        reference,
        prediction,
        data_range=data_range,
        win_size=SSIM_WINDOW,
        channel_axis=0,
        full=True,
    )[1]


def _mean_over_slices(scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Average each score over slices; exact slices (infinite PSNR) count only if all are."""
    psnr = scores["PSNR"]
    finite = psnr[np.isfinite(psnr)]
    means = {name: float(scores[name].mean()) for name in ("MAE", "NRMSE", "SSIM")}
    return {**means, "PSNR": float(finite.mean()) if finite.size else float("inf")}


def _checked(reference, prediction) -> tuple[np.ndarray, np.ndarray]:
    """Both maps in float64, or an error that says what does not fit."""
    reference, prediction = np.asarray(reference, float), np.asarray(prediction, float)
    if reference.ndim != 3 or min(reference.shape[1:]) < SSIM_WINDOW:
        raise ValueError(
            f"reference has shape {reference.shape}, expected (Z, H, W) with slices of at least "
            f"{SSIM_WINDOW} x {SSIM_WINDOW} pixels"
        )
    if prediction.shape != reference.shape:
        raise ValueError(
            f"prediction has shape {prediction.shape}, expected that of the reference, "
            f"{reference.shape}: bring both onto one grid"
        )
    for name, values in (("reference", reference), ("prediction", prediction)):
        wrong = np.size(values) - np.isfinite(values).sum()
        if wrong:
            raise ValueError(
                f"{name} has {wrong} values that are NaN or infinite, expected none: "
                "set voxels outside the mask to 0 in physical units or -1 when scaled"
            )
    return reference, prediction


def _checked_tissue(tissue, shape) -> np.ndarray:
    """The tissue mask as bool, or an error that says what does not fit."""
    tissue = np.asarray(tissue, bool)
    if tissue.shape != shape:
        raise ValueError(
            f"tissue has shape {tissue.shape}, expected that of the maps, {shape}: "
            "bring both onto one grid"
        )
    if not tissue.any():
        raise ValueError("tissue is empty, expected grey and white matter: check the tissue mask")
    return tissue
