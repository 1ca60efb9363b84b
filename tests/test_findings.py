import numpy as np
import pandas as pd
import pytest

from perfnb import maps
from perfnb.metrics import comparisons, findings


def study(names, cohorts=("acute",), n=8):
    rng = np.random.default_rng(0)
    better = {"temp-pix2pix": 0.02, "pix2pix": 0.05, "constant": 0.1}
    return pd.DataFrame(
        [
            dict(
                study="s",
                cohort=cohort,
                patient=f"{p}",
                map=name,
                model=model,
                against="reference",
                region="slice",
                measure=measure,
                unit="1",
                value=(1 - error if measure == "SSIM" else error) + 1e-4 * rng.random(),
            )
            for cohort in cohorts
            for name in names
            for model, error in better.items()
            for measure in ("SSIM", "NRMSE")
            for p in range(n)
        ]
    )


def overview(table):
    return findings.overview(
        table, comparisons.compare_models(table, "temp-pix2pix", "pix2pix", seed=0)
    )


def test_every_finding_has_its_row_and_says_what_is_missing():
    found = overview(study(["Tmax", "CBF"]))
    assert found.index.tolist() == [f"F{k}" for k in range(1, 10)]
    expected = ["in part"] * 4 + ["not yet"] * 2 + ["in part"] + ["not yet"] * 2
    assert found["covered"].tolist() == expected
    assert (found.loc[found["covered"] == "not yet", "this study"] == "–").all()


def test_the_numbers_come_from_the_table():
    found = overview(study(maps.MAPS, ("acute", "chronic")))
    covered = ["yes"] * 5 + ["in part"] * 2 + ["not yet"] * 2
    assert found["covered"].tolist() == covered
    found = found["this study"]
    assert found["F1"].startswith("SSIM of temp-pix2pix: CBF 0.980")
    assert found["F4"].endswith("TTP +0.030")
    assert found["F5"].startswith("SSIM of temp-pix2pix and pix2pix: CBF 0.980 and 0.950")
    assert found["F7"] == "NRMSE of temp-pix2pix and pix2pix: Tmax 0.020 and 0.050"
    assert "better in 10 of 10 comparisons at p < 0.05 (10 after Holm), pix2pix in 0" in found["F3"]


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_patients_are_said(n):
    assert "too few patients" in overview(study(["Tmax"], n=n))["this study"]["F3"]
