"""Run a study through Snakemake; a run that was killed goes on with the same command.

``python workflow/run.py [--study small] [--cores 2] [what Snakemake takes: targets, -n, ...]``
``python workflow/run.py --study full --cluster slurm [...]`` hands every job to a cluster.

One run at a time works in a folder: a second one waits for the first.
"""

import argparse
import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from perfnb import forkserver
from perfnb import study as studies
from perfnb.files import explain_unwritable

SNAKEFILE = Path(__file__).resolve().parent / "Snakefile"
PROFILES = SNAKEFILE.parent / "profiles"
JOBS = "perfnb"  # what the names of a cluster's jobs begin with; the profile says it too
TRIGGERS = ("mtime", "params", "input")  # not the text of the Snakefile, not the environment


def command(
    study: str, cores: int, home: Path, gpus: int = 0, profile: Path | None = None
) -> list[str]:
    """Return Snakemake's command line for a study whose files go to `home`.

    With a `profile` the jobs go to a cluster: the profile says how many at once, and with what.
    """
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    line += ["--rerun-incomplete", "--rerun-triggers", *TRIGGERS]
    line += ["--show-failed-logs", "--scheduler", "greedy", "--directory", str(home)]
    if profile is not None:  # a failed job says why only where jobs are announced
        line += ["--quiet", "host", "reason", "--config", f"study={study}"]
        return [*line, "--profile", str(profile)]
    line += ["--quiet", "host", "rules"]
    line += ["--config", f"study={study}", f"gpu={min(gpus, 1)}", f"slots={cores}"]
    line += [f"gpus={gpus}", "--resources", f"gpu={gpus}"] if gpus else []
    return [*line, "--cores", str(cores)]  # targets may follow


def find_profile(name: str) -> Path:
    """Return the folder of a cluster's profile: a name in workflow/profiles, or a path.

    Raises
    ------
    ValueError
        No such profile, no executor in it, or its plugin is not installed.
    """
    folder = next((f for f in (PROFILES / name, Path(name)) if (f / "config.yaml").is_file()), None)
    if folder is None:
        known = ", ".join(sorted(path.parent.name for path in PROFILES.glob("*/config.yaml")))
        raise ValueError(
            f"cluster={name!r} has no config.yaml; known: {known}, or give the path of a folder"
        )
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    executor = settings.get("executor") if isinstance(settings, dict) else None
    if executor is None:
        raise ValueError(f"{folder / 'config.yaml'} names no executor: give it executor: slurm")
    plugin = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
    if importlib.util.find_spec(plugin) is None:
        raise ValueError(
            f"cluster={name!r} needs {plugin.replace('_', '-')}: "
            'pip install -e ".[cluster]" -c requirements.lock'
        )
    return folder.resolve()


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


def list_jobs(home: Path) -> list[str]:
    """Return the cluster's jobs, by number, that a run in `home` has submitted."""
    line = ["squeue", "--me", "--noheader", "--format=%A %j %Z"]
    listed = subprocess.run(line, capture_output=True, text=True, check=False)
    jobs = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return [job for job, name, folder in jobs if name.startswith(JOBS) and Path(folder) == home]


def cancel_orphans(home: Path, patience_s: float = 60) -> None:
    """Cancel the cluster's jobs that a killed run has left behind in `home`; wait for their end.

    Two jobs must not write into one folder, and a new run would submit them once more.
    """
    left = list_jobs(home)
    if not left:
        return
    print(f"Cancelling {len(left)} jobs that an earlier run left behind.", flush=True)
    subprocess.run(["scancel", *left], check=False)
    end = time.monotonic() + patience_s
    while list_jobs(home) and time.monotonic() < end:
        time.sleep(1)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; does not return once Snakemake has taken over the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="small")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--gpus", type=int, help="GPUs to share out (default: all there are)")
    parser.add_argument("--cluster", help="a folder in workflow/profiles, or its path")
    options, more = parser.parse_known_args(arguments)
    try:
        studies.read_study(options.study)
        profile = find_profile(options.cluster) if options.cluster else None
        home = studies.home()
        with explain_unwritable(home):
            wait_for_turn(home)
    except (ValueError, OSError) as error:
        print(getattr(error, "strerror", None) or error, file=sys.stderr)
        return 2
    gpus = count_gpus() if options.gpus is None else options.gpus
    line = command(options.study, options.cores, home, gpus, profile)
    if profile is not None and shutil.which("squeue"):
        cancel_orphans(home)
    if profile is None and not count_gpus() and forkserver.SOCKET not in os.environ:
        os.environ.update(dict.fromkeys(forkserver.THREADS, "1"))  # as the Snakefile has it
        forkserver.start()
    shutil.rmtree(home / ".snakemake" / "locks", ignore_errors=True)  # of a run that was killed
    os.execv(line[0], [*line, *more])


if __name__ == "__main__":
    sys.exit(main())
