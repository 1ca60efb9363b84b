"""Kernels that start at once: forked from a process that has loaded the libraries.

``python perfnb/forkserver.py serve SOCKET PID`` loads torch, pandas, matplotlib and others: that
takes longer than many chapters need for their work. ``python perfnb/forkserver.py kernel SOCKET
MODULE ...`` stands in for ``python -m MODULE ...``: it asks the server for a fork that runs the
module. The fork ends with its stand-in, the server with the process that started it. Nothing of
`perfnb` is loaded ahead, so a kernel runs the code as it is now. Without a server the stand-in
becomes the kernel itself.

Only the standard library is imported here: the stand-in must cost next to nothing.
"""

import argparse
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from contextlib import suppress
from pathlib import Path

SOCKET = "PERFNB_FORKSERVER"  # environment variable: where the server listens
LIBRARIES = (
    *("torch", "torch._dynamo", "torch.utils.data", "pandas", "seaborn"),
    *("scipy.stats", "scipy.optimize", "scipy.ndimage", "skimage.metrics", "SimpleITK", "nibabel"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "IPython.core.interactiveshell"),
)
# Read once, while libraries load: a kernel that wants other values can't be forked.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
FIXED = (*THREADS, "PYTHONPATH", "PYTHONHASHSEED")
BACKEND = "MPLBACKEND", "module://matplotlib_inline.backend_inline"  # as a kernel sets it
POLL_S = 0.5
EXIT_SECONDS = 5.0
FORKED, REFUSED, DONE = b"+", b"-", b"."


def wanted() -> dict[str, object]:
    """Return what the server and a kernel must agree on."""
    same = {"python": sys.executable, "backend": os.environ.get(*BACKEND)}
    return same | {name: os.environ.get(name) for name in FIXED}


# The server


def serve(path: str, parent: int) -> None:
    """Answer at a socket until the process `parent`, which started this one, has ended.

    Forks return from here too, once their module has ended.
    """
    os.environ.setdefault(*BACKEND)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)  # who comes while libraries load waits
        for name in LIBRARIES:
            with suppress(ImportError):  # optional, or named otherwise in another version
                importlib.import_module(name)
        # pandas looks once, on import, whether it prints to a terminal; a kernel does not
        sys.modules["pandas"].set_option("display.max_columns", 20)
        while os.getppid() == parent:
            if select.select([listener], [], [], POLL_S)[0]:
                connection, _ = listener.accept()
                with connection:
                    order = _read_order(connection)
                    if order and _fork(connection, order, listener):
                        return
    with suppress(OSError):
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


def _read_order(connection: socket.socket) -> dict | None:
    """Return what a stand-in asks for, with its output's descriptors; None if it has gone."""
    connection.settimeout(10)
    try:
        head, outputs, _, _ = socket.recv_fds(connection, 4, 2)
        size = struct.unpack("!I", head)[0]
        text = b""
        while len(text) < size:
            part = connection.recv(size - len(text))
            if not part:
                return None
            text += part
    except (OSError, struct.error):
        return None
    connection.settimeout(None)
    return {**json.loads(text), "outputs": outputs}


def _fork(connection: socket.socket, order: dict, listener: socket.socket) -> bool:
    """Fork what was ordered, or refuse; return True in the fork, once its module has ended."""
    fits = order["wanted"] == wanted()
    forked = fits and os.fork() == 0
    if forked:
        listener.close()
        _become(connection, order)
        return True
    for output in order["outputs"]:
        os.close(output)
    if not fits:
        with suppress(OSError):
            connection.sendall(REFUSED)
    return False


