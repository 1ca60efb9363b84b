"""Which process runs a chapter's cells: a fork of a server that is ready, or a new Python."""

import os
import sys

from jupyter_client import AsyncKernelManager

from perfnb import forkserver


class Manager(AsyncKernelManager):
    """Starts kernels through the fork server where there is one: `perfnb.forkserver`."""

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command line; the stand-in's where it can stand for `python -m module`."""
        command = super().format_kernel_cmd(extra_arguments)
        place = os.environ.get(forkserver.SOCKET)
        python, flag, *rest = command
        if (
            not place
            or flag != "-m"
            or os.path.realpath(python) != os.path.realpath(sys.executable)
        ):
            return command
        # -I: neither the user's site nor the notebook's folder may change what it imports
        return [sys.executable, "-I", "-S", forkserver.__file__, "kernel", place, *rest]
