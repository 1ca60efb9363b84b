import numpy as np
import pandas as pd
import pytest

from perfnb.metrics import comparisons, statistics


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


def test_pairs_meet_by_patient_not_by_order():
    found = table(0.3)
    found = found[found["model"] != "constant"].sample(frac=1, random_state=0)
    first, second = comparisons.pairs(found, "temp-pix2pix", "pix2pix")
    np.testing.assert_allclose(second - first, 0.3)
    with pytest.raises(ValueError, match=r"\['7'\] have a value for only one"):
        lost = (found["patient"] == "7") & (found["model"] == "pix2pix")
        comparisons.pairs(found[~lost], "temp-pix2pix", "pix2pix")


@pytest.mark.parametrize(
    ("measure", "wins", "verdict"), [("MAE", 8, "better"), ("SSIM", 0, "worse")]
)
def test_compare_judges_by_the_direction_of_the_measure(measure, wins, verdict):
    found = comparisons.compare_models(table(0.3, measure=measure), "temp-pix2pix", "pix2pix", 0)
    row = found.iloc[0]
    assert (row["n"], row["wins"], row["verdict"], row["note"]) == (8, wins, verdict, "")
    assert row["mean_difference"] == pytest.approx(-0.3)
    assert row["first_mean"] - row["second_mean"] == pytest.approx(-0.3)
    assert row["low"] - 1e-9 <= row["mean_difference"] <= row["high"] + 1e-9
    assert row["p"] == row["p_holm"] < 0.05


def test_no_difference_is_not_shown():
    found = comparisons.compare_models(table(0.0), "temp-pix2pix", "pix2pix", 0)
    assert found["verdict"].tolist() == ["not shown"]


def test_a_sentence_takes_every_number_from_the_row():
    found = comparisons.compare_models(
        table(0.3, measure="MAE_physical").assign(unit="s"), "temp-pix2pix", "pix2pix", 0
    )
    text = comparisons.sentence(found.iloc[0])
    assert text.startswith("Tmax (acute, tissue): temp-pix2pix has the lower MAE in 8 of 8")
    assert f"{found['first_mean'][0]:.2f} against {found['second_mean'][0]:.2f} s" in text
    assert text.endswith("p = 0.0078, Holm 0.0078: better.")
    few = comparisons.compare_models(table(0.3, n=2), "temp-pix2pix", "pix2pix", 0)
    assert "too few patients (2 of 6)" in comparisons.sentence(few.iloc[0])


def test_compare_says_too_few_patients_instead_of_testing():
    found = comparisons.compare_models(table(0.3, n=2), "temp-pix2pix", "pix2pix", 0)
    assert found["note"].tolist() == ["too few patients (2 of 6)"]
    assert found[["p", "p_holm", "effect_size"]].isna().all(axis=None)
    assert found["verdict"].tolist() == ["too few patients"]
    one = comparisons.compare_models(table(0.3, n=1), "temp-pix2pix", "pix2pix", 0)
    assert one[["low", "high"]].isna().all(axis=None)


def test_compare_corrects_over_the_maps_of_one_measure():
    others = [table(0.01, seed=1).assign(map="CBF"), table(0.3, measure="SSIM")]
    both = pd.concat([table(0.3), *others])
    found = comparisons.compare_models(both, "temp-pix2pix", "pix2pix", 0)
    mae = found[found["measure"] == "MAE"]
    assert mae["map"].tolist() == ["CBF", "Tmax"]
    np.testing.assert_allclose(mae["p_holm"], statistics.holm(mae["p"]))
    assert (mae["p_holm"] > mae["p"]).all()
    alone = found[found["measure"] == "SSIM"]
    np.testing.assert_allclose(alone["p_holm"], alone["p"])


def test_compare_skips_measures_that_a_model_cannot_have():
    correlation = table(0.3, measure="r")
    correlation.loc[correlation["model"] == "constant", "value"] = np.nan
    assert len(comparisons.compare_models(correlation, "temp-pix2pix", "pix2pix", 0)) == 1
    assert comparisons.compare_models(correlation, "temp-pix2pix", "constant", 0).empty


def test_a_glance_has_a_row_a_map_with_errors_and_verdicts():
    pairs = [("temp-pix2pix", "pix2pix"), ("temp-pix2pix", "constant"), ("pix2pix", "constant")]
    scored = table(0.3, measure="MAE_physical").assign(unit="s")
    both = pd.concat([scored, scored.assign(map="TTP", value=scored["value"] * 2)])
    tests = pd.concat([comparisons.compare_models(both, *pair, 0) for pair in pairs])
    found = comparisons.at_a_glance(tests).set_index("map")
    assert list(found.index) == ["Tmax [s]", "TTP [s]"]
    means = scored.groupby("model")["value"].mean()
    row = found.loc["Tmax [s]"]
    assert row["constant"] == f"{means['constant']:.2f}"
    assert row["temp-pix2pix"] == f"{means['temp-pix2pix']:.2f}: better"
    assert row["temp-pix2pix / pix2pix"] == "better"
    assert comparisons.at_a_glance(tests[:0]).empty
