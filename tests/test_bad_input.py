"""Each bad input ends in one message: the file or parameter, found, expected, what to do.

And nothing stays behind that a later chapter would trust.
"""

import json
import os
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_films import AFFINE, preparation, prepare, write_folder, write_volume

from perfnb import chapters
from perfnb import study as studies
from perfnb.data import cohorts, slices
from perfnb.data.slices import Slices
from perfnb.models import checkpoints, evaluation, training
from perfnb.models.networks import make_generator

ROOT = Path(__file__).resolve().parents[1]
GRID = (24, 24, 3)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """Return a folder of four good films, p0 to p3, without maps."""
    return write_folder(tmp_path_factory.mktemp("good") / "films", maps=())


@pytest.fixture
def films(good, tmp_path) -> Path:
    """Return a copy of the good folder, to be spoilt."""
    return shutil.copytree(good, tmp_path / "films")


def change_film(change):
    """Return a damage: film p1 with its array changed."""

    def damage(folder: Path) -> None:
        image = nib.load(folder / "p1.nii.gz")
        values = change(image.get_fdata(dtype=np.float32))
        nib.save(nib.Nifti1Image(values, image.affine), folder / "p1.nii.gz")

    return damage


def change_times(**times):
    """Return a damage: the sidecar of p1 with other entries; None removes one."""

    def damage(folder: Path) -> None:
        path = folder / "p1.json"
        known = json.loads(path.read_text()) | times
        path.write_text(json.dumps({k: v for k, v in known.items() if v is not None}))

    return damage


