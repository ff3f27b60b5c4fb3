from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from common_models import AggregateTrade, Candle, DayStats, Gap, Side, Ticker, Trade
from connectors.exchanges.binance.channels import at_or_above
from connectors.exchanges.binance.wire import MAX_FRAME_BYTES
from tests.support.market import RECV_NS, T0_MS, Published, agg_trade, book_ticker, combined, day_stats, kline, trade


def test_best_bid_and_offer_has_no_venue_time() -> None:
    published = Published()
    published.decoder("@bookTicker").on_frame(book_ticker(), RECV_NS)
    (ticker,) = published.of(Ticker)
    assert (ticker.bid_price, ticker.ask_price, ticker.bid_size) == (Decimal("100.1"), Decimal("100.2"), Decimal("31.21"))
    assert (ticker.ts_event_ns, ticker.ts_recv_ns, ticker.sequence, ticker.crossed) == (None, RECV_NS, 400, False)


@pytest.mark.parametrize(("bid", "ask", "crossed"), [("1.0", "1.00", True), ("1.1", "1.0", True), ("1.0", "1.1", False)])
def test_a_bid_at_or_above_the_ask_is_flagged(bid: str, ask: str, crossed: bool) -> None:
    published = Published()
    published.decoder("@bookTicker").on_frame(book_ticker(bid=bid, ask=ask), RECV_NS)
    assert published.of(Ticker)[0].crossed is crossed


def test_prices_that_floats_cannot_tell_apart_are_compared_exactly() -> None:
    assert not at_or_above("100000000000000000.000000000000000001", "100000000000000000.000000000000000002")
    assert at_or_above("100000000000000000.000000000000000002", "100000000000000000.000000000000000001")


def test_an_older_quote_from_a_second_socket_is_dropped() -> None:
    published = Published()
    decoder = published.decoder("@bookTicker")
    for u in (400, 401, 400, 402):
        decoder.on_frame(book_ticker(u), RECV_NS)
    assert [ticker.sequence for ticker in published.of(Ticker)] == [400, 401, 402]
    assert decoder.channels["btcusdt@bookTicker"].duplicates == 1


def test_the_taker_of_a_trade_sold_when_the_buyer_was_the_maker() -> None:
    published = Published()
    decoder = published.decoder("@trade")
    decoder.on_frame(trade(1, maker=True), RECV_NS)
    decoder.on_frame(trade(2, maker=False), RECV_NS)
    assert [event.side for event in published.of(Trade)] == [Side.SELL, Side.BUY]
    assert published.of(Trade)[0].ts_event_ns == (T0_MS - 1) * 1_000_000


def test_trades_are_published_once_and_a_jump_is_a_hole() -> None:
    published = Published()
    decoder = published.decoder("@trade")
    for t in (10, 11, 11, 10, 15, 16):
        decoder.on_frame(trade(t), RECV_NS)
    assert [event.trade_id for event in published.of(Trade)] == ["10", "11", "15", "16"]
    ((_, hole),) = published.holes
    assert (hole.first, hole.last) == (12, 14)


def test_a_counter_that_the_venue_restarted_is_followed() -> None:
    published = Published()
    decoder = published.decoder("@trade")
    decoder.on_frame(trade(1000), RECV_NS)
    decoder.on_frame(trade(1, at_ms=T0_MS + 120_000), RECV_NS)
    assert [event.trade_id for event in published.of(Trade)] == ["1000", "1"]


def test_aggregates_are_told_from_trades() -> None:
    published = Published()
    published.decoder("@aggTrade").on_frame(agg_trade(7, 100, 103), RECV_NS)
    (event,) = published.of(AggregateTrade)
    assert (event.trade_id, event.first_trade_id, event.last_trade_id) == ("7", "100", "103")


def test_day_statistics_keep_the_sign_of_the_change_and_are_noted() -> None:
    published = Published()
    published.decoder("@ticker").on_frame(day_stats("-1.25"), RECV_NS)
    assert published.of(DayStats)[0].change_percent == Decimal("-1.25")
    assert published.noted == ["BTCUSDT"]


