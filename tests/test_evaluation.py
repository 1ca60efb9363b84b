"""A model is scored on its test patients, and its maps return to each film's own grid."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from small_films import preparation, prepare, write_film, write_folder, write_volume
from synthetic_curves import small_series

from perfnb.data import slices
from perfnb.data.cohorts import find_cases
from perfnb.data.slices import Slices
from perfnb.metrics.tables import COLUMNS
from perfnb.models import checkpoints, evaluation
from perfnb.models.networks import make_generator
from perfnb.study import Run, start, write_json


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a home with a prepared folder of four films, the last with its truth."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERFNB_HOME", str(home))
        folder = write_folder(home / "films")
        for i in range(4):
            truth = folder / "derivatives" / "truth" / f"p{i}"
            truth.mkdir(parents=True)
            inside = small_series()[1]["mask"]
            write_volume(truth / f"p{i}_tissue.nii.gz", (inside * 2).astype(np.uint8))
            write_volume(truth / f"p{i}_Tmax.nii.gz", np.where(inside, 5.0, 0).astype(np.float32))
        prepare(folder)
        yield home


@pytest.fixture
def films(home, monkeypatch):
    """Return the folder of films, with its home set."""
    monkeypatch.setenv("PERFNB_HOME", str(home))
    return home / "films"


@pytest.fixture
def run(films) -> Run:
    """Return the evaluation of pix2pix on Tmax."""
    return start("07_evaluate", "tiny", str(films), "Tmax", "pix2pix")


def references(test: Slices) -> dict:
    return {patient: test.patient(patient).reference for patient in test.patients}


def test_a_model_of_the_chapter_that_makes_it_is_asked_for(films, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    run = start("07_evaluate", "tiny", "chronic", "CBF", "pix2pix")
    for cohort, chapter in (("acute", "05_train"), ("chronic", "06_finetune"), (films, "05_train")):
        with pytest.raises(FileNotFoundError, match=f"is missing. Chapter {chapter} makes it"):
            evaluation.require_model(run, str(cohort))
    for chapter in ("06_finetune", "05_train"):
        made = run.sibling(chapter)
        made.write_manifest(made.run_dir)
        assert evaluation.require_model(run, "chronic") == made.run_dir
    made = run.sibling("05_train", cohort="acute")
    write_json(made.run_dir / "manifest.json", {"chapter": "05_train", "settings": {"seed": 9}})
    with pytest.raises(
        ValueError, match="was made with other settings .seed: found 9, expected 12"
    ):
        evaluation.require_model(run, "acute")


def test_generator_is_built_as_its_folder_says(tmp_path, run):
    torch.manual_seed(1)
    generator = make_generator("temp-pix2pix", 64, 2, 3, "nearest")
    checkpoints.save_weights(generator, tmp_path / "weights.safetensors")
    settings = {"ngf": 2, "unet_ngf": 3, "upsampling": "nearest"}
    write_json(tmp_path / "manifest.json", {"model_name": "temp-pix2pix", "settings": settings})
    built = evaluation.load_generator(tmp_path, 64)
    assert all(torch.equal(v, built.state_dict()[k]) for k, v in generator.state_dict().items())


def test_constant_is_the_median_in_the_tissue_of_training_patients(run):
    training = Slices(run.data_dir, "train", "Tmax")
    slabs = [training.patient(p) for p in training.patients]
    expected = np.median(np.concatenate([s.reference_physical[s.tissue] for s in slabs]))
    assert evaluation.constant_value(run, None) == pytest.approx(float(expected))


def test_model_trained_on_other_slices_is_not_scored(run, tmp_path):
    test = Slices(run.data_dir, "test", "Tmax")
    write_json(tmp_path / "training.json", {"data": test.fingerprint})
    evaluation.refuse_other_slices(tmp_path, run.data_dir)
    write_json(tmp_path / "training.json", {"data": "another split"})
    with pytest.raises(ValueError, match="was trained on other slices than those now in"):
        evaluation.refuse_other_slices(tmp_path, run.data_dir)


def test_sentence_on_the_constant_follows_the_numbers(run):
    test = Slices(run.data_dir, "test", "Tmax")
    table = evaluation.score(run, test, references(test), constant=6.0)
    assert "The network beats the constant" in evaluation.compare_with_constant(
        table, "pix2pix", "s"
    )
    worse = table.assign(value=table.value.where(table.model != "pix2pix", 99.0))
    assert "does **not** beat" in evaluation.compare_with_constant(worse, "pix2pix", "s")
    assert "nothing to score" in evaluation.compare_with_constant(table[:0], "pix2pix", "s")


def test_perfect_maps_have_perfect_scores_beside_a_constant_that_has_not(run):
    test = Slices(run.data_dir, "test", "Tmax")
    table = evaluation.score(run, test, references(test), constant=6.0)
    assert list(table.columns) == list(COLUMNS)
    assert set(table.model) == {"pix2pix", "constant", "classical"}
    assert set(table.cohort) == {run.data_dir.name} and set(table.patient) == set(test.patients)
    assert table[table.measure != "r"].value.notna().all()  # a constant has no correlation
    means = table.groupby(["against", "region", "model", "measure"]).value.mean()
    for region in ("slice", "tissue"):
        assert means["reference", region, "pix2pix", "MAE"] == pytest.approx(0, abs=1e-6)
        assert means["reference", region, "pix2pix", "SSIM"] == pytest.approx(1, abs=1e-6)
        assert means["reference", region, "constant", "MAE"] > 0.01
    truth = means["truth", "tissue"]
    assert truth["pix2pix", "MAE_physical"] == truth["classical", "MAE_physical"]
    assert truth["constant", "MAE_physical"] == pytest.approx(1.0, rel=1e-4)
    assert not len(table.query("model == 'classical' and against == 'reference'"))


def written(run, test, predictions):
    table = evaluation.score(run, test, predictions, 6.0)
    return evaluation.write(run, test, predictions, table, [], 6.0)


def test_written_maps_lie_on_their_films_voxels_in_physical_units(run, films):
    test = Slices(run.data_dir, "test", "Tmax")
    stale = run.run_dir / "evaluation" / "predictions" / "somebody_Tmax.nii.gz"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier evaluation")
    written(run, test, references(test))
    folder = run.run_dir / "evaluation"
    (patient,) = test.patients
    drawn = nib.load(folder / "predictions" / f"{patient}_Tmax.nii.gz")
    given = nib.load(films / f"{patient}_Tmax.nii.gz")
    np.testing.assert_allclose(drawn.affine, given.affine)
    assert drawn.shape == given.shape
    drawn, given = drawn.get_fdata(), given.get_fdata()
    inside = given > 0
    assert ((drawn > 0) == inside).mean() > 0.97
    assert np.corrcoef(drawn[inside], given[inside])[0, 1] > 0.97
    np.testing.assert_allclose(drawn[inside & (drawn > 0)].min(), given[inside].min(), rtol=0.1)
    assert not stale.exists()
    table = pd.read_csv(folder / "metrics.csv", dtype={"patient": str})
    assert set(table.patient) == {patient}
    arrays = np.load(folder / "slices.npz")
    assert arrays[f"{patient}/prediction"].shape == (3, 64, 64)
    assert {f"{patient}/{n}" for n in ("film", "mask", "tissue", "reference", "truth")} <= set(
        arrays
    )
    assert json.loads((folder / "manifest.json").read_text())["chapter"] == "07_evaluate"


@pytest.mark.parametrize("how", ["cut", "swapped"])
def test_film_that_was_changed_after_the_preparation_gets_no_map(run, films, how):
    test = Slices(run.data_dir, "test", "Tmax")
    path = films / f"{test.patients[0]}.nii.gz"
    other = next(p for p in sorted(films.glob("*.nii.gz")) if p.read_bytes() != path.read_bytes())
    kept, manifest = path.read_bytes(), run.data_dir / "manifest.json"
    told = manifest.read_text()
    run.sibling("04_prepare").write_manifest(run.data_dir, [path, other])
    written(run, test, references(test))
    if how == "cut":
        nib.save(nib.load(path).slicer[4:], path)
    else:
        path.write_bytes(other.read_bytes())
    try:
        with pytest.raises(ValueError, match=f"{path.name} was changed .*04_prepare again"):
            written(run, test, references(test))
    finally:
        path.write_bytes(kept)
        manifest.write_text(told)
    assert not (run.run_dir / "evaluation" / "manifest.json").exists()


@pytest.mark.parametrize("place", ["write_volume", "np.savez_compressed"])
def test_evaluation_that_could_not_be_written_is_not_trusted(run, monkeypatch, place):
    test = Slices(run.data_dir, "test", "Tmax")
    written(run, test, references(test))
    manifest = run.run_dir / "evaluation" / "manifest.json"
    assert manifest.exists()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"perfnb.models.evaluation.{place}", full)
    with pytest.raises(OSError, match="No space left"):
        written(run, test, references(test))
    assert not manifest.exists()
    assert not list(manifest.parent.rglob("*partial*"))


def test_other_cohorts_model_sees_slices_in_that_cohorts_scaling(run, films, tmp_path):
    """What the network gets and gives is scaled as where it was trained, whatever 04 was told."""
    write_film(tmp_path / "one", "only", seed=5)
    other = preparation(tmp_path / "one")
    own = slices.Scaling({name: (-7.0, 7.0) for name in ("series", "Tmax", "CBF")})
    slices.write_cohort(other, find_cases(tmp_path / "one"), own)
    scaling = slices.read_scaling(run.data_dir)
    plain = Slices(other.data_dir, "test", "Tmax")
    test = Slices(other.data_dir, "test", "Tmax", scaling)
    assert plain.scaling == own and test.scaling == scaling
    a, b = plain.patient("only"), test.patient("only")
    np.testing.assert_array_equal(a.reference_physical, b.reference_physical)
    expected = scaling.forward("Tmax", b.reference_physical)[b.mask]
    np.testing.assert_allclose(b.reference[b.mask], expected, rtol=1e-6)
    assert not np.allclose(a.series[:, 0][a.mask], b.series[:, 0][b.mask])


def test_scaling_of_a_model_is_that_of_the_cohort_it_was_trained_on(films, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    run = start("07_evaluate", "tiny", str(films), "Tmax", "pix2pix")
    assert evaluation.model_scaling(run, None) is None
    with pytest.raises(FileNotFoundError, match="acute is missing. Chapter 04_prepare makes it"):
        evaluation.model_scaling(run, "acute")
    other = run.sibling("04_prepare", cohort="acute")
    slices.write_scaling(other.data_dir, slices.Scaling({"Tmax": (0.0, 11.0)}))
    other.write_manifest(other.data_dir)
    assert evaluation.model_scaling(run, "acute").ranges == {"Tmax": (0.0, 11.0)}


def test_first_middle_and_last_patient_are_shown():
    assert evaluation.quantile_patients(list("abcde")) == {
        "best": "a",
        "median": "c",
        "worst": "e",
    }
    assert evaluation.quantile_patients(["a"]) == dict.fromkeys(("best", "median", "worst"), "a")
    assert evaluation.quantile_patients([]) == {}
