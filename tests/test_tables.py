import numpy as np
import pandas as pd
import pytest

from perfnb.metrics import prior, tables


def maps(seed=0):
    rng = np.random.default_rng(seed)
    tissue = np.zeros((2, 16, 16), bool)
    tissue[:, 3:13, 3:13] = True
    reference = np.where(tissue, rng.uniform(1, 10, tissue.shape), 0.0)
    prediction = np.where(tissue, reference + 1.5, 0.0)
    return reference, prediction, tissue


def rows_of(model="pix2pix", patient="sub-001", truth=None, map_name="Tmax"):
    reference, prediction, tissue = maps()
    return tables.evaluate_patient(
        study="tiny",
        cohort="acute",
        patient=patient,
        map_name=map_name,
        model=model,
        prediction_scaled=prediction / 10 - 1,
        reference_scaled=reference / 10 - 1,
        prediction=prediction,
        reference=reference,
        truth=truth,
        tissue=tissue,
    )


def frame(values, model="pix2pix", measure="MAE", **more):
    head = dict(study="s", cohort="acute", map="Tmax", against="reference", region="tissue")
    return pd.DataFrame(
        [
            {**head, "model": model, "measure": measure, "unit": "1", "patient": p, "value": v}
            | more
            for p, v in values.items()
        ]
    )


def test_one_patient_has_every_row_once_with_its_unit():
    rows = pd.DataFrame(rows_of(truth=maps()[0]))
    assert list(rows.columns) == list(tables.COLUMNS)
    assert not rows.duplicated(list(tables.KEY)).any()
    counts = rows.groupby(["against", "region"]).size().to_dict()
    assert counts == {("reference", "slice"): 4, ("reference", "tissue"): 9, ("truth", "tissue"): 5}
    units = dict(zip(rows["measure"], rows["unit"], strict=True))
    assert units["MAE"] == "scaled" and units["PSNR"] == "dB" and units["r"] == "1"
    assert units["MAE_physical"] == units["RMSE_physical"] == units["bias"] == "s"


def test_physical_rows_hold_the_error_in_the_unit_of_the_map():
    rows = tables.pick(pd.DataFrame(rows_of()), measure=["MAE_physical", "bias"], region="tissue")
    np.testing.assert_allclose(rows["value"], 1.5)
    scaled = tables.pick(pd.DataFrame(rows_of()), measure="MAE", region="tissue")
    np.testing.assert_allclose(scaled["value"], 0.15)


def test_the_classical_route_competes_against_the_truth_only():
    rows = pd.DataFrame(rows_of("classical", truth=maps()[0]))
    assert set(rows["against"]) == {"truth"}
    with pytest.raises(ValueError, match="has no truth"):
        rows_of("classical")


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown, known: pix2pix, temp-pix2pix"):
        rows_of("pix3pix")
    with pytest.raises(ValueError, match="CBF, CBV, MTT, Tmax, TTP"):
        rows_of(map_name="CBX")
    with pytest.raises(ValueError, match="no column 'colour'"):
        tables.pick(frame({"a": 1}), colour="red")


def test_collect_keeps_a_shared_baseline_once(tmp_path):
    for model in ("pix2pix", "temp-pix2pix"):
        rows = rows_of(model) + rows_of("constant")
        pd.DataFrame(rows).to_csv(tmp_path / f"{model}.csv", index=False)
    table = tables.collect(sorted(tmp_path.glob("*.csv")))
    assert table.groupby("model").size().to_dict() == dict.fromkeys(set(table["model"]), 13)
    assert not table.duplicated(list(tables.KEY)).any()


def test_collect_refuses_baselines_that_differ_and_foreign_files(tmp_path):
    frame({"a": 1.0}, "constant").to_csv(tmp_path / "1.csv", index=False)
    frame({"a": 2.0}, "constant").to_csv(tmp_path / "2.csv", index=False)
    with pytest.raises(ValueError, match="1 rows repeat with different values"):
        tables.collect([tmp_path / "1.csv", tmp_path / "2.csv"])
    pd.DataFrame({"epoch": [1]}).to_csv(tmp_path / "3.csv", index=False)
    with pytest.raises(ValueError, match="3.csv lacks the columns"):
        tables.collect([tmp_path / "3.csv"])
    with pytest.raises(ValueError, match="no table"):
        tables.collect([])


@pytest.mark.parametrize("name", ["007", "NA", "nan"])
def test_collect_keeps_patients_whose_names_look_like_something_else(tmp_path, name):
    frame({name: 1.0, "other": np.nan}).to_csv(tmp_path / "1.csv", index=False)
    table = tables.collect([tmp_path / "1.csv"]).set_index("patient")["value"]
    assert table[name] == 1.0 and np.isnan(table["other"])


def test_mean_sd_writes_mean_spread_and_patients():
    table = pd.concat([frame({"a": 1.0, "b": 3.0}), frame({"a": 2.0}, "constant")])
    text = tables.mean_sd(table, ["MAE", "SSIM"])
    assert text.loc[("acute", "Tmax", "pix2pix"), "MAE"].split() == ["2.000", "±", "1.414"]
    assert text.loc[("acute", "Tmax", "constant"), "MAE"] == "2.000"
    assert text["SSIM"].tolist() == ["–", "–"]
    assert text["n"].tolist() == [2, 1]


def test_mean_sd_tells_the_unit_of_physical_errors():
    text = tables.mean_sd(frame({"a": 1.0}, measure="MAE_physical"), tables.PHYSICAL)
    assert text.loc[("acute", "Tmax [s]", "pix2pix"), "MAE"] == "1.00"


def test_the_average_patient_is_nearest_the_median():
    assert tables.average_patient(frame({"a": 1.0, "b": 2.0, "c": 9.0})) == "b"
    assert tables.average_patient(frame({"b": 1.0, "a": 2.0})) == "a"
    with pytest.raises(ValueError, match="no rows"):
        tables.average_patient(frame({"a": 1.0}).iloc[:0])


def test_prior_work_stands_beside_the_study_with_its_unit():
    table = pd.DataFrame(rows_of() + rows_of(patient="sub-002"))
    found = prior.beside_prior_work(table, "acute", "pix2pix").set_index("measure")
    assert found.loc["MAE", "pix2pix, acute"] == "1.500 ± 0.000 (s, tissue)"
    assert found.loc["SSIM", "pix2pix, acute"] == "not trained"
    assert found.loc["NRMSE", "earlier work"] == "McKinley 2018: 0.113"
