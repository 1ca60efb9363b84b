"""Normal tissue with one thing gone wrong: what changes, and what must not."""

import numpy as np
import pytest

from perfnb.classical import disturbances as ds
from perfnb.classical.deconvolution import METHODS
from perfnb.classical.reference_object import reference_object


def median(found, name, method):
    return found[name][method][1]


@pytest.fixture(scope="module")
def late():
    return ds.effects("delay [s]")


@pytest.fixture(scope="module")
def smeared():
    return ds.effects("dispersion [s]")


def test_undisturbed_tissue_is_the_same_however_it_is_made():
    plain = ds.disturb("delay [s]", 0)
    smeared = ds.disturb("dispersion [s]", 0)
    cut = ds.disturb("end of the film [s]", 84)
    peak = plain.tissue.max()
    np.testing.assert_allclose(cut.tissue, plain.tissue[:, :60])
    assert cut.aif.size == 60
    assert smeared.tissue.max() == pytest.approx(peak, rel=0.02)
    assert smeared.tissue.sum() / smeared.aif.sum() == pytest.approx(
        plain.tissue.sum() / plain.aif.sum(), rel=0.02
    )


def test_dispersion_keeps_the_area_and_moves_the_middle_by_its_mean():
    before, after = (ds.disturb("dispersion [s]", level).tissue[0] for level in (0, 3))
    time = np.arange(before.size) * ds.TR_S
    assert after.sum() == pytest.approx(before.sum(), rel=0.01)
    middles = [time @ curve / curve.sum() for curve in (before, after)]
    assert middles[1] - middles[0] == pytest.approx(3, abs=0.1)


def test_noise_has_the_size_that_was_asked_for():
    curves = [ds.disturb("noise [% of signal]", level, seed=3).tissue for level in (1, 4)]
    quiet, loud = (curve[:, -30:].std() for curve in curves)
    assert loud / quiet == pytest.approx(4, rel=0.1)
    assert not np.array_equal(curves[0], ds.disturb("noise [% of signal]", 1, seed=4).tissue)


def test_only_plain_svd_takes_delay_for_flow(late):
    for method in METHODS:
        flow = median(late, "CBF", method)
        change = np.ptp(flow) / flow.mean()
        assert change > 0.5 if method == "SVD" else change < 0.05, method
        if method != "SVD":
            assert np.ptp(median(late, "Tmax", method)) < 0.3


def test_every_method_takes_dispersion_for_slow_tissue(smeared):
    for method in METHODS:
        assert (np.diff(median(smeared, "CBF", method)) < 0).all(), method
        assert (np.diff(median(smeared, "MTT", method)) > 0).all(), method
        assert median(smeared, "Tmax", method)[-1] > median(smeared, "Tmax", method)[0]


def test_a_film_that_ends_early_loses_volume():
    cases = [ds.disturb("end of the film [s]", end) for end in (28, 42)]
    areas = [case.tissue.sum() / case.aif.sum() for case in cases]
    assert areas[0] < 0.95 * areas[1]


def test_tissue_is_found_by_its_truth_and_its_residue_is_the_known_one():
    made = reference_object(repeats=4)
    chosen = ds.select(made, 2, 8, 4)
    assert chosen.size == 4
    assert set(made.truth["MTT"][chosen]) == {8.0} and set(made.truth["Tmax"][chosen]) == {4.0}
    residue = ds.exponential_residue([3.9, 4, 12], 2, 8, 4)
    np.testing.assert_allclose(residue, [0, 15, 15 / np.e])
    with pytest.raises(ValueError, match="no tissue"):
        ds.select(made, 3, 8, 4)


@pytest.mark.parametrize(
    ("what", "level", "said"),
    [
        ("hunger", 1, "known disturbances: delay"),
        ("noise [% of signal]", 0, "above zero"),
        ("dispersion [s]", -1, "above zero"),
    ],
)
def test_what_cannot_be_is_refused(what, level, said):
    with pytest.raises(ValueError, match=said):
        ds.disturb(what, level)
