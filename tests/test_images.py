import numpy as np
import pytest
from skimage.metrics import (
    normalized_root_mse,
    peak_signal_noise_ratio,
    structural_similarity,
)

from perfnb.metrics import images


@pytest.fixture
def maps():
    """A reference with background -1, a noisy prediction, and the tissue."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    tissue = np.broadcast_to(x**2 + y**2 < 0.5, (3, 32, 32))
    reference = np.where(tissue, rng.uniform(-0.8, 0.9, (3, 32, 32)), -1.0)
    prediction = np.where(tissue, reference + rng.normal(0, 0.1, (3, 32, 32)), -1.0)
    return reference, prediction, tissue


def test_slice_scores_are_the_mean_of_the_definitions_over_slices(maps):
    reference, prediction, _ = maps
    scores = images.slice_scores(reference, prediction)
    both = list(zip(reference, prediction, strict=True))
    assert scores["MAE"] == pytest.approx(np.abs(reference - prediction).mean(), rel=1e-9)
    expected = np.mean([normalized_root_mse(a, b, normalization="euclidean") for a, b in both])
    assert scores["NRMSE"] == pytest.approx(expected, rel=1e-9)
    expected = np.mean([structural_similarity(a, b, data_range=2) for a, b in both])
    assert scores["SSIM"] == pytest.approx(expected, rel=1e-9)
    expected = np.mean([peak_signal_noise_ratio(a, b, data_range=2) for a, b in both])
    assert scores["PSNR"] == pytest.approx(expected, rel=1e-9)


def test_psnr_is_ten_log_of_the_squared_range_over_the_mean_square():
    reference = np.full((1, 16, 16), -0.5)
    assert images.slice_scores(reference, reference + 0.2)["PSNR"] == pytest.approx(20.0)


def test_a_perfect_prediction_has_perfect_scores(maps):
    reference, _, tissue = maps
    for scores in (
        images.slice_scores(reference, reference),
        images.tissue_scores(reference, reference, tissue),
    ):
        assert scores["MAE"] == scores["NRMSE"] == 0
        assert scores["SSIM"] == pytest.approx(1)
        assert scores["PSNR"] == np.inf


def test_an_empty_slice_counts_as_perfect_but_not_in_psnr(maps):
    reference, prediction, _ = maps
    empty = np.full((1, 32, 32), -1.0)
    without = images.slice_scores(reference, prediction)
    together = images.slice_scores(
        np.concatenate([reference, empty]), np.concatenate([prediction, empty])
    )
    assert together["MAE"] == pytest.approx(without["MAE"] * 3 / 4)
    assert together["SSIM"] == pytest.approx((3 * without["SSIM"] + 1) / 4)
    assert together["PSNR"] == pytest.approx(without["PSNR"])


def test_background_flatters_whole_slices_and_not_tissue(maps):
    reference, prediction, tissue = maps
    whole = images.slice_scores(reference, prediction)
    inside = images.tissue_scores(reference, prediction, tissue)
    assert inside["MAE"] == pytest.approx(whole["MAE"] * tissue.size / tissue.sum())
    assert inside["SSIM"] < whole["SSIM"]
    assert inside["PSNR"] < whole["PSNR"] - 3


def test_tissue_scores_do_not_see_errors_far_outside_tissue(maps):
    reference, prediction, tissue = maps
    spoiled = prediction.copy()
    spoiled[:, :3, :3] = 1.0  # more than half an SSIM window away from tissue
    expected = images.tissue_scores(reference, prediction, tissue)
    assert images.tissue_scores(reference, spoiled, tissue) == pytest.approx(expected)


def test_slices_with_little_tissue_do_not_count(maps):
    reference, prediction, tissue = maps
    tissue = tissue.copy()
    tissue[0] = False
    tissue[0, 16, 10:20] = True
    expected = images.tissue_scores(reference[1:], prediction[1:], tissue[1:])
    assert images.tissue_scores(reference, prediction, tissue) == pytest.approx(expected)
    with pytest.raises(ValueError, match="10 pixels in a slice, expected 20"):
        images.tissue_scores(reference[:1], prediction[:1], tissue[:1])


def test_physical_errors_of_a_shift_and_of_noise(maps):
    reference, _, tissue = maps
    shifted = images.physical_errors(10 * reference, 10 * reference + 2.5, tissue)
    assert shifted == pytest.approx(
        {"MAE": 2.5, "RMSE": 2.5, "bias": 2.5, "r": 1.0, "high_bias": 2.5}
    )
    noise = np.random.default_rng(1).normal(0, 1, reference.shape)
    noisy = images.physical_errors(10 * reference, 10 * reference + noise, tissue)
    assert noisy["RMSE"] == pytest.approx(1, rel=0.1)
    assert noisy["MAE"] == pytest.approx(np.sqrt(2 / np.pi), rel=0.1)
    assert abs(noisy["bias"]) < 0.1
    low = np.minimum(10 * reference, np.quantile(10 * reference[tissue], 0.9) - 1)
    assert images.physical_errors(10 * reference, low, tissue)["high_bias"] < -1


def test_the_correlation_with_a_constant_map_is_not_a_number(maps):
    reference, _, tissue = maps
    assert np.isnan(images.physical_errors(reference, np.full_like(reference, 3.0), tissue)["r"])


@pytest.mark.parametrize("score", [images.tissue_scores, images.physical_errors])
def test_bad_input_is_named(maps, score):
    reference, prediction, tissue = maps
    with pytest.raises(ValueError, match=r"prediction has shape \(2, 32, 32\)"):
        score(reference, prediction[:2], tissue)
    with pytest.raises(ValueError, match=r"tissue has shape \(2, 32, 32\)"):
        score(reference, prediction, tissue[:2])
    with pytest.raises(ValueError, match="tissue is empty"):
        score(reference, prediction, np.zeros_like(tissue))
    with pytest.raises(ValueError, match="reference has 1 values that are NaN"):
        broken = reference.copy()
        broken[0, 0, 0] = np.nan
        score(broken, prediction, tissue)
    with pytest.raises(ValueError, match=r"expected \(Z, H, W\)"):
        score(reference[0], prediction[0], tissue[0])
