"""A connector of one account as a process of its own, to be killed: `python -m tests.fakes.connector_process HOME BUS_URL PORT ACCOUNT`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from runtime import crash_points
from runtime.service import ServiceError
from runtime.settings import Mode
from tests.fakes.trading_desk import Desk


@dataclass
class _Venue:
    """A FakeBinance in another process."""

    port: int

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_api_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws-api/v3"


async def main(home: str, url: str, port: str, account: str) -> int:
    crash_points.arm(Mode.SIMULATION)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    desk = Desk(home=Path(home), url=url, venue=_Venue(int(port)), account=account)
    try:
        await desk.run(stop)
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main(*sys.argv[1:5])))
