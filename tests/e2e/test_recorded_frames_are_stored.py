"""Real input, end to end: recorded Binance frames through the simulator's socket, and what is stored equals what the frames say."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from connectors.exchanges.binance.symbols import split_native
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = [pytest.mark.recorded, pytest.mark.timeout(120)]

CAPTURE = "binance_spot/cryptofeed_2021-04-05_2min.jsonl.gz"
Levels = list[tuple[Decimal, Decimal]]


class Told:
    """What the recorded frames say, read without any code of ours."""

    def __init__(self, path: Path) -> None:
        self.trades: dict[tuple[str, str], tuple[Any, ...]] = {}
        self.quotes: dict[tuple[str, int], tuple[Decimal, ...]] = {}
        self.books: dict[str, tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]] = {}
        self.sequences: dict[str, int] = {}
        waiting: dict[str, list[dict[str, Any]]] = {}
        with gzip.open(path, "rt") as file:
            for line in map(json.loads, file):
                raw = json.loads(line["raw"])
                if line["conn"].startswith("http"):
                    native = line["conn"].split("symbol=")[1].split("&")[0]
                    self.snapshot(native, raw)
                    for update in waiting.pop(native, []):
                        self.update(update)
                elif raw["stream"].endswith("@aggTrade"):
                    self.trade(raw["data"])
                elif raw["stream"].endswith("@bookTicker"):
                    data = raw["data"]
                    self.quotes[split_native(data["s"]), data["u"]] = tuple(Decimal(data[key]) for key in "bBaA")
                elif raw["data"]["s"] in self.books:
                    self.update(raw["data"])
                else:
                    waiting.setdefault(raw["data"]["s"], []).append(raw["data"])

    @property
    def symbols(self) -> list[str]:
        return [split_native(native) for native in self.books]

    def trade(self, data: dict[str, Any]) -> None:
        side = "sell" if data["m"] else "buy"
        self.trades[split_native(data["s"]), str(data["a"])] = (side, Decimal(data["p"]), Decimal(data["q"]), data["T"] * 1_000_000)

    def snapshot(self, native: str, raw: dict[str, Any]) -> None:
        self.books[native] = ({}, {})
        for side, key in zip(self.books[native], ("bids", "asks"), strict=True):
            side.update({Decimal(price): Decimal(size) for price, size in raw[key]})
        self.sequences[native] = raw["lastUpdateId"]

    def update(self, data: dict[str, Any]) -> None:
        if data["u"] <= self.sequences[data["s"]]:
            return
        for side, key in zip(self.books[data["s"]], ("b", "a"), strict=True):
            for price, size in data[key]:
                side[Decimal(price)] = Decimal(size)
                if not Decimal(size):
                    del side[Decimal(price)]
        self.sequences[data["s"]] = data["u"]

    def top(self, native: str) -> tuple[Levels, Levels]:
        bids, asks = self.books[native]
        return sorted(bids.items(), reverse=True)[:20], sorted(asks.items())[:20]


@pytest.fixture
async def replayed(tmp_path: Path, recorded_dir: Path) -> AsyncIterator[tuple[Told, asyncpg.Connection[Any]]]:
    """A stack that has replayed the capture as fast as it can, and its database."""
    told = Told(recorded_dir / CAPTURE)
    stack = Stack(
        tmp_path / "home",
        {
            "TRADEBOT__EXCHANGES__BINANCE__SYMBOLS": f"[{', '.join(told.symbols)}]",
            "TRADEBOT__EXCHANGES__BINANCE__TRADES": "aggregate",
            "TRADEBOT__EXCHANGES__BINANCE__SIMULATOR__REPLAY": str(recorded_dir / CAPTURE),
            "TRADEBOT__EXCHANGES__BINANCE__SIMULATOR__SPEED": "0",
            "TRADEBOT__EXCHANGES__BINANCE__SIMULATOR__RETIME": "false",
            "TRADEBOT__RECORDER__BOOK_INTERVAL_S": "0",
        },
    )
    try:
        await stack.start()
        connection = await stack.connect()

        async def all_trades() -> bool:
            return int(await connection.fetchval("SELECT count(*) FROM trades")) >= len(told.trades)

        async def all_books() -> bool:
            rows = await connection.fetch("SELECT symbol, max(sequence) AS last FROM order_books WHERE valid GROUP BY symbol")
            last = {row["symbol"]: row["last"] for row in rows}
            return all(last.get(split_native(native)) == sequence for native, sequence in told.sequences.items())

        await eventually(all_trades, 60, "every trade stored")
        await eventually(all_books, 60, "every final book stored")
        yield told, connection
        await connection.close()
    finally:
        await stack.end()


async def test_what_is_stored_is_what_the_frames_say(replayed: tuple[Told, asyncpg.Connection[Any]]) -> None:
    told, connection = replayed

    rows = await connection.fetch("SELECT symbol, trade_id, side, price, size, ts_event_ns, kind FROM trades")
    assert {(row["symbol"], row["trade_id"]): tuple(row)[2:6] for row in rows} == told.trades
    assert {row["kind"] for row in rows} == {"aggregate"}
    assert len(rows) == len(told.trades), "each trade once"

    rows = await connection.fetch("SELECT symbol, sequence, bid_price, bid_size, ask_price, ask_size FROM tickers")
    assert {(row["symbol"], row["sequence"]): tuple(row)[2:] for row in rows} == told.quotes

    for native, sequence in told.sequences.items():
        row = await connection.fetchrow(
            "SELECT bids, asks FROM order_books WHERE symbol = $1 AND sequence = $2 AND valid", split_native(native), sequence
        )
        assert row is not None
        stored = [[(Decimal(price), Decimal(size)) for price, size in json.loads(row[side])] for side in ("bids", "asks")]
        assert tuple(stored) == told.top(native)

    # two minutes in two seconds: the simulator's own candles, which are not recorded ones, may skip a minute and be fetched again
    rows = await connection.fetch("SELECT symbol, stream, reason, count FROM gaps WHERE NOT (healed AND stream LIKE '%@kline%')")
    assert not rows, [tuple(row) for row in rows]
