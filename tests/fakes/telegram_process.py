"""Our Telegram side as a process of its own, to be killed: `python -m tests.fakes.telegram_process SETTINGS_JSON`."""

from __future__ import annotations

import asyncio
import signal
import sys

from alerts.telegram.service import open_telegram
from bus.publisher import StreamPublisher
from runtime import crash_points
from runtime.endpoints import bus_url
from runtime.health import Health
from runtime.settings import Settings
from tests.support.telegram_bot import OneAlert


async def main(settings: Settings) -> None:
    crash_points.arm(settings.mode)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    publisher = StreamPublisher(bus_url(settings), "alerts")
    await publisher.start()
    telegram = open_telegram(settings, publisher, OneAlert(), Health("alerts"))
    assert telegram is not None
    await telegram.run(stop)
    await telegram.close()
    await publisher.close()


if __name__ == "__main__":
    asyncio.run(main(Settings.model_validate_json(sys.argv[1])))
