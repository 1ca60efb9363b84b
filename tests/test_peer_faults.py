"""Faults found in public tools for perfusion: each test fails where the fault is made."""

import numpy as np
import pytest
from scipy.linalg import toeplitz

from perfnb.classical.deconvolution import METHODS, PER_100_G, deconvolve
from perfnb.classical.reference_object import reference_object
from perfnb.classical.signal import Baseline, delta_r2star

DELAY_PROOF = [method for method in METHODS if method != "SVD"]


def clean(repetition_time_s=1.4, **settings):
    return reference_object(repetition_time_s, snr=None, repeats=1, **settings)


def maps(made, method="block-circulant SVD", **settings):
    return deconvolve(
        made.tissue, made.aif, made.repetition_time_s, method, made.arrival, **settings
    ).maps


@pytest.mark.parametrize("method", DELAY_PROOF)
@pytest.mark.parametrize("repetition_time_s", [1.4, 2.2])
def test_flow_of_early_tissue_is_not_inflated(method, repetition_time_s):
    """A circulant matrix cut back to a Toeplitz one doubles the flow at -4 s."""
    made = clean(repetition_time_s)
    flow, delay = maps(made, method)["CBF"], made.truth["Tmax"]
    assert np.median(flow[delay == -4] / flow[delay == 0]) == pytest.approx(1, abs=0.055)


def test_plain_svd_is_the_one_that_minds_delay():
    made = clean()
    flow, delay = maps(made, "SVD")["CBF"], made.truth["Tmax"]
    assert np.median(flow[delay == -4] / flow[delay == 0]) > 1.5


@pytest.mark.parametrize("method", ["SVD", "block-circulant SVD", "oscillation-index SVD"])
def test_threshold_is_heeded(method):
    made = reference_object(repeats=1)
    strict, loose = (0.03, 0.3) if "index" in method else (0.4, 0.05)
    low, high = (maps(made, method, threshold=t)["CBF"] for t in (strict, loose))
    assert np.nanmedian(high) > 1.15 * np.nanmedian(low)


@pytest.mark.parametrize("method", METHODS)
def test_transit_time_is_volume_over_flow(method):
    """kappa_H or density applied to CBV alone breaks this by 30 %."""
    m = maps(reference_object(repeats=1), method)
    known = np.isfinite(m["MTT"])
    assert known.mean() > 0.9
    np.testing.assert_allclose(m["MTT"][known], (60 * m["CBV"] / m["CBF"])[known], rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_flow_and_volume_are_absolute(method):
    """Neither the mean of a brain nor the TR may scale a map, and units are physical."""
    for repetition_time_s in (1.4, 2.2):
        made = clean(repetition_time_s, delays_s=(2.0,))
        chosen = (made.truth["CBV"] == 4) & (made.truth["MTT"] == 12)
        tissue = made.tissue[chosen]
        m = deconvolve(tissue, made.aif, repetition_time_s, method, made.arrival).maps
        assert m["CBV"][0] == pytest.approx(4, rel=0.12)
        assert m["CBF"][0] == pytest.approx(20, rel=0.3)
        assert m["MTT"][0] == pytest.approx(12, rel=0.3)
    together = maps(made, method)
    for name, values in m.items():
        np.testing.assert_allclose(values, together[name][chosen], rtol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_times_are_not_cut_to_frames_or_seconds(method):
    delays = tuple(np.arange(0, 3, 0.26))
    made = clean(delays_s=delays)
    chosen = (made.truth["CBV"] == 4) & (made.truth["MTT"] == 6)
    found = maps(made, method)
    for name in ("Tmax", "TTP"):
        steps = np.diff(found[name][chosen])
        assert (steps > 0.05).all() and (steps < 0.95).all(), name


def test_relaxation_rate_is_minus_the_logarithm_of_the_signal():
    """An inverted image (S0 - S or 1 / S) is linear only for small changes."""
    change = np.array([0.0, 0.0, 0.0, 0.0, 10.0, 40.0, 60.0, 5.0])
    found = delta_r2star(700 * np.exp(-0.03 * change), 0.03, Baseline(0, 4, 4, 6))
    np.testing.assert_allclose(found, change, atol=1e-6)


def circulant_maps(made, threshold):
    """Flow and lag by an explicit block-circulant matrix and its SVD: independent and plain."""
    n, tr = len(made.aif), made.repetition_time_s
    column = np.concatenate([made.aif, np.zeros(n)])
    row = np.roll(column[::-1], 1)
    u, s, vt = np.linalg.svd(tr * toeplitz(column, row))
    inverse = vt.T @ np.diag([1 / x if x >= threshold * s[0] else 0 for x in s]) @ u.T
    padded = np.concatenate([made.tissue, np.zeros_like(made.tissue)], axis=1)
    residue = padded @ inverse.T
    return 60 * PER_100_G * residue.max(axis=1), residue.argmax(axis=1)


@pytest.mark.parametrize("repetition_time_s", [1.4, 2.2])
@pytest.mark.parametrize("threshold", [0.1, 0.2])
def test_an_independent_implementation_agrees_within_a_percent(repetition_time_s, threshold):
    made = clean(repetition_time_s)
    flow, lag = circulant_maps(made, threshold)
    found = maps(made, threshold=threshold, dtype="float64")
    # A parabola through the maximum lies above the highest frame, never below it.
    between = found["Tmax"] / repetition_time_s - np.where(lag > 80, lag - 160, lag)
    assert np.quantile(np.abs(between), 0.97) <= 0.51
    at_frame = np.abs(between) < 0.1
    assert at_frame.sum() > 10
    np.testing.assert_allclose(found["CBF"][at_frame], flow[at_frame], rtol=0.01)
    assert (found["CBF"] > 0.99 * flow).all() and np.median(found["CBF"] / flow) < 1.03
