"""What a market-data feed tells of itself: silence, gaps, books, and how late frames are."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from connectors.exchanges.binance.channels import Hole
from connectors.exchanges.binance.feed_metrics import FeedMetrics
from connectors.frame_times import TIMED_FRAMES_MASK, FrameTimes
from runtime.clock import now_ns
from runtime.metrics import Metrics
from tests.support.exposition import fresh_process, samples, value
from tests.support.market import Published, book_ticker, trade

VENUE = {"exchange": "binance"}
MS = 1_000_000


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    return fresh_process(monkeypatch)


def timed(decoder: Any, offset_ns: int = 0) -> Any:
    times = FrameTimes("binance", lambda: offset_ns)
    for channel in decoder.channels.values():
        channel.times = times
    return decoder


def test_one_frame_of_each_subscription_in_sixteen_is_timed_the_first_at_once(process: Metrics) -> None:
    decoder = timed(Published().decoder("@trade", "@bookTicker"))
    for number in range(1, 2 * (TIMED_FRAMES_MASK + 1) + 1):
        decoder.on_frame(trade(number, at_ms=now_ns() // MS), now_ns())
        decoder.on_frame(book_ticker(), now_ns())
    count = partial(value, process, "tradebot_hop_seconds_count", exchange="binance")
    assert count(hop="socket_to_bus") == 4
    assert count(hop="venue_to_socket") == 2  # a bookTicker has no time of the venue


@pytest.mark.parametrize(("offset_ms", "seconds"), [(0, 0.040), (-30, 0.010), (60, 0.100), (-100, 0.0)])
def test_the_way_from_the_venue_is_corrected_by_the_offset_of_its_clock(process: Metrics, offset_ms: int, seconds: float) -> None:
    at_ms = now_ns() // MS
    decoder = timed(Published().decoder("@trade"), offset_ms * MS)
    decoder.on_frame(trade(1, at_ms=at_ms), (at_ms + 40) * MS)
    assert value(process, "tradebot_hop_seconds_sum", hop="venue_to_socket", **VENUE) == pytest.approx(seconds, abs=0.0025)


def test_silence_is_told_by_subscription_and_gaps_by_what_became_of_them(process: Metrics) -> None:
    published = Published()
    decoder = published.decoder("@trade", "@depth@100ms", "@kline_1m")
    figures = FeedMetrics(decoder, lambda: 3)
    figures.expose()
    figures._made_ns -= 10**10
    decoder.on_frame(trade(1), now_ns() - 5 * 10**9)
    stale = {
        dict(labels)["channel"]: seconds
        for (name, labels), seconds in samples(process).items()
        if name == "tradebot_feed_stale_seconds"
    }
    assert {channel: round(seconds) for channel, seconds in stale.items()} == {"trade": 5, "depth": 10, "kline_1m": 10}

    channel = next(iter(decoder.channels.values()))
    for healed in (True, False, False):
        channel.publish_gap(Hole("x", 1, 2, 1, 2), 3, healed=healed)
    gaps = partial(value, process, "tradebot_feed_gaps_total", stream="binance.trades", **VENUE)
    assert (gaps(healed="true"), gaps(healed="false")) == (1, 2)
    assert value(process, "tradebot_feed_holes_waiting", **VENUE) == 3
    assert value(process, "tradebot_book_valid", symbol="BTC/USDT", **VENUE) == 0
    decoder.on_frame(b"rubbish", now_ns())
    assert value(process, "tradebot_frames_rejected_total", **VENUE) == 1
    assert value(process, "tradebot_frames_total", **VENUE) == 2
