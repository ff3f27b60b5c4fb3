"""Which port to use when the wanted one is taken."""

from __future__ import annotations

import errno
import socket
from collections.abc import Container

ATTEMPTS = 100


class NoFreePort(Exception):
    """Neither the wanted port nor the ones after it can be bound."""


def is_free(host: str, port: int) -> bool:
    """Whether a server could bind `port` now; another program may still be faster."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free_port(host: str, wanted: int, avoid: Container[int] = ()) -> int:
    """Return `wanted`, or the next free port after it that is not in `avoid`; 0 asks for any free port.

    Raises NoFreePort when 100 ports in a row are taken.
    """
    if wanted == 0:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    for port in range(wanted, min(wanted + ATTEMPTS, 65_536)):
        if (port == wanted or port not in avoid) and is_free(host, port):
            return port
    raise NoFreePort(f"{host}: ports {wanted} to {wanted + ATTEMPTS - 1} are all taken; set another port, or 0 for any free one")
