import numpy as np
import pandas as pd
import pytest
from scipy import stats

from perfnb.metrics import statistics


def table(shift, n=8, measure="MAE", seed=0):
    rng = np.random.default_rng(seed)
    base = rng.uniform(1, 2, n)
    values = {"temp-pix2pix": base - shift, "pix2pix": base, "constant": base + 1}
    head = dict(study="s", cohort="acute", map="Tmax", against="reference", region="tissue")
    return pd.DataFrame(
        [
            {**head, "measure": measure, "unit": "1", "model": m, "patient": f"{k}", "value": v}
            for m, column in values.items()
            for k, v in enumerate(column)
        ]
    )


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


def test_pairs_meet_by_patient_not_by_order():
    found = table(0.3)
    found = found[found["model"] != "constant"].sample(frac=1, random_state=0)
    first, second = statistics.pairs(found, "temp-pix2pix", "pix2pix")
    np.testing.assert_allclose(second - first, 0.3)
    with pytest.raises(ValueError, match=r"\['7'\] have a value for only one"):
        lost = (found["patient"] == "7") & (found["model"] == "pix2pix")
        statistics.pairs(found[~lost], "temp-pix2pix", "pix2pix")


def test_holm_multiplies_the_smallest_by_the_number_of_tests():
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(statistics.holm([0.01, np.nan, 0.9]), [0.02, np.nan, 0.9])
    assert np.isnan(statistics.holm([np.nan])).all()
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


@pytest.mark.parametrize(("measure", "better"), [("MAE", "temp-pix2pix"), ("SSIM", "pix2pix")])
def test_compare_names_the_better_model_by_the_direction_of_the_measure(measure, better):
    found = statistics.compare_models(table(0.3, measure=measure), "temp-pix2pix", "pix2pix", 0)
    row = found.iloc[0]
    assert row["better"] == better
    assert row["n"] == 8 and row["note"] == ""
    assert row["mean_difference"] == pytest.approx(-0.3)
    assert row["low"] - 1e-9 <= row["mean_difference"] <= row["high"] + 1e-9
    assert row["p"] == row["p_holm"] < 0.05


def test_compare_says_too_few_patients_instead_of_testing():
    found = statistics.compare_models(table(0.3, n=2), "temp-pix2pix", "pix2pix", 0)
    assert found["note"].tolist() == ["too few patients (2 of 6)"]
    assert found[["p", "p_holm", "effect_size"]].isna().all(axis=None)
    assert found["better"].tolist() == ["temp-pix2pix"]
    one = statistics.compare_models(table(0.3, n=1), "temp-pix2pix", "pix2pix", 0)
    assert one[["low", "high"]].isna().all(axis=None)


def test_compare_corrects_within_the_family():
    both = pd.concat([table(0.3), table(0.3, measure="SSIM", seed=1), table(0.01, measure="r")])
    found = statistics.compare_models(both, "temp-pix2pix", "pix2pix", 0)
    np.testing.assert_allclose(found["p_holm"], statistics.holm(found["p"]))
    assert (found["p_holm"] > found["p"]).all()


def test_compare_skips_measures_that_a_model_cannot_have():
    correlation = table(0.3, measure="r")
    correlation.loc[correlation["model"] == "constant", "value"] = np.nan
    assert len(statistics.compare_models(correlation, "temp-pix2pix", "pix2pix", 0)) == 1
    assert statistics.compare_models(correlation, "temp-pix2pix", "constant", 0).empty
