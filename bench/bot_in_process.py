"""The bot with its plugins in its own process: what the process of each plugin costs is the difference to the real one."""

from __future__ import annotations

import sys

from bot.event_loop import NAME, trade
from bot.isolation.in_process import InProcessWorkers
from runtime.service import Service, run_service
from runtime.settings_loader import load_settings


async def main(service: Service) -> None:
    await trade(service, InProcessWorkers())


if __name__ == "__main__":
    settings = load_settings()
    sys.exit(run_service(NAME, settings, settings.bot.port, main))