def test_a_candle_is_open_until_the_venue_closes_it_and_a_missed_one_is_a_hole() -> None:
    published = Published()
    decoder = published.decoder("@kline_1m")
    minute = 60_000
    start = T0_MS - T0_MS % minute
    for open_ms, closed in ((start, False), (start, True), (start, True), (start + minute, True), (start + 4 * minute, False)):
        decoder.on_frame(kline(open_ms, closed), RECV_NS)
    candles = published.of(Candle)
    assert [candle.closed for candle in candles] == [False, True, True, False]
    assert candles[0].close_ns - candles[0].open_ns == minute * 1_000_000
    ((_, hole),) = published.holes
    assert (hole.from_ns, hole.to_ns) == ((start + 2 * minute) * 1_000_000, (start + 4 * minute) * 1_000_000)


def test_frames_of_a_raw_stream_need_no_wrapper() -> None:
    published = Published()
    decoder = published.decoder("@bookTicker", "@trade", "@kline_1m")
    for frame in (book_ticker(), trade(5), kline(T0_MS - T0_MS % 60_000, True)):
        decoder.on_frame(msgspec.json.encode(msgspec.json.decode(frame)["data"]), RECV_NS)
    assert [type(event) for event in published.events] == [Ticker, Trade, Candle]


def test_unknown_fields_are_ignored_and_field_order_does_not_matter() -> None:
    published = Published()
    frame = combined("btcusdt@bookTicker", {"A": "1", "a": "2", "new": {"x": [1]}, "B": "1", "b": "1.5", "s": "BTCUSDT", "u": 9})
    published.decoder("@bookTicker").on_frame(frame, RECV_NS)
    assert published.of(Ticker)[0].ask_price == Decimal(2)


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"stream":"btcusdt@trade"}', b'{"stream":"btcusdt@trade","data":null}', b"[" * 100_000,
        trade(5).replace(b'"100.10000000"', b'"1e9999999"'), trade(5).replace(b'"100.10000000"', b"NaN"),
        trade(5).replace(b'"100.10000000"', b'"-1"'), trade(5).replace(b'"100.10000000"', b"100.1"),
        trade(5, at_ms=T0_MS // 1000), trade(5, at_ms=T0_MS * 1000), book_ticker(bid="1_000"), book_ticker(bid="."), book_ticker(bid="1e5"),
        b" " * (MAX_FRAME_BYTES + 1), combined("ethusdt@trade", {}), combined("btcusdt@frobnicated", {}),
    ],
)  # fmt: skip
def test_a_frame_that_cannot_be_read_is_counted_and_the_next_is_served(frame: bytes) -> None:
    published = Published()
    decoder = published.decoder("@trade", "@bookTicker")
    decoder.on_frame(frame, RECV_NS)
    assert not published.events
    assert decoder.rejected.total() == 1
    decoder.on_frame(trade(6), RECV_NS)
    assert len(published.events) == 1


def test_replies_and_notices_are_not_data() -> None:
    published = Published()
    decoder = published.decoder("@trade")
    replies: list[object] = []
    shutdowns: list[bool] = []
    decoder.on_reply = replies.append
    decoder.on_shutdown = lambda: shutdowns.append(True)
    decoder.on_frame(b'{"result":null,"id":1}', RECV_NS)
    decoder.on_frame(b'{"error":{"code":2,"msg":"Invalid request"},"id":2}', RECV_NS)
    decoder.on_frame(b'{"e":"serverShutdown","E":1732190400000}', RECV_NS)
    decoder.on_frame(combined("!serverShutdown", {"e": "serverShutdown", "E": T0_MS}), RECV_NS)
    assert len(replies) == 2
    assert len(shutdowns) == 2
    assert not decoder.rejected


def test_a_gap_says_what_is_missing() -> None:
    published = Published()
    decoder = published.decoder("@trade")
    for t in (10, 20):
        decoder.on_frame(trade(t), RECV_NS)
    channel, hole = published.holes[0]
    channel.publish_gap(hole, RECV_NS, healed=False)
    (gap,) = published.of(Gap)
    assert (gap.first_missing, gap.last_missing, gap.count, gap.stream, gap.healed) == ("11", "19", 9, "btcusdt@trade", False)
