"""Past candles from the history when the bus does not have enough of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from bot.data_provider import DataProvider
from common_models import Candle
from runtime.backoff import Backoff
from runtime.endpoints import NotRunning, postgres_url
from runtime.settings import Settings
from strategy import Market

log = structlog.get_logger(__name__)

FIRST_LOOK_S = 2.0
"""The connector publishes past candles at its start: the history is asked only for what is then still missing."""


async def keep_warm(
    settings: Settings, provider: DataProvider, cold: Callable[[], set[Market]], bars: Callable[[], int], stop: asyncio.Event
) -> None:
    """While plugins lack candles of `cold` markets, now and then ask the history for the newest `bars`, until `stop` is set.

    A history that is away costs nothing but the wait: candles that close from now on warm the plugins up as well.
    """
    backoff = Backoff(first_s=FIRST_LOOK_S, cap_s=60.0, stable_s=600.0)
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), backoff.next_s())
        except TimeoutError:
            pass
        else:
            return
        for market in cold():
            candles = await past_candles(settings, market, bars())
            if candles:
                provider.add_history(market, candles)
                log.info("bot.history_read", symbol=market.symbol, candles=len(candles), run=provider.run_length(market))


async def past_candles(settings: Settings, market: Market, limit: int) -> list[Candle]:
    """The newest closed candles of a market that the history has; none when it cannot be asked, which is logged."""
    import asyncpg

    from postgres.pool import Link
    from postgres.queries import recent_candles
    from postgres.schema import SchemaError

    link = Link(lambda: postgres_url(settings), settings.mode.value, settings.postgres)
    try:
        return await link.run(lambda source: recent_candles(source, *market, settings.bot.timeframe, limit))
    except (NotRunning, SchemaError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        log.info("bot.no_history", symbol=market.symbol, reason=str(error) or type(error).__name__)
        return []
    finally:
        link.drop()
