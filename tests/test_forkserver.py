"""Kernels forked from a server are the kernels they stand for, only sooner."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from perfnb import chapters, forkserver

LOOK = """
import json, os, sys
ahead = sorted({name.split(".")[0] for name in sys.modules} & {"torch", "perfnb", "pandas"})
import matplotlib, pandas, torch
seen = {
    "folder": os.getcwd(), "arguments": sys.argv[1:2], "path": sys.path, "main": __name__,
    "backend": matplotlib.get_backend(), "threads": torch.get_num_threads(),
    "columns": pandas.get_option("display.max_columns"), "marked": os.environ.get("MARK"),
    "rows": pandas.get_option("display.max_rows"), "python": sys.executable,
    "signals": [str(__import__("signal").getsignal(n)) for n in (2, 15, 17)],
    "child": __import__("subprocess").run(["true"]).returncode,
    "dpi": matplotlib.rcParams["figure.dpi"],
}
print(json.dumps({"ahead": ahead, "seen": seen, "parent": os.getppid()}))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are made on Linux only")


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a chapter of one cell and runs it in a process of its own."""

    def run(source: str, **environment: str) -> dict:
        cell = nbformat.v4.new_code_cell("study: str = 'tiny'")
        cell.metadata.tags = ["parameters"]
        book = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell(source)])
        book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(book, tmp_path / "01_bolus.ipynb")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            chapters.run_chapter(tmp_path / "01_bolus.ipynb", tmp_path / "out.ipynb", {})
        executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
        return json.loads(executed.cells[-1].outputs[0].text)

    return run


def test_fork_differs_from_a_new_kernel_in_what_is_loaded_alone(write):
    forked, new = write(LOOK, MARK="x"), write(LOOK, MARK="x", PERFNB_FORKSERVER="")
    assert forked["seen"] == new["seen"]
    assert forked["seen"]["marked"] == "x"
    assert (forked["ahead"], new["ahead"]) == (["pandas", "torch"], [])
    assert forked["parent"] != new["parent"]


def test_without_a_server_or_with_other_threads_a_new_python_runs_the_chapter(write, tmp_path):
    assert write(LOOK, PERFNB_FORKSERVER=str(tmp_path / "gone"))["ahead"] == []
    other = write(LOOK, OMP_NUM_THREADS="2", MKL_NUM_THREADS="2")
    assert other["ahead"] == [] and other["seen"]["threads"] == 2
    assert write(LOOK, MPLBACKEND="agg")["seen"]["backend"] == "agg"


def test_fork_whose_exit_hangs_is_gone_soon(write):
    told = write("""
import atexit, json, os, time
atexit.register(time.sleep, 120)
print(json.dumps({"pid": os.getpid()}))
""")
    end = time.monotonic() + forkserver.EXIT_SECONDS + 10
    while Path(f"/proc/{told['pid']}").exists() and time.monotonic() < end:
        time.sleep(0.2)
    assert not Path(f"/proc/{told['pid']}").exists()


def test_forks_share_no_random_numbers(write):
    draw = "import json, numpy, random; print(json.dumps([numpy.random.rand(), random.random()]))"
    first, second = write(draw), write(draw)
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_interrupts_and_status_pass_through_the_stand_in(tmp_path):
    (tmp_path / "ends.py").write_text(
        "import time\ntry:\n    print('begun', flush=True)\n    any(map(time.sleep, [0.1] * 600))\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
    )
    (tmp_path / "dies.py").write_text("import os; os.kill(os.getpid(), 9)")
    (tmp_path / "fails.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "breaks.py").write_text("print(1 / 0)")
    line = [sys.executable, "-I", "-S", forkserver.__file__, "kernel"]
    line.append(os.environ[forkserver.SOCKET])
    stand_in = subprocess.Popen([*line, "ends"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert stand_in.stdout.readline() == "begun\n"
    stand_in.send_signal(signal.SIGINT)
    assert stand_in.communicate(timeout=20)[0] == "interrupted\n"
    assert stand_in.returncode == 0
    for module in ("dies", "fails", "breaks"):
        assert subprocess.run([*line, module], cwd=tmp_path, timeout=20).returncode == 1


def test_kernels_of_a_background_job_can_be_interrupted(tmp_path):
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"  # as a shell does
        "from perfnb import forkserver; "
        "server = forkserver.start(); line = [sys.executable, '-I', '-S', forkserver.__file__];"
        "place = os.environ[forkserver.SOCKET]; import time;"
        "any(os.path.exists(place) or time.sleep(0.1) for _ in range(600));"
        "line += ['kernel', place, 'waits'];"
        "import subprocess; told = subprocess.Popen(line, stdout=subprocess.PIPE, text=True);"
        "print(told.stdout.readline(), flush=True); told.send_signal(signal.SIGINT);"
        "print(told.communicate(timeout=20)[0])"
    )
    (tmp_path / "waits.py").write_text(
        "import time\ntry:\n    print('begun', flush=True)\n    any(map(time.sleep, [0.1] * 600))\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert found.stdout.split() == ["begun", "interrupted"], found.stderr


def test_server_ends_with_its_starter_and_leaves_no_socket(tmp_path):
    code = (
        "from perfnb import forkserver; import os;"
        "print(forkserver.start().pid, os.environ[forkserver.SOCKET], flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    starter = subprocess.Popen([sys.executable, "-c", code], **pipes, text=True)
    pid, place = starter.stdout.readline().split()
    starter.kill()
    starter.communicate()
    end = time.monotonic() + 60  # it may still be loading libraries
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.2)
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(place).parent.exists()


def test_folders_of_dead_processes_are_removed_and_those_of_living_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(forkserver.tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine = forkserver.scratch_prefix()
    kept = [mine + "a", mine.replace("perfnb-", "perfnb-elsewhere"), "perfnb-else"]
    left = mine.replace(f"-{os.getpid()}-", f"-{ended.pid}-") + "b"
    for name in (*kept, left):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kernels").touch()
    assert forkserver.scratch_prefix() == mine
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
