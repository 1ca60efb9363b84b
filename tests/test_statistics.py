import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from perfnb.metrics import statistics


def test_a_shift_of_every_patient_has_full_effect_and_the_exact_p():
    a = np.arange(8.0)
    test = statistics.paired_wilcoxon(a + np.linspace(0.1, 0.8, 8), a)
    assert test.effect_size == 1
    assert test.p == pytest.approx(2 / 2**8)
    assert test.median_difference == pytest.approx(0.45)
    other = statistics.paired_wilcoxon(a, a + np.linspace(0.1, 0.8, 8))
    assert other.effect_size == -1 and other.p == test.p


def test_equal_values_show_nothing():
    assert statistics.paired_wilcoxon(np.ones(8), np.ones(8)) == statistics.PairedTest(8, 0, 1, 0)


def test_p_values_of_pure_noise_are_rarely_small():
    rng = np.random.default_rng(3)
    p = [statistics.paired_wilcoxon(*rng.normal(size=(2, 10))).p for _ in range(400)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.08


def test_p_agrees_with_scipy_on_real_looking_numbers():
    a, b = np.random.default_rng(5).normal(size=(2, 12))
    assert statistics.paired_wilcoxon(a, b).p == stats.wilcoxon(a, b).pvalue


def test_too_few_pairs_and_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="too few patients: 5 pairs, expected at least 6"):
        statistics.paired_wilcoxon(np.arange(5), np.zeros(5))
    with pytest.raises(ValueError, match="expected equal 1-D shapes"):
        statistics.paired_wilcoxon(np.arange(8), np.zeros(7))
    with pytest.raises(ValueError, match="NaN or infinite"):
        statistics.paired_wilcoxon(np.full(8, np.nan), np.zeros(8))


def test_holm_multiplies_the_smallest_by_the_number_of_tests():
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(statistics.holm([0.01, np.nan, 0.9]), [0.02, np.nan, 0.9])
    assert np.isnan(statistics.holm([np.nan])).all()
    p_values = np.random.default_rng(0).uniform(0, 0.2, 20)
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(statistics.holm(p_values), expected)
    with pytest.raises(ValueError, match="outside"):
        statistics.holm([1.2])


def test_the_bootstrap_covers_the_mean_and_repeats():
    rng = np.random.default_rng(0)
    inside = 0
    for k in range(200):
        low, high = statistics.bootstrap_interval(rng.normal(5, 1, 25), seed=k, repeats=500)
        inside += low <= 5 <= high
    assert 0.85 < inside / 200 < 0.99
    values = rng.normal(size=10)
    first = statistics.bootstrap_interval(values, seed=1)
    assert first == statistics.bootstrap_interval(values, seed=1)
    assert first != statistics.bootstrap_interval(values, seed=2)


def test_the_bootstrap_refuses_one_patient_and_odd_levels():
    with pytest.raises(ValueError, match="at least 2 patients"):
        statistics.bootstrap_interval([1.0], seed=0)
    with pytest.raises(ValueError, match="level=95"):
        statistics.bootstrap_interval([1.0, 2.0], seed=0, level=95)


def test_t_interval_covers_as_often_as_it_says_where_the_bootstrap_does_not():
    rng = np.random.default_rng(0)
    samples = rng.normal(1.0, 1.0, (400, 8))
    exact = [statistics.t_interval(sample) for sample in samples]
    drawn = [statistics.bootstrap_interval(sample, 0, repeats=400) for sample in samples]
    t, bootstrap = (np.mean([low < 1 < high for low, high in found]) for found in (exact, drawn))
    assert 0.93 <= t <= 0.97 and bootstrap < t
    low, high = statistics.t_interval(samples[:, 0], samples[:, 1] - 1)
    assert low < 1 < high and high - low < 0.5
    told = stats.ttest_ind(samples[0], samples[1, :5], equal_var=False).confidence_interval(0.9)
    assert statistics.t_interval(samples[0], samples[1, :5], 0.9) == pytest.approx(tuple(told))
    assert statistics.t_interval(np.full(5, 2.0), np.full(6, 0.5)) == (1.5, 1.5)
    with pytest.raises(ValueError, match="at least 2 patients"):
        statistics.t_interval(np.array([1.0]))


def test_a_value_is_written_with_the_ends_of_its_interval_if_it_has_any():
    assert statistics.interval_text(0.5, 0.25, 0.75) == "0.50 [0.25,\u00a00.75]"
    assert statistics.interval_text(-3.0, -9.96, 4.0, digits=1) == "-3.0 [-10.0,\u00a04.0]"
    assert statistics.interval_text(0.5, np.nan, np.nan) == "0.50"
    assert statistics.interval_text(np.nan, np.nan, np.nan) == "–"
