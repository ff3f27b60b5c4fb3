"""Words to all processes from the command line, and a publisher for whatever one command has to say."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import AsyncIterator

from bus.connection import Connection
from bus.errors import BusUnavailable
from bus.publisher import StreamPublisher
from bus.streams import Streams
from common_models import Control, ControlAction
from runtime.clock import now_ns
from runtime.endpoints import bus_url
from runtime.settings import Settings

ACTOR_LENGTH = 64


async def send_control(settings: Settings, action: ControlAction, reason: str, target: str | None = None) -> Control:
    """Publish one word; raises NotRunning or BusUnavailable when it was not taken."""
    message = Control(action=action, actor=actor(), reason=reason, created_at_ns=now_ns(), target=target)
    async with one_publisher(settings) as publisher:
        publisher.put(Streams(settings.mode.value).control, message)
    return message


@contextlib.asynccontextmanager
async def one_publisher(settings: Settings) -> AsyncIterator[StreamPublisher]:
    """A publisher for one short command; raises BusUnavailable when there is no bus, or when it did not acknowledge."""
    url = bus_url(settings)
    (await Connection.open(url)).close()  # the publisher itself would wait for the bus
    publisher = StreamPublisher(url, "cli")
    await publisher.start()
    try:
        yield publisher
    finally:
        left = await publisher.close()
    if left:
        raise BusUnavailable(f"{left} messages were not acknowledged")


def actor() -> str:
    """Who gives the command, as far as the machine knows."""
    try:
        return getpass.getuser()[:ACTOR_LENGTH]
    except (KeyError, OSError):
        return "unknown"
