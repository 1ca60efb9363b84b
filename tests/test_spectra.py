"""Sharpness and checkerboards are found where they are, and not where they are not."""

import numpy as np
import pytest
from scipy import ndimage

from perfnb.metrics import spectra

NOISE = np.random.default_rng(0).standard_normal((20, 32, 32))
SMOOTH = ndimage.gaussian_filter(NOISE, (0, 2, 2))
EVEN = np.where(np.indices((32, 32)).sum(axis=0) % 2, -1.0, 1.0)
INSIDE = np.ones((20, 32, 32), bool)


def test_gradient_energy_of_a_ramp_is_its_slope_squared_and_falls_with_smoothing():
    ramp = np.broadcast_to(0.3 * np.arange(16.0), (16, 16))
    mask = np.ones((16, 16), bool)
    assert spectra.gradient_energy(ramp, mask) == pytest.approx(0.3**2 / 2)  # one of two directions
    sharp, soft = (spectra.gradient_energy(x, INSIDE) for x in (NOISE, SMOOTH))
    assert soft < 0.1 * sharp
    assert sharp == pytest.approx(2, rel=0.05)  # two independent values of variance 1
    assert spectra.sharpness(2 * NOISE, NOISE, INSIDE) == pytest.approx(4)


def test_gradient_energy_ignores_what_lies_outside():
    mask = np.zeros((20, 32, 32), bool)
    mask[:, 8:24, 8:24] = True
    wild = np.where(mask, SMOOTH, 99)
    inner = spectra.gradient_energy(SMOOTH[:, 8:24, 8:24], INSIDE[:, 8:24, 8:24])
    assert spectra.gradient_energy(wild, mask) == pytest.approx(inner)


def test_power_of_noise_is_flat_and_adds_up_to_its_variance():
    frequencies, found = spectra.radial_power(3 * NOISE)
    assert frequencies[-1] == 0.5 and np.all(np.diff(frequencies) > 0)
    np.testing.assert_allclose(found, 9, rtol=0.35)
    assert spectra.power(3 * NOISE).mean() == pytest.approx(9, rel=0.05)
    assert spectra.radial_power(SMOOTH)[1][-1] < 1e-3 * spectra.radial_power(SMOOTH)[1][1]


def test_power_does_not_see_the_mean_nor_edges_of_a_ramp():
    np.testing.assert_allclose(spectra.power(NOISE + 7), spectra.power(NOISE), atol=1e-9)
    ramp = np.broadcast_to(np.arange(32.0), (32, 32))
    assert spectra.radial_power(ramp)[1][8:].max() < 1e-5 * spectra.radial_power(ramp)[1].max()


@pytest.mark.parametrize("pattern", [EVEN, EVEN[:1] * np.ones((32, 1)), EVEN[:, :1] * np.ones(32)])
def test_excess_finds_checkerboards_and_stripes_only(pattern):
    assert spectra.nyquist_excess(NOISE) == pytest.approx(1, abs=0.15)
    assert spectra.nyquist_excess(NOISE + pattern) > 5
    wide = np.repeat(np.repeat(NOISE[:, ::2, ::2], 2, axis=1), 2, axis=2)
    assert spectra.nyquist_excess(wide) < 0.2  # doubling pixels leaves nothing at Nyquist


def test_images_that_cannot_be_judged_are_refused():
    with pytest.raises(ValueError, match="expected even sides"):
        spectra.power(np.zeros((9, 10)))
    with pytest.raises(ValueError, match="its mask"):
        spectra.gradient_energy(np.zeros((8, 8)), np.ones((8, 9), bool))
    with pytest.raises(ValueError, match="no two neighbouring"):
        spectra.gradient_energy(np.zeros((8, 8)), np.eye(8, dtype=bool))
