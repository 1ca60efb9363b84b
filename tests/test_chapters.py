"""A chapter runs with known parameters only, and its output appears whole or not at all."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest

from perfnb import chapters, forkserver, parameters

PARAMETERS = """study: str = "small"  # tiny or small: a = b
cohort: str = "acute"  # acute, chronic or a folder
epochs: int | None = None  # passes over the slices
rate: float = 1e-4  # learning rate
restart: bool = False  # start over
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a chapter of one parameters cell and code cells."""

    def write_chapter(*cells: str, cell: str = PARAMETERS) -> Path:
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        notebook.metadata["language_info"] = {"name": "python"}
        tagged = nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]})
        notebook.cells = [tagged, *map(nbformat.v4.new_code_cell, cells)]
        path = tmp_path / "05_train.ipynb"
        nbformat.write(notebook, path)
        return path

    return write_chapter


def test_parameters_are_read_with_type_default_and_help(write):
    known = parameters.read(write())
    assert list(known) == ["study", "cohort", "epochs", "rate", "restart"]
    assert known["study"].default == "small"
    assert known["study"].help == "tiny or small: a = b"
    assert known["epochs"].annotation == "int | None"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "3", 3),
        ("epochs", "null", None),
        ("rate", "1e-3", 1e-3),
        ("rate", "1", 1),
        ("restart", "True", True),
        ("restart", "false", False),
        ("cohort", "2024", "2024"),
        ("cohort", "no", "no"),
        ("cohort", "films of May/", "films of May/"),
    ],
)
def test_values_are_read_as_literals_of_the_parameters_type(write, name, text, value):
    known = parameters.read(write())
    read = parameters.check("05_train", known, {name: text})[name]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", "ten"), ("epochs", "1.5"), ("epochs", "true"), ("rate", "fast"), ("restart", "2"),
     ("rate", None), ("study", 3)],
)  # fmt: skip
def test_value_of_wrong_type_is_refused_with_the_expected_type(write, name, value):
    known = parameters.read(write())
    with pytest.raises(
        ValueError, match=rf"parameter {name} = .*expected {known[name].annotation}"
    ):
        parameters.check("05_train", known, {name: value})


def test_none_is_accepted_where_it_is_the_default_whatever_the_annotation(write):
    known = parameters.read(write(cell="seed: int = None  # seed\nfree = None"))
    assert parameters.check("c", known, {"seed": "null", "free": "7"}) == {
        "seed": None,
        "free": 7,
    }


@pytest.mark.parametrize(
    ("line", "accepted", "refused"),
    [
        ("x: int = 1", [0, -3], [None, True, 1.5, "1"]),
        ("x: float = 1", [1, 1.5], [None, False, "1"]),
        ("x: bool = True", [False], [None, 1, "yes"]),
        ("x: bool | int = 1", [True, 3], [None, 1.5]),
        ("x: 'int | None' = 1", [None, 2], [True, "2"]),
        ("x: Optional[float] = 1.0", [None, 2], [True, "2"]),
        ("x: list[int] = []", [[], ["a"]], [None, (1,), {}]),
        ("x: dict | str = ''", [{}, "a"], [None, 1]),
        ("x: Path = ''", ["a", 1, True], [None]),
        ("x = 1.0", [1], [None, True, "1"]),
        ("x = None", [None, 1, True, "a"], []),
    ],
)
def test_an_annotation_or_else_the_default_says_which_values_fit(write, line, accepted, refused):
    known = parameters.read(write(cell=line))["x"]
    assert all(known.accepts(value) for value in accepted)
    assert not any(known.accepts(value) for value in refused)


def test_unknown_parameter_is_refused_before_anything_runs(write, tmp_path, capsys):
    notebook = write("open('ran', 'w')")
    output = tmp_path / "out" / "done.ipynb"
    assert chapters.main(["run", str(notebook), str(output), "-p", "map", "Tmax"]) == 2
    message = capsys.readouterr().err
    assert "05_train has no parameter map" in message
    assert all(f"  {name}:" in message for name in parameters.read(notebook))
    assert "passes over the slices" in message
    assert not output.parent.exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cell", ["epochs = 2 * 3", "a, b = 1, 2", "import os"])
def test_parameters_cell_of_anything_but_literals_is_refused(write, cell):
    with pytest.raises(ValueError, match="is not 'name = literal'"):
        parameters.read(write(cell=cell))


def test_missing_unreadable_and_untagged_notebooks_are_named(tmp_path):
    broken, untagged = tmp_path / "broken.ipynb", tmp_path / "untagged.ipynb"
    broken.write_text("{")
    nbformat.write(nbformat.v4.new_notebook(), untagged)
    with pytest.raises(FileNotFoundError, match="absent.ipynb is missing"):
        parameters.read(tmp_path / "absent.ipynb")
    with pytest.raises(ValueError, match="broken.ipynb is not a Jupyter notebook"):
        parameters.read(broken)
    with pytest.raises(ValueError, match="has 0 cells tagged 'parameters'"):
        parameters.read(untagged)


def test_chapter_runs_in_its_own_folder_with_the_given_values(write, tmp_path):
    notebook = write("open(f'ran-{epochs + 1}', 'w').close(); print('seen in the log')")
    output, log = tmp_path / "results {x}" / "05.ipynb", tmp_path / "logs" / "05.log"
    seconds = chapters.run_chapter(notebook, output, {"epochs": 4}, log)
    assert (tmp_path / "ran-5").exists()
    assert "seen in the log" in log.read_text()
    assert 0 < seconds < 60
    executed = nbformat.read(output, as_version=4)
    assert executed.cells[-1].outputs[0].text == "seen in the log\n"
    assert str(tmp_path) not in executed.metadata.papermill.input_path
    assert {p.name for p in (*output.parent.iterdir(), *log.parent.iterdir())} == {
        "05.ipynb",
        "05.log",
    }


def test_failed_chapter_leaves_old_output_and_ends_with_the_cells_error(write, tmp_path, capsys):
    notebook = write("print('first')", "raise ValueError('data/x is missing:\\nrun 04_prepare')")
    output, log = tmp_path / "05.ipynb", tmp_path / "logs" / "05.log"
    output.write_text("an earlier result")
    assert chapters.main(["run", str(notebook), str(output), "--log", str(log)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1] == "ValueError: data/x is missing: run 04_prepare"
    assert output.read_text() == "an earlier result"
    partial = log.with_suffix(".partial.ipynb")
    assert any(str(partial) in line for line in lines)
    assert "first" in partial.read_text()
    assert "\x1b[" not in log.read_text()


def test_dead_kernel_is_a_failed_chapter(write, tmp_path):
    notebook = write("import os; os._exit(9)")
    with pytest.raises(chapters.ChapterError, match="DeadKernelError"):
        chapters.run_chapter(notebook, tmp_path / "out.ipynb", {})
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize("place", ["log", "output"])
def test_folder_that_cannot_be_written_is_named_with_what_to_do(write, tmp_path, capsys, place):
    (tmp_path / "file").write_text("not a folder")
    paths = {"log": tmp_path / "05.log", "output": tmp_path / "05.ipynb"}
    paths[place] = tmp_path / "file" / paths[place].name
    command = ["run", str(write()), str(paths["output"]), "--log", str(paths["log"])]
    assert chapters.main(command) == 1
    message = capsys.readouterr().err
    assert str(tmp_path / "file") in message
    assert "set PERFNB_HOME" in message


def wait_until(condition, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc to look at processes")
@pytest.mark.parametrize("server", ["", None], ids=["new Python", "fork"])
def test_kernel_ends_with_a_killed_runner_and_the_runner_with_its_parent(write, tmp_path, server):
    notebook = write(
        "import os, time; open('kernel', 'w').write(f'{os.getpid()} ')", "time.sleep(99)"
    )
    run = f"{sys.executable} -m perfnb.chapters run --end-with-parent {notebook} {tmp_path}/o.ipynb"
    environment = {**os.environ, **({} if server is None else {forkserver.SOCKET: server})}
    shell = subprocess.Popen(
        ["sh", "-c", f"{run}; true"], stderr=subprocess.DEVNULL, env=environment
    )
    started = tmp_path / "kernel"
    assert wait_until(lambda: started.exists() and started.read_text().endswith(" "))
    runner = int(Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text())
    kernel = int(started.read_text())
    assert is_alive(runner) and is_alive(kernel)
    os.kill(shell.pid, signal.SIGKILL)
    shell.wait()
    assert wait_until(lambda: not is_alive(runner) and not is_alive(kernel), 10)
    assert not (tmp_path / "o.ipynb").exists()


def test_no_more_chapters_run_at_once_than_there_are_slots(tmp_path):
    folder = str(tmp_path / "slots")
    running, most = [], []

    def work() -> None:
        with chapters._slot("2", folder):
            running.append(1)
            most.append(len(running))
            time.sleep(0.3)
            running.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 5 and max(most) == 2


@pytest.mark.parametrize(("visible", "expected"), [(None, {"0", "1"}), ("4,7", {"4", "7"})])
def test_two_trainings_see_a_gpu_each(tmp_path, monkeypatch, visible, expected):
    seen = set()
    with chapters._slot("2", str(tmp_path)) as one, chapters._slot("2", str(tmp_path)) as other:
        for gpu in (one, other):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
            chapters._show_only(gpu)
            seen.add(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == expected


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("study", "huge", "known studies: full, paper, small, tiny"),
        ("cohort", "subacute", "expected acute, chronic or an existing folder"),
        ("map_name", "Tmin", "known maps: CBF, CBV, MTT, Tmax, TTP"),
        ("model_name", "cyclegan", "known: pix2pix, temp-pix2pix"),
    ],
)
def test_unknown_names_are_refused_before_anything_starts(tmp_path, name, value, known):
    chapter = Path(__file__).parents[1] / "notebooks" / "05_train.ipynb"
    with pytest.raises(ValueError, match=f"{name}='{value}' is unknown.*{known}"):
        chapters.run_chapter(chapter, tmp_path / "out.ipynb", {name: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("given", "seen"), [("acute", "acute"), ("./acute", "/acute"),
                                             ("films", "/films")])  # fmt: skip
def test_a_folder_called_like_a_simulated_cohort_does_not_take_its_place(
    tmp_path, monkeypatch, given, seen
):
    for name in ("acute", "films"):
        (tmp_path / name).mkdir()
    told = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chapters, "run_chapter", lambda *named: told.update(named[2]) or 0.0)
    assert chapters.main(["run", "in.ipynb", "out.ipynb", "-p", "cohort", given]) == 0
    assert told["cohort"] == (f"{tmp_path.resolve()}{seen}" if "/" in seen else seen)


def test_help_keeps_the_usage_on_a_line_and_explains_every_option(capsys):
    for command in ([], ["run"]):
        with pytest.raises(SystemExit, match="0"):
            chapters.main([*command, "--help"])
    told = capsys.readouterr().out
    usage = "python -m perfnb.chapters run NOTEBOOK OUTPUT [-p NAME VALUE]... [--log FILE]"
    assert usage in told.splitlines()
    assert re.search(r"^  notebook +\w", told, re.MULTILINE)
    assert re.search(r"^  -p NAME VALUE +\w", told, re.MULTILINE)
