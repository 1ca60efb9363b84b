"""Snakemake runs what is missing or stale, in order, and goes on after a failure or a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

import modules  # noqa: E402

ONE_MODEL = {"cohort": "acute", "map_name": "Tmax", "model_name": "pix2pix"}
SKETCHES = {
    "01_bolus": ({}, "results_dir / 'bolus'"),
    "02_deconvolution": ({}, "results_dir / 'deconvolution'"),
    "03_pix2pix": ({"cohort": "acute"}, "results_dir / 'pix2pix'"),
    "04_prepare": ({"cohort": "acute"}, "data_dir"),
    "05_train": ({**ONE_MODEL, "restart": False}, "run_dir"),
    "06_finetune": ({**ONE_MODEL, "init_from": "acute", "restart": False}, "run_dir"),
    "07_evaluate": (ONE_MODEL, "run_dir / 'evaluation'"),
    "08_compare": ({}, "results_dir"),
    "09_worst_cases": ({}, "results_dir / 'worst_cases'"),
    "10_no_aif": ({"cohort": "acute"}, "results_dir / 'no_aif'"),
    "11_phantom": ({}, "results_dir / 'phantom'"),
}
SKETCH = """import os, time
from pathlib import Path
from perfnb import study as studies
run = studies.start({chapter!r}, study{names})
folder = run.{folder}
folder.mkdir(parents=True, exist_ok=True)
with open(run.home / "order.txt", "a") as order:
    print({chapter!r}, run.cohort, os.environ["OMP_NUM_THREADS"], file=order)
if Path("slow").exists() and {chapter!r} == "05_train":
    (folder / "checkpoint").write_text(str(os.getpid()))
    time.sleep(120)
