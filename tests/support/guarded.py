"""The bus as containers have it: redis/redis.conf and a user for each service."""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bus.access import acl_file, user_names
from tests.support.servers import READY_TIMEOUT_S
from tradebot.server_valkey import _binary

CONFIGURATION = Path(__file__).resolve().parents[2] / "redis/redis.conf"


@dataclass(frozen=True)
class GuardedBus:
    """A running server, and the passwords of its users."""

    port: int
    passwords: dict[str, str]

    def url(self, user: str) -> str:
        return f"redis://{user}:{self.passwords[user]}@127.0.0.1:{self.port}/0"


@contextmanager
def guarded_bus(folder: Path) -> Iterator[GuardedBus]:
    """Run the server of the compose file, but for its folders and its address; its data goes to `folder`."""
    port = free_port()
    passwords = {name: secrets.token_urlsafe(24) for name in user_names()}
    (folder / "redis_users.acl").write_text(acl_file(passwords))
    text = CONFIGURATION.read_text()
    ours = {"bind * -::*": "bind 127.0.0.1", "port 6379": f"port {port}", "dir /data": f"dir {folder}", "/run/secrets": str(folder)}
    for line, other in ours.items():
        assert line in text, line
        text = text.replace(line, other)
    (folder / "redis.conf").write_text(text)
    with (folder / "out").open("wb") as log:
        server = subprocess.Popen([_binary(), folder / "redis.conf"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not listens(port):
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError((folder / "out").read_text())
            time.sleep(0.01)
        yield GuardedBus(port, passwords)
    finally:
        server.kill()
        server.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
