"""Where a chief can be reached: `HOST:PORT`, checked before a backend is imported."""

import os
import socket
import time

from apps.common.errors import UserError

ANSWER = 10.0  # seconds in which a chief must answer
RENEWED = "TRIPTYCH_TRIALS"  # in the environment of a worker that began anew: the trials it had run


def address(text, flag):
    """`(host, port)` of `HOST:PORT`, or of `PORT` on this machine alone."""
    host, _, port = str(text).rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"--{flag} {text}: expected HOST:PORT with a port from 1 to 65535, such as 127.0.0.1:5300")
    return host or "127.0.0.1", int(port)


def no_chief(where):
    return f"--join {where}: no chief answers there within {ANSWER:.0f} s; start it first, with --chief {where}"


def wait_for(place):
    """Refuse a chief's address at which nothing listens."""
    deadline = time.monotonic() + ANSWER
    while True:
        try:
            socket.create_connection(place, timeout=ANSWER).close()
            return place
        except OSError:
            if RENEWED in os.environ:
                return place
            if time.monotonic() > deadline:
                raise UserError(no_chief(f"{place[0]}:{place[1]}")) from None
            time.sleep(0.2)


def free(place):
    """Refuse an address of our own at which something listens already, or which is not ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as error:
            where = f"{place[0]}:{place[1]}"
            raise UserError(f"--chief {where}: cannot be bound ({error.strerror or error}); choose another port") from None
    return place
