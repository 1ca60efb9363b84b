"""A user's own films, however they are written, go the whole way and get their maps back."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from perfnb import chapters
from perfnb import study as studies
from perfnb.data import phantom
from perfnb.maps import MAPS

ROOT = Path(__file__).resolve().parents[1]
TIMES = {"repetition_time_s": 2.22, "echo_time_s": 0.036}


@dataclass(frozen=True)
class Film:
    """How one simulated patient is written, as if by a stranger's converter."""

    shape: tuple[int, int, int]
    frames: int
    axes: str
    seed: int
    five_d: bool = False
    integers: bool = False
    sidecar: bool = True
    mask: bool = True
    maps: bool = False


FILMS = {
    "anna": Film((96, 112, 19), 57, "LAS", 1, integers=True, mask=False),
    "ben": Film((64, 64, 27), 91, "PSR", 2, five_d=True),
    "carla": Film((48, 48, 6), 60, "RPI", 3, integers=True, sidecar=False, maps=True),
    "dora": Film((48, 56, 8), 60, "SLA", 4, five_d=True, integers=True, maps=True),
}


def write_image(path: Path, values: np.ndarray, affine: np.ndarray, film: Film) -> None:
    image = nib.Nifti1Image(values, affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(film.axes)
    )
    nib.save(image.as_reoriented(turn), path)


def write(folder: Path, name: str) -> None:
    """Draw a patient and write film, mask and maps with odd axes, types and shapes."""
    film = FILMS[name]
    patient = phantom.draw_patient("acute", film.seed, film.shape, film.frames)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.nii.gz"
    write_image(path, patient.series, patient.affine, film)
    image = nib.load(path)
    values, scale = image.get_fdata(dtype=np.float32), (1.0, 0.0)
    if film.five_d:
        values = values[:, :, :, None]
    if film.integers:
        scale = float(np.ptp(values)) / 60000, float(values.max() + values.min()) / 2
        values = np.rint((values - scale[1]) / scale[0]).astype(np.int16)
    stored = nib.Nifti1Image(values, image.affine)
    stored.header["scl_slope"], stored.header["scl_inter"] = scale
    stored.header.set_xyzt_units("mm", "sec")
    nib.save(stored, path)
    if film.sidecar:
        times = {"RepetitionTime": TIMES["repetition_time_s"], "EchoTime": TIMES["echo_time_s"]}
        (folder / f"{name}.json").write_text(json.dumps(times))
    if film.mask:
        mask = patient.mask.astype(np.uint8)
        write_image(folder / f"{name}_mask.nii.gz", mask, patient.affine, film)
    for map_name in MAPS if film.maps else ():
        values = np.where(patient.mask, patient.truth[map_name], 0).astype(np.float32)
        write_image(folder / f"{name}_{map_name}.nii.gz", values, patient.affine, film)
    truth = folder.parent / f"{folder.name}-truth"
    truth.mkdir(exist_ok=True)
    for map_name, values in {"mask": patient.mask, **patient.truth}.items():
        path = truth / f"{name}_{map_name}.nii.gz"
        write_image(path, values.astype(np.float32), patient.affine, film)


def run(chapter: str, home: Path, root: Path = ROOT, **parameters) -> None:
    """Execute a chapter of the study tiny with results in `home`."""
    out = home / "executed" / f"{chapter}.ipynb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERFNB_HOME", str(home))
        values = {"study": "tiny", **parameters}
        chapters.run_chapter(root / "notebooks" / f"{chapter}.ipynb", out, values)


def keys(home: Path, folder: Path, model: str = "pix2pix", map_name: str = "CBV"):
    """Return the folders of data and of the evaluation that belong to a folder of films."""
    key = studies.cohort_key(str(folder))
    return home / "data/tiny" / key, home / f"runs/tiny/{key}/{model}-{map_name}/evaluation"


def volume(path: Path) -> np.ndarray:
    return nib.load(path).get_fdata(dtype=np.float32)


