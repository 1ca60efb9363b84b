"""Settings come from the study, folders are trusted by their manifest, files appear whole."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from perfnb import study as studies
from perfnb.maps import MAPS, spec

STUDIES = Path(__file__).resolve().parents[1] / "workflow" / "studies"
MODEL = ("acute", "Tmax", "pix2pix")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PERFNB_HOME", str(tmp_path))
    return tmp_path


def test_maps_are_bounded_and_displayed_inside_their_bounds():
    assert list(MAPS) == ["CBF", "CBV", "MTT", "Tmax", "TTP"]
    for m in MAPS.values():
        assert m.limits[0] <= m.display[0] < m.display[1] <= m.limits[1]
    with pytest.raises(ValueError, match="'tmax' is unknown; known maps: CBF, CBV, MTT, Tmax, TTP"):
        spec("tmax")


def test_none_takes_the_studys_value_and_anything_else_wins(home):
    default = studies.start("05_train", "tiny", *MODEL, seed=None, epochs=None)
    changed = studies.start("05_train", "tiny", *MODEL, seed=3, learning_rate=1)
    assert default["epochs"] == studies.read_study("tiny")["chapters"]["05_train"]["epochs"]
    assert (changed["seed"], changed["learning_rate"]) == (3, 1)
    assert changed["epochs"] == default["epochs"]
    assert default.run_dir == home.resolve() / "runs/tiny/acute/pix2pix-Tmax"
    assert default.data_dir == home.resolve() / "data/tiny/acute"
    with pytest.raises(KeyError, match="05_train has no setting 'ngff'; it has .*'ngf'"):
        default["ngff"]


def test_values_per_cohort_are_resolved_by_the_cohort(home):
    split = studies.read_study("tiny")["chapters"]["04_prepare"]["split"]
    found = [
        studies.start("04_prepare", "tiny", c)["split"] for c in ("acute", "chronic", str(home))
    ]
    assert found == [split["acute"], split["chronic"], split["folder"]]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (dict(study="huge"), "study='huge' is unknown; known studies: full, paper, small, tiny"),
        (dict(study="../studies/tiny"), "is unknown; known studies"),
        (dict(chapter="05_trian"), "chapter='05_trian' is not in study tiny; it has .*05_train"),
        (dict(cohort="acut"), "cohort='acut' is unknown; expected acute, chronic or an existing"),
        (dict(map_name="TMAX"), "map_name='TMAX' is unknown; known maps: CBF"),
        (dict(model_name="unet"), "model_name='unet' is unknown; known: pix2pix, temp-pix2pix"),
        (dict(ngff=3), r"05_train has no parameter 'ngff'; it has \[.*'ngf'"),
        (dict(epochs="3"), "epochs='3' of 05_train is a str; expected a int such as"),
        (dict(epochs=2.5), "epochs=2.5 .* is a float; expected a int"),
        (dict(epochs=True), "epochs=True .* is a bool; expected a int"),
        (dict(epochs=0), "epochs=0 of 05_train; expected at least 1"),
        (dict(seed=-1), "seed=-1 of 05_train; expected at least 0"),
        (dict(learning_rate=-1.0), "learning_rate=-1.0 of 05_train; expected at least 0"),
    ],
)
def test_unknown_names_and_values_are_refused_with_the_known_ones(names, message):
    given = dict(chapter="05_train", study="tiny", cohort="acute") | names
    with pytest.raises(ValueError, match=message):
        studies.start(**given)


def test_a_folder_of_films_has_a_key_of_its_own(home):
    folders = [home / "a" / "My films", home / "b" / "My films"]
    for folder in folders:
        folder.mkdir(parents=True)
    keys = [studies.cohort_key(str(folder)) for folder in folders]
    assert len(set(keys)) == 2
    assert all(re.fullmatch(r"My-films-[0-9a-f]{6}", key) for key in keys)
    assert studies.cohort_key(f"{folders[0]}/../My films") == keys[0]


def test_a_folder_whose_name_is_a_number_is_found_also_as_a_number(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(ValueError, match="cohort='2024' is unknown; expected acute, chronic or"):
        studies.start("04_prepare", "tiny", 2024)
    (home / "2024").mkdir()
    run = studies.start("04_prepare", "tiny", 2024)
    assert run.cohort == "2024" and studies.cohort_key(2024) == run.data_dir.name


def test_manifest_says_what_made_a_folder(home):
    run = studies.start("05_train", "tiny", *MODEL, seed=5)
    inside, outside = run.home / "data" / "x.json", home.parent / "elsewhere.json"
    for path in (inside, outside):
        studies.write_json(path, {"a": 1})
    manifest = studies.read_json(run.write_manifest(run.run_dir, [inside, outside], "cpu"))
    assert manifest["settings"] == dict(run.settings)
    assert manifest["inputs"] == {
        "data/x.json": studies.file_hash(inside),
        "elsewhere.json": studies.file_hash(outside),
    }
    assert {"python", "perfnb", "torch"} <= set(manifest["versions"])
    assert manifest["seconds"] >= 0
    outside.unlink()


def test_require_trusts_a_folder_by_its_manifest(home):
    run = studies.start("05_train", "tiny", *MODEL)
    with pytest.raises(FileNotFoundError, match="is missing. Chapter 05_train makes it"):
        studies.require(run.run_dir, "05_train")
    run.run_dir.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="was left unfinished. Chapter 05_train makes it"):
        studies.require(run.run_dir, "05_train")
    run.write_manifest(run.run_dir)
    assert studies.require(run.run_dir, "05_train", run.settings) == run.run_dir
    with pytest.raises(ValueError, match="was made by 05_train, expected 04_prepare"):
        studies.require(run.run_dir, "04_prepare")
    other = studies.start("05_train", "tiny", *MODEL, seed=99).settings
    with pytest.raises(ValueError, match=r"other settings \(seed: found 12, expected 99\)"):
        studies.require(run.run_dir, "05_train", other)
    assert studies.require(run.run_dir, "05_train", other, ignore=("seed",))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"chapter": "05_train"}'])
def test_broken_manifest_counts_as_unfinished(home, content):
    (home / "manifest.json").write_text(content)
    with pytest.raises(FileNotFoundError, match="was left unfinished. Chapter 05_train makes it"):
        studies.require(home, "05_train", {"seed": 1})


def test_a_setting_that_only_one_side_has_is_named(home):
    run = studies.start("05_train", "tiny", *MODEL)
    run.write_manifest(home)
    with pytest.raises(ValueError, match="width: found no such setting, expected 3"):
        studies.require(home, "05_train", {**run.settings, "width": 3})


@pytest.mark.parametrize("name", ["x.json", "x.nii.gz", "x"])
def test_written_files_appear_whole_and_replace_the_old(home, name):
    path = home / "new" / name
    for text in ("first", "second"):
        with studies.write_atomic(path) as temporary:
            assert temporary.name.endswith("".join(path.suffixes))
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert os.listdir(path.parent) == [name]


def test_failure_while_writing_leaves_the_old_file_and_nothing_else(home):
    path = studies.write_json(home / "x.json", {"old": 1})
    with pytest.raises(ZeroDivisionError), studies.write_atomic(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert studies.read_json(path) == {"old": 1}
    assert os.listdir(home) == ["x.json"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("function", ["os.replace", "os.fsync", "pathlib.Path.write_text"])
def test_full_disk_and_read_only_folder_are_named_with_what_to_do(
    home, monkeypatch, code, function
):
    def refuse(*arguments, **options):
        raise OSError(code, os.strerror(code), "some/temporary/name")

    path = studies.write_json(home / "x.json", {"old": 1})
    monkeypatch.setattr(function, refuse)
    with pytest.raises(OSError, match="x.json could not be written .*set PERFNB_HOME") as caught:
        studies.write_json(path, {"new": 1})
    monkeypatch.undo()
    assert caught.value.errno == code
    assert studies.read_json(path) == {"old": 1}
    assert os.listdir(home) == ["x.json"]


def test_folder_that_is_a_file_is_named(home):
    (home / "data").write_text("not a folder")
    with pytest.raises(OSError, match="data/x.json could not be written .*set PERFNB_HOME"):
        studies.write_json(home / "data" / "x.json", {})


def test_error_of_another_kind_passes_unchanged(home):
    with pytest.raises(FileNotFoundError, match="other.txt"), studies.write_atomic(home / "x"):
        (home / "other.txt").read_text()


def test_run_shows_itself_as_a_table(home):
    run = studies.start("05_train", "tiny", *MODEL)
    shown = run._repr_html_()
    assert all(f"<th>{name}</th>" in shown for name in ("study", "map_name", "epochs", "perfnb"))
    assert json.dumps(dict(run.settings))


@pytest.fixture
def mine(home, monkeypatch):
    """Return a function that writes the study `mine` as `small` with each `(old, new)` replaced."""
    shutil.copytree(STUDIES, home / "workflow" / "studies")
    monkeypatch.chdir(home)

    def write(*changes: tuple[str, str], name: str = "mine") -> None:
        path = home / "workflow" / "studies" / "small.yml"
        text = path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path.with_stem(name).write_text(text)

    return write


def test_a_study_is_read_as_written_and_text_that_is_a_number_becomes_it(mine):
    for name in ("tiny", "small", "full", "paper"):
        assert studies.read_study(name) == yaml.safe_load((STUDIES / f"{name}.yml").read_text())
    mine(("threshold: 0.1", "threshold: {acute: 1e-1, chronic: 1, folder: 0.3}"),
         ("learning_rate: 5.0e-4", "learning_rate: 1e-4"), ("arrival_frame: 12", "arrival_frame:"),
         ("echo_time_s: null", "echo_time_s: 3e-2"))  # fmt: skip
    chapters = studies.read_study("mine")["chapters"]
    assert chapters["03_pix2pix"]["learning_rate"] == 1e-4
    prepare = chapters["04_prepare"]
    assert prepare["threshold"] == {"acute": 0.1, "chronic": 1, "folder": 0.3}
    assert prepare["arrival_frame"] is None and prepare["echo_time_s"] == 0.03


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    shifting: 1 ", "    #", "05_train: missing shifting; 06_finetune: missing shifting"),
        (
            "    epochs: 30",
            "    weight_decay: 0.1\n    epochs: 30",
            "05_train: unknown weight_decay",
        ),
        ("epochs: 30", "epochs: '30'", "05_train: epochs is '30', expected int of at least 0"),
        ("epochs: 30", "epochs: 2.5", "epochs is 2.5, expected int"),
        ("l1_weight: 1.0", "l1_weight: strong", "l1_weight is 'strong', expected float"),
        ("l1_weight: 1.0", "l1_weight: -1", "l1_weight is -1, expected float of at least 0"),
        ("l1_weight: 1.0", "l1_weight: .nan", "l1_weight is nan, expected float of at least 0"),
        ("mirroring: true", "mirroring: 1", "mirroring is 1, expected bool"),
        ("seed: 1", "seed: null", "01_bolus: seed is None, expected int"),
        ("acute: [32, 8, 10]", "acute: 32", "split is .*, expected a list such as .32, 8, 10."),
        (", folder: [0.7, 0.1, 0.2]", "", "split is .*, expected one value for each of"),
        ("matrix: 64", "matrix: 100", "matrix is 100, expected a multiple of 64, for six halvings"),
        ("frames: 80", "frames: 40", "frames is 40, expected 64 to 127, for six halvings"),
        ("maps: [CBF,", "maps: [cbf,", "matrix: maps is .*'cbf'.*, expected one of CBF"),
        (
            "  11_phantom:",
            "  11_phantoms:",
            "chapters: unknown 11_phantoms; chapters: missing 11_ph",
        ),
        ("  01_bolus:\n    seed: 1", "  01_bolus:", "01_bolus holds None, expected seed"),
        ("\nmatrix:", "\nx: &x 1\nmatrix:", "the file: unknown x"),
        ("\nmatrix:", "\n- matrix", "is not valid YAML: mapping"),
    ],
)
def test_a_study_with_other_keys_or_types_is_refused_with_its_section(mine, old, new, message):
    mine((old, new))
    with pytest.raises(ValueError, match=f"mine.yml .*{message}") as caught:
        studies.start("01_bolus", "mine")
    assert "\n" not in str(caught.value)


def test_every_fault_of_a_study_is_told_at_once_and_small_is_not_above_it(mine):
    changes = ("epochs: 30", "epoch: 30"), ("batch_size: 2", "batch_size: two")
    mine(*changes, name="small")
    told = "small.yml does not fit: 05_train: unknown epoch; 05_train: missing epochs; .*'two'"
    for name in ("small", "full"):
        with pytest.raises(ValueError, match=told):
            studies.read_study(name)


def test_an_empty_study_and_one_whose_name_has_a_space_say_what_to_do(mine, home):
    (home / "workflow/studies/mine.yml").write_text("")
    with pytest.raises(ValueError, match="the file holds None, expected matrix, chapters.*small"):
        studies.read_study("mine")
    mine(name="my study")
    with pytest.raises(ValueError, match="study='my study': rename .*my study.yml"):
        studies.read_study("my study")