def change_file(name: str, content: bytes | None):
    """Return a damage: a file with other content; None leaves half of it."""

    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(
            path.read_bytes()[: path.stat().st_size // 2] if content is None else content
        )

    return damage


def add_volume(name: str, values: np.ndarray, affine: np.ndarray = AFFINE):
    """Return a damage: a mask or map beside p1."""
    return lambda folder: write_volume(folder / name, values, affine)


def fill(value: float):
    return change_film(lambda film: np.full_like(film, value))


def without_film(folder: Path) -> None:
    (folder / "p1.nii.gz").unlink()
    (folder / "p1.nii.gz").symlink_to(folder / "moved away.nii.gz")


def blank_frames(frames, value: float, rows: int = 24):
    """Return a damage: these frames of film p1 hold one value, in the first rows at least."""

    def change(film: np.ndarray) -> np.ndarray:
        film[:rows, :, :, list(frames)] = value
        return film

    return change_film(change)


def without_bolus(film: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 5, film.shape)
    return (film[..., 5:6] + noise).astype(np.float32)


BAD_FILMS = {
    "missing": (without_film, ["p1.nii.gz does not exist", "expected a NIfTI file"]),
    "truncated": (
        change_file("p1.nii.gz", None),
        ["p1.nii.gz cannot be read", "truncated or another"],
    ),
    "text": (change_file("p1.nii.gz", b"text"), ["p1.nii.gz cannot be read", "another format"]),
    "a map": (
        change_film(lambda f: f[..., 0]),
        [r"\(24, 24, 3\)", "expected a 4-D film", "give the whole"],
    ),
    "two films": (
        change_film(lambda f: np.stack([f, f], 3)),
        [r"3, 2, 60\)", r"5-D \(X, Y, Z, 1, T\)"],
    ),
    "short": (change_film(lambda f: f[..., :9]), ["9 time points", "at least 10", "time axis"]),
    "time first": (
        change_film(lambda f: np.moveaxis(f, 3, 0)),
        ["3 time points", "time axis the last"],
    ),
    "complex": (
        change_film(lambda f: f.astype(np.complex64)),
        ["complex64", "expected real", "magnitude"],
    ),
    "no TR": (
        change_times(RepetitionTime=None),
        ["no repetition_time_s: found None", "expected seconds", "or the parameter"],
    ),
    "no TE": (
        change_times(EchoTime=None),
        ["no echo_time_s: found None", "p1.json", "or the parameter"],
    ),
    "TR in ms": (
        change_times(RepetitionTime=1500),
        ["repetition_time_s=1500", "p1.json", "0.2 to 10", "divide by 1000"],
    ),
    "TE in ms": (
        change_times(EchoTime=30),
        ["echo_time_s=30", "p1.json", "0.003 to 0.2 s", "divide by 1000"],
    ),
    "TR of zero": (
        change_times(RepetitionTime=0),
        ["repetition_time_s=0 ", "expected 0.2 to 10", "correct"],
    ),
    "TR as text": (
        change_times(RepetitionTime="1.5 s"),
        ["found '1.5 s' for RepetitionTime", "expected seconds"],
    ),
    "no JSON": (
        change_file("p1.json", b"{"),
        ["p1.json is not valid JSON", "repair it, or delete"],
    ),
    "bytes": (
        change_file("p1.json", b"\xff\xfe"),
        ["p1.json is not valid JSON", "repair it, or delete"],
    ),
    "a list": (change_file("p1.json", b"[1]"), ["p1.json holds a list", "expected .*EchoTime"]),
    "all NaN": (fill(np.nan), ["p1.nii.gz never changes", "expected a signal", "export"]),
    "all zero": (fill(0), ["p1.nii.gz never changes", "expected a signal", "export"]),
    "constant": (fill(7), ["p1.nii.gz never changes", "expected a signal", "export"]),
    "a frame of NaN": (
        blank_frames([30], np.nan),
        [
            "p1.nii.gz: 1 of 60 frames",
            r"not a number .* \(frames 30,",
            "expected a signal",
            "export",
        ],
    ),
    "empty frames": (
        blank_frames(range(30, 40), 0),
        ["p1.nii.gz: 10 of 60 frames are zero", "frames 30, 31, .*39, counted from 0", "cut such"],
    ),
    "a constant frame": (blank_frames([59], 7), ["1 of 60 frames .*constant", r"\(frames 59,"]),
    "mostly empty": (blank_frames(range(20, 60), 0), ["40 of 60 frames", "frames 20, .*, 59,"]),
    "half a frame": (
        blank_frames([3], np.nan, rows=14),
        ["1 of 60 frames", "in most voxels", r"\(frames 3,"],
    ),
    "negative": (
        change_film(lambda f: -f),
        ["p1.nii.gz: ", "above zero", "expected a brain", "magnitudes"],
    ),
    "no bolus": (
        change_film(without_bolus),
        ["p1.nii.gz: .*no bolus", "expected a fall", "check that"],
    ),
    "ends early": (
        change_film(lambda f: f[..., :14]),
        ["p1.nii.gz: .*no bolus", "a recovery", "check"],
    ),
    "empty mask": (
        add_volume("p1_mask.nii.gz", np.zeros(GRID, np.uint8)),
        ["p1_mask.nii.gz is empty", "expected voxels"],
    ),
    "mask of another size": (
        add_volume("p1_mask.nii.gz", np.ones((24, 24, 4), np.uint8)),
        ["p1_mask.nii.gz", r"\(24, 24, 4\)", r"\(24, 24, 3\)", "resample"],
    ),
    "mask beside the head": (
        add_volume(
            "p1_mask.nii.gz", np.pad(np.ones((2, 2, 3), np.uint8), ((0, 22), (0, 22), (0, 0)))
        ),
        ["p1.nii.gz: .*no bolus", "mask covers the brain"],
    ),
    "map of another size": (
        add_volume("p1_Tmax.nii.gz", np.ones((12, 24, 3), np.float32)),
        ["p1_Tmax.nii.gz", r"\(12, 24, 3\)", r"\(24, 24, 3\)", "resample"],
    ),
    "map elsewhere": (
        add_volume("p1_Tmax.nii.gz", np.ones(GRID, np.float32), AFFINE @ np.diag([-1, 1, 1, 1])),
        ["p1_Tmax.nii.gz does not lie where", "differ by up to 6", "resample"],
    ),
    "map of NaN": (
        add_volume("p1_Tmax.nii.gz", np.full(GRID, np.nan, np.float32)),
        ["p1_Tmax.nii.gz is 0 or not", "expected Tmax in s", "replace"],
    ),
    "unreadable map": (change_file("p2_mask.nii.gz", b"x"), ["p2_mask.nii.gz cannot be read"]),
}


def refused(call, *patterns: str) -> str:
    """Check that a call raises one plain error whose message holds every pattern in turn."""
    with pytest.raises((ValueError, OSError)) as caught:
        call()
    message = str(caught.value)
    for pattern in patterns:
        assert re.search(pattern, message), f"{pattern!r} not in: {message}"
    assert "\n" not in message
    return message


@pytest.mark.parametrize("damage", BAD_FILMS)
def test_bad_film_is_named_with_what_was_found_and_expected(films, damage):
    spoil, patterns = BAD_FILMS[damage]
    spoil(films)
    run = preparation(films)
    run.data_dir.mkdir(parents=True)
    (run.data_dir / "manifest.json").write_text('{"chapter": "04_prepare", "settings": {}}')
    refused(lambda: slices.write_cohort(run, cohorts.find_cases(films)), *patterns)
    refused(lambda: studies.require(run.data_dir, "04_prepare"), "left unfinished")
    assert not [p for p in run.data_dir.iterdir() if p.name not in ("references",)]


def test_times_given_in_ms_are_refused(films):
    run = preparation(films, repetition_time_s=1500.0)
    refused(lambda: slices.write_cohort(run, cohorts.find_cases(films)),
            "repetition_time_s=1500.0 of p0.nii.gz .given.", "divide by 1000")  # fmt: skip


@pytest.mark.parametrize("patient", ["p1", "p3"])
def test_films_of_several_repetition_times_are_refused(films, patient):
    times = json.dumps({"RepetitionTime": 2.22, "EchoTime": 0.03})
    (films / f"{patient}.json").write_text(times)
    refused(lambda: prepare(films), patient, "2.22 s", "expected 1.5 s", "frames, not seconds")


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_cohort_too_small_to_split_is_refused(films, keep):
    for path in films.iterdir():
        if int(path.name[1]) >= keep:
            path.unlink()
    run = preparation(films, split=[0.5, 0.25, 0.25])
    wanted = (
        ["holds no film", "expected one 4-D"] if not keep else [f"{keep} patient", "at least 3"]
    )
    refused(lambda: slices.write_cohort(run, cohorts.find_cases(films)), *wanted)


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        ({"study": "smal"}, ["study='smal'", "full, paper, small, tiny"]),
        ({"cohort": "akute"}, ["cohort='akute'", "acute, chronic or an existing folder"]),
        ({"map_name": "Tmx"}, ["map_name='Tmx'", "CBF, CBV, MTT, Tmax, TTP"]),
        ({"model_name": "gan"}, ["model_name='gan'", "pix2pix, temp-pix2pix"]),
        ({"epochs": "many"}, ["epochs='many'", "expected a int"]),
        ({"epoch": 3}, ["no parameter 'epoch'", "'epochs'"]),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(names, patterns):
    refused(lambda: studies.start(**{"chapter": "05_train", "study": "tiny"} | names), *patterns)


@pytest.fixture
def trained(films):
    """Return run, slices and settings of one epoch of training on the good films."""
    run = prepare(films)
    model = run.sibling("05_train", map_name="Tmax", model_name="pix2pix", cohort=str(films))
    splits = [Slices(run.data_dir, split, "Tmax") for split in ("train", "validation")]
    settings = {**model.settings, "epochs": 1}
    training.fit(model.run_dir, "pix2pix", *splits, settings)
    model.write_manifest(model.run_dir)
    return model, splits, settings


def test_weights_that_do_not_fit_and_folders_of_other_settings_are_refused(trained):
    run, splits, settings = trained
    other = make_generator("pix2pix", 64, 4, 4, "transpose")
    weights = run.run_dir / "weights.safetensors"
    refused(lambda: checkpoints.load_weights(other, weights),
            "weights.safetensors does not fit", "found", "expected", "ngf")  # fmt: skip
    changed = settings | {"l1_weight": 100.0}
    refused(lambda: training.fit(run.run_dir, "pix2pix", *splits, changed),
            "l1_weight: found 1.0, expected 100.0", "restart=True", "delete")  # fmt: skip
    assert (run.run_dir / "manifest.json").exists()  # the old run is whole and stays trusted
    refused(lambda: studies.require(run.run_dir, "05_train", changed), "l1_weight", "again")


def test_slices_prepared_anew_do_not_score_a_model_that_knows_them(trained, films):
    run, *_ = trained
    prepare(films, seed=99)
    refused(lambda: evaluation.refuse_other_slices(run.run_dir, run.data_dir),
            "trained on other slices", "restart=True")  # fmt: skip


def test_run_that_could_not_be_written_leaves_nothing_to_trust(trained, monkeypatch):
    run, splits, settings = trained

    def full(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoints, "to_bytes", full)
    changed = settings | {"seed": 99}
    refused(lambda: training.fit(run.run_dir, "pix2pix", *splits, changed, restart=True),
            "weights.safetensors could not be written", "No space left", "PERFNB_HOME")  # fmt: skip
    refused(lambda: studies.require(run.run_dir, "05_train"), "left unfinished")


def test_read_only_folder_is_named(films, monkeypatch):
    run = preparation(films)

    def read_only(*arguments, **options):
        raise OSError(30, os.strerror(30), str(run.data_dir))

    monkeypatch.setattr(Path, "mkdir", read_only)
    refused(lambda: slices.write_cohort(run, cohorts.find_cases(films)),
            "could not be written .Read-only file system", "PERFNB_HOME")  # fmt: skip


@pytest.mark.parametrize(
    ("chapter", "name", "value", "status", "last"),
    [
        ("04_prepare", "cohort", "FILMS", 1, "ValueError: .*p1.nii.gz has 9 time points; expected"),
        ("07_evaluate", "map_name", "Tmx", 2, "map_name='Tmx' is unknown; known maps: CBF, CBV"),
    ],
)
def test_chapter_ends_with_the_message_on_its_last_line(
    films, home, capsys, chapter, name, value, status, last
):
    BAD_FILMS["short"][0](films)
    notebook, output = ROOT / "notebooks" / f"{chapter}.ipynb", home / f"{chapter}.ipynb"
    options = ["-p", "study", "tiny", "-p", name, value.replace("FILMS", str(films))]
    assert chapters.main(["run", str(notebook), str(output), *options]) == status
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(last, message), message
    assert not output.exists()
