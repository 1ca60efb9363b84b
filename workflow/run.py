"""Run a study through Snakemake; a run that was killed goes on with the same command.

``python workflow/run.py [--study small] [--cores 2] [what Snakemake takes: targets, -n, ...]``

One run at a time works in a folder: a second one waits for the first.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from perfnb import study as studies
from perfnb.files import explain_unwritable

SNAKEFILE = Path(__file__).resolve().parent / "Snakefile"
TRIGGERS = ("mtime", "params", "input")  # not the text of the Snakefile, not the environment


def command(study: str, cores: int, home: Path, gpus: int = 0) -> list[str]:
    """Return Snakemake's command line for a study whose files go to `home`."""
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    line += ["--config", f"study={study}", f"gpu={min(gpus, 1)}"]
    line += ["--resources", f"gpu={gpus}"] if gpus else []
    line += ["--rerun-incomplete", "--rerun-triggers", *TRIGGERS]
    line += ["--quiet", "host", "rules", "--show-failed-logs", "--scheduler", "greedy"]
    return [*line, "--directory", str(home), "--cores", str(cores)]  # targets may follow


def wait_for_turn(home: Path) -> None:
    """Hold the folder's lock until this process, which becomes Snakemake, ends."""
    path = home / ".snakemake" / "run.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"Another run works in {home}: waiting until it ends.", flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    os.set_inheritable(handle, True)


def count_gpus() -> int:
    """Count NVIDIA GPUs without loading torch."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; does not return once Snakemake has taken over the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="small")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--gpus", type=int, help="GPUs to share out (default: all there are)")
    options, more = parser.parse_known_args(arguments)
    try:
        studies.read_study(options.study)
        home = studies.home()
        with explain_unwritable(home):
            wait_for_turn(home)
    except (ValueError, OSError) as error:
        print(getattr(error, "strerror", None) or error, file=sys.stderr)
        return 2
    gpus = count_gpus() if options.gpus is None else options.gpus
    line = command(options.study, options.cores, home, gpus)
    shutil.rmtree(home / ".snakemake" / "locks", ignore_errors=True)  # of a run that was killed
    os.execv(line[0], [*line, *more])


if __name__ == "__main__":
    sys.exit(main())
