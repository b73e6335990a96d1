"""SIGTERM and Ctrl-C: the first lets a nearly finished epoch end and be kept, the second stops at once."""

import os
import signal
import sys
import threading


def postponed(number, frame):
    """Whether a module is being imported, so that the signal is sent again in a moment.

    An exception that falls into the start of a C extension crashes it or is lost: SIGTERM into the import of JAX ended in
    exit codes 0, 1 and -11.
    """
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    if frame is not None:
        send_again(number)
    return frame is not None


def send_again(number):
    """The signal comes once more in a moment."""
    again = threading.Timer(0.05, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def swallowed(report):
    """For `sys.unraisablehook`: Python drops what is raised in a finaliser or a callback of the garbage collector (JAX has
    one). Where that was the answer to a signal, the signal is sent again."""
    if report.exc_type is KeyboardInterrupt:
        send_again(signal.SIGINT)
    elif report.exc_type is SystemExit and report.exc_value.code == 128 + signal.SIGTERM:
        send_again(signal.SIGTERM)
    else:
        sys.__unraisablehook__(report)


def stop_at_once(number, frame=None):
    """Leave from wherever the program is; exit code 143 after SIGTERM, 130 after Ctrl-C."""
    if postponed(number, frame):
        return
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


class Interrupts:
    """While it is entered, a signal is answered by the state of the run; Python's own handlers come back afterwards.

    Args:
        grace: Seconds an epoch may still take after a signal; one that would take longer is given up at once, since the
            checkpoint before it leads to the same weights.
    """

    grace = 10.0

    def __init__(self):
        self.received, self.remaining, self.previous = None, None, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # the only one that may set handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self.previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error):
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if postponed(number, frame):
            return
        again, self.received = self.received is not None, number
        remaining = self.remaining() if self.remaining else None
        if again or remaining is None or remaining > self.grace:
            stop_at_once(number)
        # Not `print`: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this epoch and its checkpoint; a second signal stops at once\n")

    def epochs(self, remaining):
        """While `fit` runs: `remaining()` is the seconds to the end of the epoch, or `None` between epochs."""
        self.remaining = remaining

    def stop_if_asked(self):
        """At the end of an epoch that is kept."""
        if self.received is not None:
            stop_at_once(self.received)

    def ignore(self):
        """From now on the run is being closed, which takes seconds at most."""
        for number in self.previous:
            signal.signal(number, signal.SIG_IGN)