def _become(connection: socket.socket, order: dict) -> None:
    """Turn this fork into the process that was ordered, and run its module to the end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the kernel's own children are waited for
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has none
    os.setsid()
    for output, standard in zip(order["outputs"], (1, 2), strict=True):
        os.dup2(output, standard)
        os.close(output)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"], JPY_PARENT_PID=str(os.getppid()))
    os.environ.pop(SOCKET, None)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # forks must not share what none of them has seeded
    ended = threading.Event()
    threading.Thread(target=_watch, args=(connection, ended), daemon=True).start()
    connection.sendall(FORKED + struct.pack("!I", os.getpid()))
    module, *sys.argv[1:] = order["arguments"]
    sys.path.insert(0, order["folder"])  # as `python -m` does
    status = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        if end.code:  # a failure: this process ends with it, and the stand-in hears no word
            raise
        status = 0
    finally:
        ended.set()
        _end_within(EXIT_SECONDS, status)
    with suppress(OSError):
        connection.sendall(DONE)


def _end_within(seconds: float, status: int) -> None:
    """End this process even if its exit hangs: ipykernel waits for threads that may never end."""
    last = threading.Timer(seconds, os._exit, (status,))
    last.daemon = True
    last.start()


def _watch(connection: socket.socket, ended: threading.Event) -> None:
    """End with the stand-in."""
    with suppress(OSError):
        connection.recv(1)
    if not ended.is_set():
        os._exit(143)


# The stand-in


def stand_in(path: str, arguments: list[str]) -> int:
    """Have a module run by a fork of the server and wait for its end; the exit status."""
    parent = os.getppid()
    fork, early = [], []

    def interrupt(*_) -> None:
        # From here, not from a thread of the fork: that gets its turn when the main thread is about
        # to wait, and a signal just before a wait does not end it.
        with suppress(ProcessLookupError):
            os.kill(fork[0], signal.SIGINT) if fork else early.append(True)

    with socket.socket(socket.AF_UNIX) as connection:
        before = signal.signal(signal.SIGINT, interrupt)
        number = _order(connection, path, arguments)
        if number is None:
            signal.signal(signal.SIGINT, before)
            os.execv(sys.executable, [sys.executable, "-m", *arguments])
        fork.append(number)
        if early:
            interrupt()
        while os.getppid() == parent:
            if select.select([connection], [], [], POLL_S)[0]:
                with suppress(ConnectionError):
                    return 0 if connection.recv(1) == DONE else 1
                return 1
    return 143


def _order(connection: socket.socket, path: str, arguments: list[str]) -> int | None:
    """Ask the server for a fork; return its process number, None where there is none."""
    order = {"wanted": wanted(), "arguments": arguments, "folder": os.getcwd()}
    text = json.dumps({**order, "environment": dict(os.environ)}).encode()
    try:
        connection.connect(path)
        socket.send_fds(connection, [struct.pack("!I", len(text))], [1, 2])
        connection.sendall(text)
        reply = connection.recv(5)
        return struct.unpack("!I", reply[1:])[0] if reply[:1] == FORKED else None
    except OSError:
        return None


def scratch_prefix() -> str:
    """Return how a temporary folder of this process begins, once those of dead ones are gone.

    Who is killed outright can't remove its own. Names tell the machine too: several may share
    the place.
    """
    told = [os.uname().nodename]
    with suppress(OSError):  # numbers of processes hold within one namespace
        told.append(str(os.stat("/proc/self/ns/pid").st_ino))
    here = f"perfnb-{zlib.crc32(' '.join(told).encode()) % 65536:04x}-"
    for folder in Path(tempfile.gettempdir()).glob(f"{here}*-*"):
        try:
            os.kill(int(folder.name.split("-")[2]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (PermissionError, ValueError, OverflowError):  # another user's, or none of ours
            continue
    return f"{here}{os.getpid()}-"


def start() -> subprocess.Popen | None:
    """Start a server beside this process, with which it ends, and let kernels find it.

    Returns None where there is none: forks of loaded libraries are sound on Linux, without a GPU.
    """
    if sys.platform != "linux":
        return None
    path = f"{tempfile.mkdtemp(prefix=scratch_prefix())}/kernels"
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    server = subprocess.Popen(
        [sys.executable, __file__, "serve", path, str(os.getpid())],
        **nowhere,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt at the terminal is not for it
    )
    os.environ[SOCKET] = path
    return server


def main() -> int:
    """Run the command line."""
    sys.path = [entry for entry in sys.path if entry != str(Path(__file__).parent)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["serve", "kernel"])
    parser.add_argument("socket")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.role == "kernel":
        return stand_in(options.socket, options.arguments)
    serve(options.socket, int(options.arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
