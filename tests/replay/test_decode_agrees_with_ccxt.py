"""`tradebot decode` against an independent judge: ccxt's own parsers on the same recorded frames."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import ccxt.pro
import pytest

from connectors.decode import decode_file

pytestmark = pytest.mark.recorded

CAPTURES = ("cryptofeed_2021-04-05_2min", "cryptofeed_2021-10-12", "hftbacktest_btcusdt_2024-08-08_09")


@pytest.fixture(scope="module", params=CAPTURES)
def capture(request: pytest.FixtureRequest, recorded_dir: Path) -> Path:
    return recorded_dir / "binance_spot" / f"{request.param}.jsonl.gz"


def decoded(capture: Path) -> list[dict[str, Any]]:
    lines: list[str] = []
    summary = decode_file("binance", capture, lines.append)
    assert summary.rejected == 0
    return [json.loads(line) for line in lines]


def frames(capture: Path, stream: str) -> list[dict[str, Any]]:
    with gzip.open(capture, "rt") as file:
        raws = [json.loads(line)["raw"] for line in file if f"@{stream}" in line[:1500]]
    parsed = [json.loads(raw) for raw in raws]
    return [frame["data"] for frame in parsed if frame.get("stream", "").partition("@")[2].startswith(stream)]


def judge(symbols: set[str]) -> Any:
    exchange = ccxt.pro.binance({"number": str})
    markets = []
    for symbol in symbols:
        base, quote = symbol.split("/")
        markets.append(
            exchange.safe_market_structure(
                {"id": base + quote, "lowercaseId": (base + quote).lower(), "symbol": symbol, "base": base, "quote": quote, "baseId": base,
                 "quoteId": quote, "type": "spot", "spot": True, "active": True, "precision": {"amount": "0.00000001", "price": "0.00000001"}}
            )
        )  # fmt: skip
    exchange.set_markets(markets)
    return exchange


def test_trades_are_what_ccxt_reads(capture: Path) -> None:
    ours = [event for event in decoded(capture) if event["kind"] in ("trade", "aggregate")]
    theirs_raw = frames(capture, "aggTrade") or frames(capture, "trade")
    exchange = judge({event["symbol"] for event in ours})
    theirs = [exchange.parse_ws_trade(raw, exchange.market(exchange.markets_by_id[raw["s"]][0]["symbol"])) for raw in theirs_raw]
    assert len(ours) == len(theirs_raw)
    for event, trade in zip(ours, theirs, strict=True):
        assert (event["symbol"], event["trade_id"], event["side"]) == (trade["symbol"], trade["id"], trade["side"])
        assert (Decimal(event["price"]), Decimal(event["size"])) == (Decimal(str(trade["price"])), Decimal(str(trade["amount"])))
        assert event["ts_event_ns"] // 1_000_000 == trade["timestamp"]


def test_quotes_are_what_ccxt_reads(capture: Path) -> None:
    ours = [event for event in decoded(capture) if event["kind"] == "ticker"]
    theirs_raw = frames(capture, "bookTicker")
    exchange = judge({event["symbol"] for event in ours})
    assert len(ours) == len(theirs_raw)
    for event, raw in zip(ours, theirs_raw, strict=True):
        ticker = exchange.parse_ws_ticker(raw, "spot")
        assert event["symbol"] == ticker["symbol"]
        for ours_key, theirs_key in (
            ("bid_price", "bid"),
            ("bid_size", "bidVolume"),
            ("ask_price", "ask"),
            ("ask_size", "askVolume"),
        ):
            assert Decimal(event[ours_key]) == Decimal(str(ticker[theirs_key]))


def test_final_books_are_what_ccxt_builds(capture: Path) -> None:
    ours = {event["symbol"]: event for event in decoded(capture) if event["kind"] == "book"}
    books = ccxt_books(capture, judge(set(ours)))
    assert ours.keys() == books.keys()
    for symbol, event in ours.items():
        assert event["sequence"] == books[symbol]["nonce"]
        for side in ("bids", "asks"):
            theirs = [(Decimal(str(price)), Decimal(str(size))) for price, size, *_ in books[symbol][side][:20]]
            assert [(Decimal(price), Decimal(size)) for price, size in event[side]] == theirs


def ccxt_books(capture: Path, exchange: Any) -> dict[str, Any]:
    """Each symbol's book as ccxt's handlers leave it after the snapshot and the updates that follow it."""
    books: dict[str, Any] = {}
    waiting: dict[str, list[dict[str, Any]]] = {}
    with gzip.open(capture, "rt") as file:
        for line in file:
            message = json.loads(line)
            if "depth" not in message["conn"] + message["raw"][:100]:
                continue
            raw = json.loads(message["raw"])
            if message["conn"].startswith("http") and "lastUpdateId" in raw:
                native = message["conn"].split("symbol=")[1].split("&")[0]
                symbol = exchange.markets_by_id[native][0]["symbol"]
                books[symbol] = exchange.order_book({})
                books[symbol].reset(exchange.parse_order_book(raw, symbol))
                books[symbol]["nonce"] = raw["lastUpdateId"]
                for update in waiting.pop(symbol, []):
                    apply(exchange, books[symbol], update)
            elif raw.get("data", {}).get("e") == "depthUpdate":
                symbol = exchange.markets_by_id[raw["data"]["s"]][0]["symbol"]
                if symbol in books:
                    apply(exchange, books[symbol], raw["data"])
                else:
                    waiting.setdefault(symbol, []).append(raw["data"])
    for book in books.values():
        book.limit()
    return books


def apply(exchange: Any, book: Any, update: dict[str, Any]) -> None:
    if update["u"] > book["nonce"]:
        exchange.handle_order_book_message(None, update, book)
