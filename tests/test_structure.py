"""The shape of the project: layers of imports, clean chapters, one list of dependencies."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from perfnb import parameters, study

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = sorted((ROOT / "perfnb").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CODE_LINES = {"03_pix2pix": 210}  # writes a network by hand
NEVER = {
    "an installation": r"^\s*[%!]\s*(pip|conda)|pip install",
    "a change of folder": r"\bchdir\b|^\s*%cd",
    "a wildcard import": r"^\s*from\s+\S+\s+import\s+\*",
    "an absolute path": r"""["'](/|[A-Z]:\\|~/)""",
}


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def cells(path: Path, kind: str) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == kind]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


def test_imports_go_down_the_layers():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("rule", [["check"], ["format", "--check"]], ids=" ".join)
def test_code_and_chapters_keep_the_style(rule):
    ruff = Path(sys.executable).with_name("ruff")
    done = subprocess.run([ruff, *rule, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_style_check_leaves_no_module_out():
    ruff = Path(sys.executable).with_name("ruff")
    done = subprocess.run(
        [ruff, "check", "--show-files", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert {str(path) for path in MODULES} <= set(done.stdout.splitlines())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_stay_short(path):
    assert len(path.read_text().splitlines()) <= 300, "split it: a module has about 250 lines"


def test_there_is_a_chapter_for_every_section_of_the_studies():
    names = {path.stem for path in NOTEBOOKS}
    for path in (ROOT / "workflow" / "studies").glob("*.yml"):
        assert set(study.read_study(path.stem)["chapters"]) == names, path


def test_notebook_is_stripped(notebook):
    content = read(notebook)
    assert set(content.metadata) <= {"kernelspec", "language_info"}
    for cell in content.cells:
        assert set(cell.metadata) <= {"tags", "mystnb", "editable"}
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_notebook_opens_with_title_and_promise_then_parameters_then_the_run(notebook):
    first, second, third = read(notebook).cells[:3]
    assert re.match(r"(\(.+\)=\n)?# \S", first.source)
    for promise in ("learn", "Time", "Needs", "Makes"):
        assert promise in first.source, f"{promise} is missing in the first cell"
    assert second.metadata.get("tags") == ["parameters"]
    assert "import" in third.source
    run = re.search(r"studies\.start\(\s*\"(\w+)\"", third.source)
    assert run and run[1] == notebook.stem


def test_notebook_parameters_are_typed_literals_with_help_and_start_with_the_study(notebook):
    known = parameters.read(notebook)
    assert next(iter(known)) == "study"
    assert known["study"].default == "small"
    for parameter in known.values():
        assert parameter.annotation, f"{parameter.name} has no type"
        assert parameter.help, f"{parameter.name} has no help"
        assert parameter.accepts(parameter.default), f"{parameter.name}: default of another type"


def test_notebook_ends_with_what_was_seen_exercises_and_next(notebook):
    headings = re.findall(r"^#+ (.+)$", "\n".join(cells(notebook, "markdown")), re.MULTILINE)
    positions = [
        next((i for i, heading in enumerate(headings) if heading.startswith(title)), None)
        for title in ("What we saw", "Exercise", "Next")
    ]
    assert None not in positions, headings
    assert positions == sorted(positions)


def test_notebook_keeps_to_its_budget(notebook):
    code = cells(notebook, "code")
    lines = [len([line for line in source.splitlines() if line.strip()]) for source in code]
    assert len(read(notebook).cells) <= 40
    assert max(lines) <= 25
    assert sum(lines) <= CODE_LINES.get(notebook.stem, 150)
    assert len(" ".join(cells(notebook, "markdown")).split()) <= 2000


def test_notebook_never_installs_or_moves(notebook):
    code = "\n".join(cells(notebook, "code"))
    for what, pattern in NEVER.items():
        assert not re.search(pattern, code, re.MULTILINE), f"{notebook.stem} has {what}"


def test_environment_names_no_package_that_could_drift_from_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *packages, pip = environment["dependencies"]
    assert {re.split("[=<>]", name)[0] for name in packages} == {"python", "pip", "make"}
    python = next(name for name in packages if name.startswith("python="))
    assert python.split("=")[1] in PROJECT["requires-python"]
    assert pip == {"pip": ["-e .[test]", "-c requirements.lock"]}


def test_lock_pins_every_dependency_to_a_version_that_the_project_accepts():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.]+", pin) for pin in pins), "only pins"
    locked = {canonicalize_name(name): version for name, version in (p.split("==") for p in pins)}
    assert len(locked) == len(pins)
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *extras["test"], *extras["cluster"]]:
        requirement = Requirement(text)
        version = locked.get(canonicalize_name(requirement.name))
        assert version and requirement.specifier.contains(version), text


def test_committed_text_names_no_place_of_one_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".png", ".svg", ".ico"} or not path.is_file():
            continue
        found = re.search(r"/(root|home/[a-z]+|tmp/w)/", path.read_text(errors="ignore"))
        assert found is None or path == Path(__file__), f"{name} names {found[0]}"


def test_a_job_does_not_load_a_grammar_that_no_notebook_needs():
    code = "import sys, perfnb.chapters; print(*(m in sys.modules for m in sys.argv[1:]))"
    told = [sys.executable, "-c", code, "rfc3987_syntax", "nbformat"]
    found = subprocess.run(told, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True"]
