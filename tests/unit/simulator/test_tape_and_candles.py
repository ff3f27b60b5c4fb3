"""What a market remembers: a ring of trades that survives its process, and bars."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from common_models.base import Side
from runtime.append_log import AppendLog, read_records
from simulator.candles import KEPT_BARS, MINUTE_NS, Candles, flat_bar, joined
from simulator.tape import PublicTrade, Tape

T0 = 1_700_000_040_000_000_000  # a whole minute


def trade(number: int, price: str = "100.5", size: str = "0.00012", ts_ns: int = T0, side: Side = Side.BUY) -> PublicTrade:
    return PublicTrade(number, number, Decimal(price), Decimal(size), ts_ns, side)


def test_trades_and_counters_are_there_again_when_the_file_is_opened_without_having_been_closed(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape.bin", capacity=8)
    for number in range(1, 6):
        tape.add(trade(number, side=Side.SELL if number % 2 else Side.BUY))
    tape.mark(77, 9)

    again = Tape(tmp_path / "tape.bin", capacity=8)

    assert (again.next_trade_id, again.next_aggregate_id, again.update_id, again.next_order_id) == (6, 6, 77, 9)
    assert again.last(10) == [trade(number, side=Side.SELL if number % 2 else Side.BUY) for number in range(1, 6)]


def test_the_ring_keeps_the_newest_and_skips_ids_that_never_were() -> None:
    tape = Tape(None, capacity=4)
    for number in (*range(1, 7), 9):
        tape.add(trade(number))
    assert [kept.trade_id for kept in tape.since(0, 100)] == [6, 9]
    assert [kept.trade_id for kept in tape.last(1)] == [9]
    assert tape.since(10, 5) == []


def test_bars_close_on_the_minute_and_empty_minutes_are_flat(tmp_path: Path) -> None:
    candles = Candles(tmp_path / "candles.log")
    candles.add(trade(1, "100", "2", T0 + 1))
    candles.add(trade(2, "103", "1", T0 + 2, Side.SELL))
    candles.add(trade(3, "99", "1", T0 + 3 * MINUTE_NS))
    first, *flat = candles.closed
    assert (first.open, first.high, first.low, first.close, first.volume, first.trade_count) == (100, 103, 100, 103, 3, 2)
    assert (first.quote_volume, first.taker_buy_volume, first.first_trade_id, first.last_trade_id) == (303, 2, 1, 2)
    assert [(bar.open, bar.volume, bar.first_trade_id) for bar in flat] == [(103, 0, -1)] * 2
    assert candles.current is not None
    assert (candles.current.open, candles.current.low) == (99, 99)

    candles.close()
    assert list(Candles(tmp_path / "candles.log").closed) == [first, *flat]


def test_wider_bars_are_the_sum_of_their_minutes() -> None:
    candles = Candles(None)
    for minute in range(12):
        candles.add(trade(minute + 1, str(100 + minute), "1", T0 + minute * MINUTE_NS))
    wide = list(joined(candles.bars(), 5 * MINUTE_NS))
    assert sum(bar.volume for bar in wide) == 12
    assert all(bar.open_ns % (5 * MINUTE_NS) == 0 for bar in wide)
    assert (wide[0].open, wide[-1].close) == (100, 111)
    day = candles.day(T0 + 12 * MINUTE_NS)
    assert day is not None
    assert (day.open, day.high, day.close, day.trade_count) == (100, 111, 111, 12)


def test_the_average_price_weighs_by_volume() -> None:
    candles = Candles(None)
    assert candles.average_price(5) is None
    candles.add(trade(1, "100", "3"))
    candles.add(trade(2, "200", "1"))
    assert candles.average_price(5) == 125


def test_a_clock_that_jumps_years_makes_no_years_of_bars() -> None:
    candles = Candles(None)
    candles.add(trade(1))
    candles.add(trade(2, ts_ns=T0 + 10_000_000 * MINUTE_NS))
    assert len(candles.closed) <= 3001
    assert candles.current is not None
    assert candles.current.last_trade_id == 2


def test_a_long_file_of_bars_is_cut_to_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "candles.log"
    with AppendLog(path) as log:
        log.append_many([msgspec.json.encode(flat_bar(T0 + minute * MINUTE_NS, Decimal(1))) for minute in range(4 * KEPT_BARS + 1)])
    Candles(path).close()
    assert len(list(read_records(path))) == KEPT_BARS
    assert Candles(path).closed[-1].open_ns == T0 + 4 * KEPT_BARS * MINUTE_NS


@pytest.mark.parametrize("content", [b"", b"garbage", b"TAPE0001" + b"\xff" * 100])
def test_a_strange_tape_file_is_started_anew_or_read_within_bounds(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tape.bin").write_bytes(content)
    tape = Tape(tmp_path / "tape.bin", capacity=4)
    assert tape.last(3) == []
