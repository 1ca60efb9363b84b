"""Files that appear whole or not at all, by one writer, and a plain word where a disk is full."""

import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_SECONDS = 120
UNWRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
)


@contextmanager
def explain_unwritable(path: Path) -> Iterator[None]:
    """Turn the error of a full disk or a read-only folder into one that says what to do.

    Raises
    ------
    OSError
        Names `path`; errors of another kind pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE or "PERFNB_HOME" in str(error):
            raise
        raise OSError(
            error.errno,
            f"{path} could not be written ({os.strerror(error.errno)}): free some space, allow "
            "writing there, or set PERFNB_HOME to another folder",
        ) from error


@contextmanager
def write_atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it on success and removed on failure."""
    path = Path(path)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".nii.gz") else path.suffix
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial{suffix}")
    with explain_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Let a rename outlast a power cut, where folders can be opened (not on Windows)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
                raise
        finally:
            os.close(handle)


def reserve(path: Path) -> None:
    """Claim the disk space of a sparse file; a full disk otherwise kills whoever maps it."""
    if hasattr(os, "posix_fallocate"):
        with explain_unwritable(path), open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def hold(folder: Path, again: bool = False) -> FileLock:
    """Make a folder and take its lock: two runs must not write into one folder.

    It is free after `release(force=True)`, or with this process's end. With `again`, a process
    that holds it already gets it at once: a notebook may run a second time.

    Raises
    ------
    TimeoutError
        Another run still holds it after LOCK_SECONDS.
    """
    with explain_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=LOCK_SECONDS, is_singleton=again)
        try:
            lock.acquire()
        except Timeout as error:
            raise TimeoutError(
                f"another run has been working in {folder} for {LOCK_SECONDS} s: wait until it "
                "ends, or end it"
            ) from error
    return lock


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder's lock (`hold`), and remove what a killed run left half written."""
    lock = hold(folder)
    try:
        for left in folder.glob(".*.partial*"):  # by a run that was killed while it wrote
            left.unlink()
        yield
    finally:
        lock.release()


def end_with(parent: int) -> None:
    """End this process, and with a chapter its kernel, within a second of its parent's end.

    A killed workflow or launcher must not leave processes behind that go on writing.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(143)

    threading.Thread(target=watch, daemon=True).start()


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of each file in a folder."""
    found = ((path.name, path.stat()) for path in sorted(Path(folder).iterdir()))
    return {name: (known.st_size, known.st_mtime_ns) for name, known in found}


def refuse_changed(folder: Path, before: Mapping[str, tuple[int, int]]) -> None:
    """Raise ValueError if a file of a folder is no longer what `stamps` found."""
    now = stamps(folder) if Path(folder).is_dir() else {}
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        raise ValueError(
            f"{', '.join(changed[:3])} in {folder} changed while a run was reading: what it had "
            "kept before stays; run it again when the files are complete"
        )


def write_json(path: Path, content: Mapping | str) -> Path:
    """Write a mapping as JSON, whole or not at all."""
    with write_atomic(path) as temporary:
        temporary.write_text(
            json.dumps(content if isinstance(content, str) else dict(content), indent=1) + "\n"
        )
    return Path(path)


def read_json(path: Path) -> dict:
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_table(path: Path, **types: type):
    """Read a CSV file as a DataFrame whose column `patient` is text, were it "NA" or "007".

    `types` are those of other columns. pandas takes "NA", "nan", "null" and "None" for a missing
    value whatever the type or converter, hence the second look.
    """
    import pandas as pd  # late, as not every process needs it

    table = pd.read_csv(path, dtype=types)
    if "patient" in table:
        names = pd.read_csv(path, usecols=["patient"], dtype=str, keep_default_na=False)
        table["patient"] = names["patient"]
    return table
