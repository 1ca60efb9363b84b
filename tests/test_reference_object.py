import numpy as np
import pytest

from perfnb.classical.curves import PER_100_G
from perfnb.classical.reference_object import RESIDUES, reference_object, score


@pytest.mark.parametrize("residue", RESIDUES)
def test_areas_are_those_of_the_volumes(residue):
    made = reference_object(residue=residue, snr=None, repeats=1)
    quick = made.truth["MTT"] <= 8  # the slow ones have not left when the series ends
    ratio = PER_100_G * made.tissue.sum(axis=1) / made.aif.sum()
    np.testing.assert_allclose(ratio[quick], made.truth["CBV"][quick], rtol=0.01)


@pytest.mark.parametrize("residue", RESIDUES)
def test_residues_start_at_one_and_have_unit_area(residue):
    time = (np.arange(400_000) + 0.5) * 1e-4
    values = RESIDUES[residue](time)
    assert values[0] == pytest.approx(1, abs=1e-3)
    assert values.sum() * 1e-4 == pytest.approx(1, abs=1e-3)


def test_signal_falls_by_the_stated_amount():
    made = reference_object(snr=None, repeats=1)
    chosen = (made.truth["CBV"] == 4) & (made.truth["MTT"] == 4)
    drop = 1 - np.exp(-0.029 * made.tissue[chosen].max())
    assert drop == pytest.approx(0.4, abs=0.005)


def test_delay_moves_the_curve_and_its_peak():
    made = reference_object(snr=None, repeats=1, delays_s=(-2.8, 0.0, 2.8))
    early, middle, late = made.tissue.reshape(-1, 3, 80).transpose(1, 0, 2)
    np.testing.assert_allclose(early[:, :-2], middle[:, 2:], atol=1e-3)
    np.testing.assert_allclose(late[:, 2:], middle[:, :-2], atol=1e-3)
    frame = made.tissue.argmax(axis=1) * 1.4
    assert np.abs(frame - made.truth["TTP"]).max() <= 0.75


@pytest.mark.parametrize("repetition_time_s", [1.4, 2.2])
def test_no_bolus_before_the_arrival(repetition_time_s):
    made = reference_object(repetition_time_s, snr=None, repeats=1)
    assert np.abs(made.tissue[:, : made.arrival]).max() < 1e-6
    assert np.abs(made.tissue[:, : made.arrival + 2]).max() > 1e-6


def test_noise_is_that_of_the_signal():
    for snr in (20.0, 50.0):
        made = reference_object(snr=snr, delays_s=(0.0,))
        spread = made.tissue[:, : made.arrival].std() * 0.029 * snr
        assert spread == pytest.approx(1, abs=0.1)


def test_noisy_aif_keeps_its_area_and_the_draws_differ():
    clean, one, two = (
        reference_object(noisy_aif=noisy, seed=seed, repeats=1).aif
        for noisy, seed in ((False, 0), (True, 0), (True, 1))
    )
    assert one.sum() == pytest.approx(clean.sum(), rel=0.15)
    assert 0.005 < (one - clean).std() / clean.max() < 0.1
    assert np.abs(one - two).max() > 0


def test_image_shows_each_combination_as_one_tile():
    made = reference_object(snr=None, repeats=4)
    image = made.image(made.truth["MTT"])
    assert image.shape == (3 * 7 * 2, 7 * 2)
    assert (image == image[0]).all() and (np.diff(image[0, ::2]) > 0).all()


def test_score_counts_missing_voxels_as_zero():
    truth = {"CBF": np.array([10.0, 20.0, 30.0])}
    perfect = score({"CBF": truth["CBF"].copy()}, truth)["CBF"]
    assert (perfect.r, perfect.bias, perfect.rmse, perfect.missing) == (1, 0, 0, 0)
    holed = score({"CBF": np.array([10.0, 20.0, np.nan])}, truth)["CBF"]
    assert holed.bias == -10 and holed.missing == pytest.approx(1 / 3)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="triangle"):
        reference_object(residue="triangle")
    with pytest.raises(ValueError, match="signal-to-noise"):
        reference_object(snr=None, noisy_aif=True)
    with pytest.raises(ValueError, match="square"):
        reference_object(repeats=3, snr=None).image(np.zeros(3 * 7 * 7 * 3))
