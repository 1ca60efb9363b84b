import numpy as np
import pytest
from synthetic_curves import small_series

from perfnb.classical.aif import find_aif
from perfnb.classical.signal import delta_r2star, find_baseline, usable_voxels

TR, TE = 1.5, 0.03


def curves_of(series, mask):
    baseline = find_baseline(series, mask)
    return delta_r2star(series, TE, baseline), usable_voxels(series, mask, baseline), baseline


@pytest.mark.parametrize("snr", [20, 50, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_artery_is_found_and_neither_vein_nor_tissue(snr, seed):
    series, truth = small_series(snr, seed)
    curves, usable, baseline = curves_of(series, truth["mask"])
    aif = find_aif(curves, usable, TR, baseline.arrival)
    assert aif.ok and aif.reasons == ()
    assert aif.voxels.sum() >= 3
    assert (aif.voxels & ~truth["artery"]).sum() == 0
    assert np.corrcoef(aif.curve, truth["aif"])[0, 1] > 0.995
    assert aif.curve.shape == (series.shape[-1],)


def test_no_artery_no_aif():
    series, truth = small_series()
    curves, usable, baseline = curves_of(series, truth["mask"])
    usable &= ~truth["artery"]
    aif = find_aif(curves, usable, TR, baseline.arrival)
    assert not aif.ok
    assert aif.reasons


def test_noise_alone_is_no_aif():
    noise = np.random.default_rng(0).normal(0, 1, (16, 16, 3, 60))
    aif = find_aif(noise, np.ones((16, 16, 3), bool), TR, 10)
    assert not aif.ok
    assert aif.reasons


def test_the_users_voxels_are_taken_and_judged():
    series, truth = small_series()
    curves, usable, baseline = curves_of(series, truth["mask"])
    aif = find_aif(curves, usable, TR, baseline.arrival, aif_mask=truth["vein"])
    assert aif.ok
    assert any("leads that of tissue" in reason for reason in aif.reasons)
    np.testing.assert_array_equal(aif.voxels, truth["vein"])
    np.testing.assert_allclose(aif.curve, curves[truth["vein"]].mean(axis=0), rtol=1e-4)


def test_a_bad_aif_mask_is_named():
    series, truth = small_series()
    curves, usable, baseline = curves_of(series, truth["mask"])
    with pytest.raises(ValueError, match="aif_mask is empty"):
        find_aif(curves, usable, TR, baseline.arrival, aif_mask=np.zeros_like(usable))
    with pytest.raises(ValueError, match="aif_mask has shape"):
        find_aif(curves, usable, TR, baseline.arrival, aif_mask=usable[1:])
