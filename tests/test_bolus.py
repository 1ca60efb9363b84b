import numpy as np
import pytest

from perfnb.data import bolus


def make_bolus(residue="exponential", kernel="gamma", seed=0):
    drawn = bolus.draw_bolus(np.random.default_rng(seed), 15.0, 120.0, peak=40.0)
    return bolus.Bolus(drawn.curve, 15.0, drawn.fwhm_s, residue, kernel, {})


@pytest.mark.parametrize("name", bolus.RESIDUES)
def test_residue_starts_at_one_and_its_area_is_its_transit_time(name):
    x = np.linspace(0, 40, 400001)
    residue = bolus.RESIDUES[name](x)
    assert residue[0] == pytest.approx(1.0)
    assert np.trapezoid(residue, x) == pytest.approx(1.0, abs=0.002)
    assert (np.diff(residue) <= 1e-12).all()


@pytest.mark.parametrize("name", bolus.DISPERSIONS)
def test_dispersion_kernel_keeps_the_dose_and_has_its_mean(name):
    means = np.array([0.5, 2.0, 4.0])
    kernel = bolus.dispersion_kernel(name, means, 600)
    time = np.arange(600) * bolus.STEP_S
    np.testing.assert_allclose(kernel.sum(1), 1.0, atol=1e-3)
    np.testing.assert_allclose((kernel * time).sum(1), means, rtol=0.03)


@pytest.mark.parametrize("fwhm", [8.0, 11.0, 20.0])
def test_gamma_variate_has_the_width_asked_for(fwhm):
    time = np.arange(0, 150, 0.01)
    curve = bolus.gamma_variate(time, 12.0, fwhm, alpha=3.0)
    assert curve.max() == pytest.approx(1.0, abs=1e-4)
    assert not curve[time < 12.0].any()
    assert (curve > 0.5).sum() * 0.01 == pytest.approx(fwhm, rel=0.01)


def test_widths_are_those_of_clinical_boluses():
    rng = np.random.default_rng(0)
    widths = [bolus.draw_bolus(rng, 15.0, 60.0, 40.0).fwhm_s for _ in range(400)]
    np.testing.assert_allclose(np.percentile(widths, (5, 50, 95)), (9, 11, 19), rtol=0.1)


def test_area_of_tissue_curve_is_arterial_area_times_transit_time():
    injection = make_bolus()
    mtt, spread = np.array([20, 40]), np.array([5, 10])
    library = bolus.build_library(injection, mtt, spread)
    row = library.row(mtt, spread)
    half = 600  # enough for the first pass; both sides lose the same tail
    areas = library.tissue[row].sum(1) / injection.curve.sum()
    np.testing.assert_allclose(areas, bolus.MTT_LEVELS_S[mtt], rtol=0.03)
    assert library.tissue.shape[1] > half


def test_convolution_agrees_with_a_much_finer_grid():
    injection = make_bolus("exponential", "exponential")
    mtt, spread = np.array([10]), np.array([8])
    curve = bolus.build_library(injection, mtt, spread).tissue[0]
    step = 0.01
    fine = np.arange(0, 120, step)
    arterial = np.interp(fine, np.arange(injection.curve.size) * bolus.STEP_S, injection.curve)
    m, tau = bolus.MTT_LEVELS_S[10], bolus.DISPERSION_LEVELS_S[8]
    response = (np.exp(-fine / m) - np.exp(-fine / tau)) / (1 - tau / m)
    expected = np.convolve(arterial, response)[: fine.size] * step
    error = np.abs(np.interp(fine, np.arange(curve.size) * bolus.STEP_S, curve) - expected)
    assert error.max() < 0.01 * expected.max()


def test_curves_are_read_late_by_their_delay():
    time = np.arange(500) * bolus.STEP_S
    curves = np.stack([time, 2 * time])
    frames = np.array([10.0, 20.03])
    read = bolus.read_curves(curves, np.array([0, 1]), np.array([-4.0, 0.5]), frames)
    np.testing.assert_allclose(read, [[6.0, 16.03], [21.0, 41.06]], atol=1e-9)
    assert bolus.read_curves(curves, np.array([0]), np.array([-99.0]), frames)[0, 0] == 0.0


def test_peak_of_a_mixture_is_the_peak_of_the_sum():
    injection = make_bolus("gamma")
    mtt, spread = np.array([10, 60]), np.array([3, 12])
    library = bolus.build_library(injection, mtt, spread)
    rows = library.row(mtt, spread)
    weights = (np.array([1.0, 0.2]), np.array([0.5, 1.0]))
    found = bolus.mixture_peak(library.tissue, (rows[[0, 0]], rows[[1, 1]]), weights)
    for i in range(2):
        total = weights[0][i] * library.tissue[rows[0]] + weights[1][i] * library.tissue[rows[1]]
        assert found[i] == pytest.approx(total.argmax() * bolus.STEP_S, abs=0.25)


def test_levels_are_nearest_and_clipped():
    levels = bolus.MTT_LEVELS_S
    assert bolus.nearest_level(levels[[0, 7, 100]] * 1.005, levels).tolist() == [0, 7, 100]
    assert bolus.nearest_level(np.array([0.0, 999.0]), levels).tolist() == [0, 100]
