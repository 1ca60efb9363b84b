"""The worst patients, high values and grain; and maps kept by chapter 07."""

import numpy as np
import pandas as pd
import pytest

from perfnb.metrics import worst
from perfnb.models import kept
from perfnb.study import start

RNG = np.random.default_rng(0)
REFERENCE = RNG.uniform(0, 12, (4, 20, 20))
TISSUE = np.ones(REFERENCE.shape, bool)


def scores(values):
    """Whole-slice SSIM of temp-pix2pix: {map: {patient: value}} as tidy rows."""
    head = {"model": "temp-pix2pix", "against": "reference", "region": "slice", "measure": "SSIM"}
    return pd.DataFrame(
        {**head, "map": name, "patient": patient, "value": value}
        for name, own in values.items()
        for patient, value in own.items()
    )


def test_worst_patients_are_those_of_the_worst_map():
    table = scores(
        {"CBF": {"a": 0.5, "b": 0.99, "c": 0.99}, "Tmax": {"a": 0.8, "b": 0.7, "c": 0.9}}
    )
    name, patients, found = worst.worst_patients(table, "temp-pix2pix")
    assert (name, patients) == ("Tmax", ["b", "a"])
    assert found["c"] == 0.9
    with pytest.raises(ValueError, match="no whole-slice SSIM of pix2pix"):
        worst.worst_patients(table, "pix2pix")


@pytest.mark.parametrize(
    ("drawn", "reached", "slope"),
    [(REFERENCE, 1, 1), (0.5 * REFERENCE, 0.5, 0.5), (np.minimum(REFERENCE, 6), 6 / 9, 0)],
    ids=["perfect", "halved", "cut off"],
)
def test_tail_says_how_much_of_high_values_is_reached(drawn, reached, slope):
    found = worst.tail(REFERENCE, drawn, TISSUE, 6)
    assert found["reached"] == pytest.approx(reached, abs=0.02)
    assert found["slope"] == pytest.approx(slope, abs=0.02)
    assert found["voxels"] == (REFERENCE > 6).sum()


def test_noise_of_the_reference_flattens_the_tail_of_the_truth():
    truth = RNG.normal(5, 2, (4, 40, 40))
    noisy = truth + RNG.normal(0, 2, truth.shape)
    assert worst.tail(noisy, truth, np.ones(truth.shape, bool), 6)["slope"] < 0.8


def test_tail_of_few_voxels_or_outside_tissue_is_unknown():
    assert np.isnan(worst.tail(REFERENCE, REFERENCE, TISSUE, 11.99)["slope"])
    assert worst.tail(REFERENCE, REFERENCE, ~TISSUE, 6)["voxels"] == 0


def test_grain_sees_noise_and_no_slope_and_nothing_outside_tissue():
    ramp = np.broadcast_to(np.arange(20.0), (4, 20, 20))
    inner = np.zeros(TISSUE.shape, bool)
    inner[:, 2:-2, 2:-2] = True
    noise = RNG.normal(0, 1, ramp.shape)
    flat = np.where(inner, 3.0, 99.0)
    assert worst.grain(flat, inner) == pytest.approx(0, abs=1e-9)
    assert worst.grain(ramp + noise, inner) > 0.5 > worst.grain(ramp, inner)
    assert worst.grain(2 * noise, inner) == pytest.approx(2 * worst.grain(noise, inner))
    with pytest.raises(ValueError, match="tissue is empty"):
        worst.grain(ramp, ~TISSUE)


def test_summary_tells_median_range_and_patients_with_a_value():
    table = pd.DataFrame({"model": "m", "x": [1.0, 2.0, 4.0, np.nan]})
    found = worst.summarise(table, ["model"], ["x"])
    assert found.loc["m", "x"] == "2.00 (1.00 to 4.00)" and found.loc["m", "n"] == 3


@pytest.fixture
def evaluations(tmp_path, monkeypatch):
    """Two models of Tmax with one kept patient: one perfect, one drawing half of it."""
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    runs = []
    for model, factor in (("pix2pix", 0.5), ("temp-pix2pix", 1.0)):
        run = start("07_evaluate", "tiny", "acute", "Tmax", model)
        own = {"prediction": factor * REFERENCE, "reference": REFERENCE, "truth": REFERENCE}
        own |= {"tissue": TISSUE, "mask": TISSUE, "film": REFERENCE}
        folder = run.run_dir / "evaluation"
        folder.mkdir(parents=True)
        np.savez(folder / "slices.npz", **{f"sub-001/{name}": a for name, a in own.items()})
        run.write_manifest(folder)
        runs.append(run)
    return runs


def test_kept_maps_are_measured_for_every_model_and_the_truth_once(evaluations):
    tails = kept.measure_tails(evaluations, [6]).set_index("model")
    assert sorted(tails.index) == ["pix2pix", "temp-pix2pix", "truth"]
    assert tails.loc["pix2pix", "slope"] == pytest.approx(0.5)
    grain = kept.measure_grain(evaluations).set_index("model")["ratio"]
    assert grain["pix2pix"] == pytest.approx(0.5) and grain["temp-pix2pix"] == pytest.approx(1)


def test_worst_rows_show_the_slice_of_the_largest_error(evaluations):
    rows, masks = kept.worst_rows(evaluations, ["sub-001"], "pix2pix")
    label, columns = rows[0]
    z = REFERENCE.sum(axis=(1, 2)).argmax()
    assert label == "sub-001" and len(masks) == 1
    np.testing.assert_array_equal(columns["reference"], REFERENCE[z])
    np.testing.assert_allclose(columns["error, pix2pix"], -0.5 * REFERENCE[z])
    assert list(columns)[:2] == ["input", "reference"]


def test_missing_evaluation_names_its_chapter(evaluations):
    matrix = {"cohorts": ["acute"], "maps": ["Tmax"], "models": ["pix2pix", "temp-pix2pix"]}
    run = start("09_worst_cases", "tiny")
    assert len(kept.require_evaluations(run, matrix)) == 2
    with pytest.raises(FileNotFoundError, match="07_evaluate"):
        kept.require_evaluations(run, {**matrix, "maps": ["CBF"]})
