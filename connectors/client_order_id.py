"""One client order id per logical order, for ever: 32 lowercase hex characters that tell whose order it is.

One character for the mode, seven for this installation, 24 of the command's hash. The id follows from the command alone, so a
restart, a redelivery or an empty journal all arrive at the same one, and an order at the venue can be told from EXTERNAL ones
without any record. 32 hex characters are what every venue with client ids accepts.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from runtime.service import ServiceError
from runtime.settings import Mode

_HEX = frozenset("0123456789abcdef")
INSTALLATION_DIGITS = 7


def installation_id(home: Path) -> str:
    """The seven hex characters of this home directory, made once (file `installation`, 0600); raises ServiceError when damaged."""
    path = home / "installation"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".installation.{os.getpid()}.{secrets.token_hex(4)}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(4)[:INSTALLATION_DIGITS])
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # the first of several processes wins, and all read its value
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    text = path.read_text().strip()
    if len(text) != INSTALLATION_DIGITS or not _HEX.issuperset(text):
        raise ServiceError(f"{path} does not hold {INSTALLATION_DIGITS} hex characters; restore it: our orders are known by it")
    return text


class ClientOrderIds:
    """Makes and recognises the ids of one installation in one mode."""

    def __init__(self, mode: Mode, installation: str) -> None:
        self.prefix = mode.digit + installation

    def of(self, command_id: str) -> str:
        """The id of the order that a command asks for."""
        return self.prefix + hashlib.sha256(command_id.encode()).hexdigest()[:24]

    def is_ours(self, client_order_id: str) -> bool:
        """Whether an order at the venue carries an id of this installation and mode."""
        return len(client_order_id) == 32 and client_order_id.startswith(self.prefix) and _HEX.issuperset(client_order_id)
