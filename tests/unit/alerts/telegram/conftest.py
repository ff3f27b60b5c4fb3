"""A local Bot API server, and our bot talking to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.telegram_bot import Chat, bot, settings_for
from tests.support.telegram_server import BotApiServer


@pytest.fixture
async def server() -> AsyncIterator[BotApiServer]:
    async with BotApiServer().running() as running:
        yield running


@pytest.fixture
async def chat(server: BotApiServer, tmp_path: Path) -> AsyncIterator[Chat]:
    async with bot(server, settings_for(tmp_path, server)) as running:
        yield running
