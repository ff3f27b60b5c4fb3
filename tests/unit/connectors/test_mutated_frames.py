"""The frame fuzz that needs no recorded data: thousands of broken frames, and what comes out is what the frames say or nothing.

The large one, on a real recording, is tests/replay/test_fuzzed_frames.py.
"""

from __future__ import annotations

import json
import random
import time
from decimal import Decimal
from typing import Any

from common_models import AggregateTrade, Candle, DayStats, OrderBook, Ticker, Trade
from connectors.exchanges.binance.depth import DepthChannel
from connectors.exchanges.binance.wire import MAX_FRAME_BYTES
from tests.support.market import (
    RECV_NS,
    T0_MS,
    Published,
    agg_trade,
    book_ticker,
    combined,
    day_stats,
    depth,
    kline,
    snapshot,
    trade,
)
from tests.support.mutations import mutate

SEED = 20_261_121
FRAMES = 12_000
MAX_CPU_S = 0.050
KINDS = ("@trade", "@aggTrade", "@bookTicker", "@ticker", "@depth@100ms", "@kline_1m")
MINUTE_MS = 60_000


def whole(number: int) -> list[bytes]:
    """One good frame of each kind; the numbers go on."""
    opened_ms = T0_MS - T0_MS % MINUTE_MS + number * MINUTE_MS
    return [
        trade(number),
        agg_trade(number, number, number),
        book_ticker(number),
        day_stats(),
        depth(number, number, [["100.1", str(number)]], [["100.2", "1.5"], ["100.3", "0"]]),
        kline(opened_ms, closed=True),
    ]


def numbers_of(event: Any) -> list[Decimal]:
    values = [getattr(event, name) for name in event.__struct_fields__]
    levels = [*event.bids, *event.asks] if isinstance(event, OrderBook) else []
    return [value for value in (*values, *(part for level in levels for part in level)) if isinstance(value, Decimal)]


def test_thousands_of_broken_frames_crash_nothing_cost_little_and_invent_nothing() -> None:
    rng, published = random.Random(SEED), Published()
    decoder = published.decoder(*KINDS)
    book = next(channel for channel in decoder.channels.values() if isinstance(channel, DepthChannel))
    slowest_s = 0.0
    for number in range(1, FRAMES // len(KINDS)):
        for frame in whole(number):
            if not book.live:
                book._buffer.clear()
                assert book.on_snapshot(snapshot(number - 1, [["100.1", "1"]], [["100.3", "1"]]), RECV_NS)
            broken = mutate(frame, rng)
            before_s = time.thread_time()
            decoder.on_frame(broken, RECV_NS)
            slowest_s = max(slowest_s, time.thread_time() - before_s)
    assert slowest_s < MAX_CPU_S
    assert decoder.rejected.total() > FRAMES / 3
    assert {type(event) for event in published.events} >= {Trade, AggregateTrade, Ticker, DayStats, OrderBook, Candle}
    for event in published.events:
        assert all(value.is_finite() and abs(value.adjusted()) <= 18 for value in numbers_of(event))
        if isinstance(event, OrderBook) and event.valid:
            prices = [[price for price, _ in side] for side in (event.bids, event.asks)]
            assert prices == [sorted(prices[0], reverse=True), sorted(prices[1])]
            assert all(size > 0 for side in (event.bids, event.asks) for _, size in side)


def test_numbers_that_no_integer_of_the_bus_holds_are_refused() -> None:
    """Else they would come back as unreadable entries, or keep a book from ever moving on."""
    published = Published()
    decoder = published.decoder(*KINDS)
    for frame in whole(2**64):
        decoder.on_frame(frame, RECV_NS)
    assert not [event for event in published.events if type(event) in (Trade, AggregateTrade, Ticker)]
    assert decoder.rejected["ValidationError"] >= 4


def test_a_frame_over_the_bound_is_not_even_read() -> None:
    published = Published()
    decoder = published.decoder("@trade")
    data = json.loads(trade(1))["data"] | {"x": "x" * MAX_FRAME_BYTES}
    decoder.on_frame(combined("btcusdt@trade", data), RECV_NS)
    assert (published.events, decoder.rejected.total()) == ([], 1)
