"""Ports of this machine that a command serves a page at."""

import socket

from apps.common.errors import UserError

LOOPBACK = "127.0.0.1"


def refuse_taken(port):
    """Raises a `UserError` where a port of the loopback is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            raise UserError(f"--port {port}: in use already; choose another with --port") from None