def correlation(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    return float(np.corrcoef(a[where], b[where])[0, 1])


def assert_on_the_films_grid(path: Path, film: Path) -> None:
    drawn, source = nib.load(path), nib.load(film)
    assert drawn.shape == source.shape[:3]
    np.testing.assert_allclose(drawn.affine, source.affine, atol=1e-4)
    for form in ("qform_code", "sform_code"):
        assert int(drawn.header[form]) == int(source.header[form])
    assert drawn.header.get_xyzt_units()[0] == source.header.get_xyzt_units()[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Return a copy of the project whose tiny study learns fast enough to be looked at."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "workflow" / "studies", root / "workflow" / "studies")
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    path = root / "workflow" / "studies" / "tiny.yml"
    settings = yaml.safe_load(path.read_text())
    faster = {"learning_rate": 2.0e-3, "adversarial_weight": 0.1, "averaging": 0.5}
    faster |= {"ngf": 4, "ndf": 4, "epochs": 25, "patience": 25}
    settings["chapters"]["05_train"] |= faster
    path.write_text(yaml.safe_dump(settings))
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory, project) -> Path:
    """Return a home in which a folder of four films was prepared, learnt and evaluated."""
    home = tmp_path_factory.mktemp("own")
    for name in FILMS:
        write(home / "my films", name)
    cohort = str(home / "my films")
    run("04_prepare", home, project, cohort=cohort, **TIMES)
    run("05_train", home, project, cohort=cohort, map_name="CBV", model_name="pix2pix")
    run("07_evaluate", home, project, cohort=cohort, map_name="CBV", model_name="pix2pix")
    return home


def test_every_film_is_prepared_as_it_was_written(trained):
    data, _ = keys(trained, trained / "my films")
    table = pd.read_csv(data / "patients.csv").set_index("patient")
    assert sorted(table.index) == sorted(FILMS)
    assert {"train", "validation", "test"} == set(table.split)
    for name, film in FILMS.items():
        row = table.loc[name]
        assert row.frames == film.frames and row.frames_cut == max(0, film.frames - 80)
        assert sorted(map(int, row["size"].split("x"))) == sorted(film.shape)
        assert row.references == ("given" if film.maps else "classical")
        assert row.repetition_time_s == TIMES["repetition_time_s"]


@pytest.mark.parametrize("name", [n for n, film in FILMS.items() if not film.maps])
def test_missing_maps_are_made_on_the_films_own_grid(trained, name):
    data, _ = keys(trained, trained / "my films")
    truth = trained / "my films-truth"
    mask = volume(truth / f"{name}_mask.nii.gz") > 0
    known = volume(truth / f"{name}_CBF.nii.gz") > 5
    for map_name, least in (("CBF", 0.5), ("TTP", 0.5)):
        path = data / "references" / f"{name}_{map_name}.nii.gz"
        assert_on_the_films_grid(path, trained / "my films" / f"{name}.nii.gz")
        made = volume(path)
        assert correlation(made, volume(truth / path.name), known) > least, map_name
        inside = made > 0
        assert 2 * (inside & mask).sum() / (inside.sum() + mask.sum()) > 0.9


def test_predicted_maps_lie_in_the_brain_and_resemble_the_reference(trained):
    data, evaluation = keys(trained, trained / "my films")
    (path,) = (evaluation / "predictions").iterdir()
    name = path.name.split("_")[0]
    film = trained / "my films" / f"{name}.nii.gz"
    assert_on_the_films_grid(path, film)
    drawn = volume(path)
    truth = trained / "my films-truth"
    mask = volume(truth / f"{name}_mask.nii.gz") > 0
    inside = drawn != 0
    assert 2 * (inside & mask).sum() / (inside.sum() + mask.sum()) > 0.9
    given = film.with_name(path.name)
    reference = volume(given if given.exists() else data / "references" / path.name)
    assert correlation(drawn, reference, inside & mask) > 0.3
    table = pd.read_csv(evaluation / "metrics.csv")
    assert set(table.patient) == {name} and set(table.model) == {
        "pix2pix",
        "constant",
        "pre-bolus only",
    }


@pytest.fixture(scope="module")
def applied(tmp_path_factory, tiny_home) -> Path:
    """Return a folder of one film that the acute cohort's tiny model was applied to."""
    folder = tmp_path_factory.mktemp("one") / "one film"
    write(folder, "ben")
    for chapter, more in (("04_prepare", TIMES), ("07_evaluate", {"map_name": "Tmax"})):
        run(chapter, tiny_home, cohort=str(folder), trained_on="acute", **more)
    return folder


def test_trained_model_is_applied_to_a_single_film(applied, tiny_home):
    data, own = keys(tiny_home, applied, "temp-pix2pix", "Tmax")
    evaluation = own.with_name("evaluation-acute")
    acute = json.loads((tiny_home / "data/tiny/acute/scaling.json").read_text())
    assert json.loads((data / "scaling.json").read_text()) == acute
    path = evaluation / "predictions" / "ben_Tmax.nii.gz"
    assert_on_the_films_grid(path, applied / "ben.nii.gz")
    drawn = volume(path)
    mask = volume(applied / "ben_mask.nii.gz") > 0
    inside = drawn != 0
    assert 2 * (inside & mask).sum() / (inside.sum() + mask.sum()) > 0.9
    lowest, highest = acute["ranges"]["Tmax"]
    assert lowest <= drawn[inside].min() < drawn[inside].max() <= highest
    assert sorted(p.name for p in own.parent.iterdir()) == ["evaluation-acute"]
    assert os.listdir(evaluation / "predictions") == [path.name]
