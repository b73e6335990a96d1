"""A process that has grown over its work gives way to a fresh one, which goes on with the same command."""

import os
import sys


class Grown(Exception):
    """Enough is compiled and traced in this process; the state of its work is on the disk."""


def renew():
    """Become a fresh process with the same command, on the backend that runs; number, terminal and parent stay."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.closerange(3, 65536)  # an accelerator that stayed open would keep its memory
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "--backend", os.environ["KERAS_BACKEND"]])