assert not Path("broken").exists() or {chapter!r} != "04_prepare", "the films do not fit"
run.write_manifest(folder)
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """Return a project with the real workflow, a study of one model, and chapters of one cell."""
    root = tmp_path / "my project"
    shutil.copytree(ROOT / "workflow", root / "workflow")
    (root / "perfnb").symlink_to(ROOT / "perfnb")
    (root / "notebooks").mkdir()
    for chapter, (parameters, folder) in SKETCHES.items():
        given = {"study": "small", **parameters}
        names = "".join(f", {n}={n}" for n in ONE_MODEL if n in given)
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        notebook.metadata["language_info"] = {"name": "python"}
        tagged = "\n".join(f"{name} = {value!r}" for name, value in given.items())
        body = SKETCH.format(chapter=chapter, names=names, folder=folder)
        notebook.cells = [
            nbformat.v4.new_code_cell(tagged, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(body),
        ]
        nbformat.write(notebook, root / "notebooks" / f"{chapter}.ipynb")
    change_study(root, matrix={"cohorts": ["acute", "chronic"], "maps": ["Tmax"],
                               "models": ["pix2pix"]})  # fmt: skip
    return root


def change_study(root: Path, **changes) -> None:
    path = root / "workflow" / "studies" / "tiny.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def order(root: Path) -> list[tuple[str, ...]]:
    """Return the chapters in the order in which they ran, and forget them."""
    path = root / "order.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [tuple(line.split()[:2]) for line in lines]


def test_chapters_run_once_in_order_and_again_only_when_they_are_stale(project, run_study):
    run_study(project, "chapters", root=project)
    threads = {line.split()[2] for line in (project / "order.txt").read_text().splitlines()}
    ran = order(project)
    assert threads == {"1"}
    assert len(ran) == len(set(ran)) == 13
    place = {job: index for index, job in enumerate(ran)}
    assert place["04_prepare", "acute"] < place["05_train", "acute"]
    assert place["05_train", "acute"] < place["06_finetune", "chronic"]
    assert place["06_finetune", "chronic"] < place["07_evaluate", "chronic"]
    assert place["08_compare", "None"] > max(place["07_evaluate", c] for c in ("acute", "chronic"))
    (project / "notebooks" / "04_prepare.ipynb").touch()  # as git does: same content
    assert "Nothing to be done" in run_study(project, "chapters", root=project).stdout
    chapters = yaml.safe_load((project / "workflow/studies/tiny.yml").read_text())["chapters"]
    chapters["06_finetune"]["epochs"] = 7
    change_study(project, chapters=chapters)
    run_study(project, "chapters", root=project)
    assert place["09_worst_cases", "None"] > place["08_compare", "None"]
    assert place["10_no_aif", "acute"] > place["05_train", "acute"]
    expected = {("06_finetune", "chronic"), ("07_evaluate", "chronic")}
    expected |= {("08_compare", "None"), ("09_worst_cases", "None")}
    assert set(order(project)) == expected
    manifest = json.loads((project / "runs/tiny/chronic/pix2pix-Tmax/manifest.json").read_text())
    assert manifest["settings"]["epochs"] == 7


def test_run_killed_in_training_keeps_its_checkpoint_and_goes_on(project, run_study):
    slow = project / "notebooks" / "slow"
    slow.touch()
    checkpoint = project / "runs/tiny/acute/pix2pix-Tmax/checkpoint"
    command = [sys.executable, "workflow/run.py", "--study", "tiny", "chapters"]
    environment = {**os.environ, "PERFNB_HOME": str(project)}
    process = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    end = time.monotonic() + 60
    while not (checkpoint.exists() and checkpoint.read_text()) and time.monotonic() < end:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    slow.unlink()
    first = order(project)
    run_study(project, "runs/tiny/acute/pix2pix-Tmax/manifest.json", root=project)
    second = order(project)
    assert ("05_train", "acute") in first and ("05_train", "acute") in second
    assert ("04_prepare", "acute") in first and ("04_prepare", "acute") not in second
    assert checkpoint.exists()
    assert not Path(f"/proc/{checkpoint.read_text()}").exists()


def test_failed_chapter_shows_its_error_and_log_and_the_run_goes_on_once_repaired(
    project, run_study
):
    broken = project / "notebooks" / "broken"
    broken.touch()
    target = "results/tiny/chapters/04_prepare--acute.ipynb"
    failed = run_study(project, target, root=project, check=False)
    assert failed.returncode == 1
    assert "AssertionError: the films do not fit" in failed.stdout
    log = project / "logs/tiny/04_prepare--acute.log"
    assert "the films do not fit" in log.read_text()
    assert log.with_suffix(".partial.ipynb").exists()
    assert not (project / target).exists()
    broken.unlink()
    order(project)
    run_study(project, target, root=project)
    assert order(project) == [("04_prepare", "acute")]
    assert (project / target).exists()


def test_unknown_study_is_refused_with_the_known_ones(run_study, tmp_path):
    done = run_study(tmp_path, study="huge", check=False)
    assert done.returncode == 2
    assert "study='huge' is unknown; known studies: full, paper, small, tiny" in done.stdout


def test_home_that_cannot_be_written_is_named_with_what_to_do(run_study, tmp_path):
    (tmp_path / "file").touch()
    done = run_study(tmp_path / "file", check=False)
    assert done.returncode == 2
    assert done.stdout.startswith(f"{tmp_path / 'file'} could not be written")
    assert "set PERFNB_HOME to another folder" in done.stdout


@pytest.mark.parametrize("study", ["small", "full", "paper"])
def test_every_study_has_a_plan_with_each_model_of_its_matrix(run_study, tmp_path, study):
    plan = run_study(tmp_path, "chapters", "-n", study=study).stdout
    matrix = yaml.safe_load((ROOT / "workflow/studies" / f"{study}.yml").read_text())["matrix"]
    models = len(matrix["cohorts"]) * len(matrix["maps"]) * len(matrix["models"])
    jobs = {words[0]: int(words[-1]) for line in plan.splitlines() if (words := line.split())
            and words[-1].isdigit() and len(words) == 2}  # fmt: skip
    assert jobs["evaluate"] == models
    trained = ("train", "train_temporal", "finetune", "finetune_temporal")
    assert sum(jobs.get(rule, 0) for rule in trained) == models


def write_package(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / "perfnb" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder in ("perfnb", "perfnb/models", "perfnb/data"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "__init__.py").write_text("")
    return root


def test_a_chapter_is_made_of_what_it_imports_all_the_way_down(tmp_path):
    write_package(
        tmp_path,
        maps="",
        study="from perfnb.maps import spec\nfrom perfnb import __version__",
        plots="from perfnb import maps",
        unused="",
        models__networks="from . import layers\nfrom .. import study",
        models__layers="import numpy",
        data__slices="def f():\n    import perfnb.maps",
    )
    notebook = nbformat.v4.new_notebook()
    code = "%matplotlib inline\nfrom perfnb import plots, study as s\n"
    code += "from perfnb.models.networks import Net"
    notebook.cells = [
        nbformat.v4.new_markdown_cell("import perfnb.unused"),
        nbformat.v4.new_code_cell(code),
    ]
    nbformat.write(notebook, tmp_path / "c.ipynb")
    found = modules.sources(tmp_path, tmp_path / "c.ipynb", without=["plots"])
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names[0] == "c.ipynb"
    assert names[1:] == [
        "perfnb/maps.py",
        "perfnb/models/layers.py",
        "perfnb/models/networks.py",
        "perfnb/study.py",
    ]
    assert tmp_path / "perfnb/plots.py" in modules.sources(tmp_path, tmp_path / "c.ipynb")


def test_tiny_study_gives_whole_tables_and_every_chapter(tiny_home):
    chapters = {path.stem for path in (tiny_home / "results/tiny/chapters").glob("*.ipynb")}
    assert len(chapters) == 4 + 2 + 4 + 4 + 8 + 3
    metrics = pd.read_csv(tiny_home / "results/tiny/metrics.csv")
    matrix = yaml.safe_load((ROOT / "workflow/studies/tiny.yml").read_text())["matrix"]
    for column, values in zip(("cohort", "map", "model"), matrix.values(), strict=True):
        assert set(values) <= set(metrics[column]), column
    measures = metrics.query("against == 'reference' and region == 'slice'")
    counts = measures.groupby(["cohort", "map", "model", "measure"]).size().unstack()
    assert {"MAE", "NRMSE", "SSIM", "PSNR"} <= set(counts.columns)
    assert counts.notna().all(axis=None)
    assert measures["value"].notna().all()


def test_complete_study_wants_nothing(tiny_home, run_study):
    assert "Nothing to be done" in run_study(tiny_home, "chapters", "-n").stdout


def test_one_core_gives_the_same_scores_as_two_to_the_last_digit(tiny_home, run_study, tmp_path):
    scores = [f"runs/tiny/acute/{model}-Tmax/evaluation" for model in ("pix2pix", "temp-pix2pix")]
    run_study(tmp_path, *[f"{folder}/manifest.json" for folder in scores], cores=1)
    for folder in scores:
        one, two = (home / folder / "metrics.csv" for home in (tmp_path, tiny_home))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("name", ["", "nothing", "../studies/small"])
def test_clean_removes_nothing_of_a_study_that_is_not_there(tmp_path, name):
    kept = tmp_path / "data" / "small" / "film.nii"
    kept.parent.mkdir(parents=True)
    kept.touch()
    make = ["make", "-f", str(ROOT / "Makefile"), "clean", f"STUDY={name}"]
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    environment = {**os.environ, "PERFNB_HOME": str(tmp_path)}
    told = subprocess.run(make, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert told.returncode and "nothing was removed" in told.stderr and kept.exists()
    done = subprocess.run([*make[:-1], "STUDY=small"], cwd=tmp_path, env=environment)
    assert done.returncode == 0 and not kept.exists()
