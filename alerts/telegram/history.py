"""Questions to PostgreSQL for people who wait for an answer: one at a time, each bounded, and a plain word when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog

from postgres.pool import Link
from postgres.schema import SchemaError
from runtime.endpoints import NotRunning, postgres_url
from runtime.settings import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

STATEMENT_S = 5.0
ANSWER_S = 12.0


class HistoryAway(Exception):
    """The history did not answer; the text says so to a person, without an address."""


class History:
    """The history of one mode. The connection is opened when first needed and after each failure."""

    def __init__(self, settings: Settings) -> None:
        limits = settings.postgres.model_copy(
            update={"statement_timeout_s": min(STATEMENT_S, settings.postgres.statement_timeout_s)}
        )
        self._link = Link(lambda: postgres_url(settings), settings.mode.value, limits)
        self._turn = asyncio.Lock()
        self._away = False

    async def ask(self, question: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """The answer; raises HistoryAway when the database is away, too slow, or not of this version."""
        try:
            async with asyncio.timeout(ANSWER_S), self._turn:
                answer = await self._link.run(question)
        except TimeoutError:
            raise HistoryAway(f"the history did not answer within {ANSWER_S:.0f} s") from None
        except SchemaError as error:
            raise HistoryAway(f"the history is not of this version: {error}") from error
        except (NotRunning, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if not self._away:
                log.warning("telegram.history_away", reason=str(error) or type(error).__name__)
            self._away = True
            raise HistoryAway("the history is not reachable") from error
        self._away = False
        return answer

    def close(self) -> None:
        """Give the connection back."""
        self._link.drop()
