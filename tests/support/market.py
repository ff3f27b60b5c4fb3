"""Binance spot frames written from the documented format, and a place that collects what a decoder publishes."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from bus.codec import decode, encode
from bus.streams import Stream, Streams
from common_models import Message
from connectors.exchanges.binance.channels import Channel, Hole
from connectors.exchanges.binance.decoder import Decoder

T0_MS = 1_732_190_400_000
RECV_NS = T0_MS * 1_000_000 + 500


class Published:
    """Takes events as a publisher would, through the bus's own wire form, so that consumers' types are what a test sees."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.holes: list[tuple[Channel, Hole]] = []
        self.noted: list[str] = []

    def put(self, stream: Stream, message: Message) -> None:
        self.events.append(decode(encode(message)))

    def on_hole(self, channel: Channel, hole: Hole) -> None:
        self.holes.append((channel, hole))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def decoder(self, *suffixes: str, symbol: str = "BTC/USDT", native: str = "BTCUSDT", depth: int = 5) -> Decoder:
        decoder = Decoder(Streams("test"), self.put, self.on_hole, lambda stats, name: self.noted.append(name), depth)
        decoder.subscribe(symbol, native, suffixes)
        return decoder


def combined(stream: str, data: dict[str, Any]) -> bytes:
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


def book_ticker(u: int = 400, bid: str = "100.10000000", ask: str = "100.20000000") -> bytes:
    return combined("btcusdt@bookTicker", {"u": u, "s": "BTCUSDT", "b": bid, "B": "31.21000000", "a": ask, "A": "40.66000000"})


def trade(t: int, price: str = "100.10000000", at_ms: int = T0_MS, maker: bool = True) -> bytes:
    return combined(
        "btcusdt@trade",
        {"e": "trade", "E": at_ms, "s": "BTCUSDT", "t": t, "p": price, "q": "0.50000000", "T": at_ms - 1, "m": maker, "M": True},
    )


def agg_trade(a: int, f: int, l: int) -> bytes:  # noqa: E741 the venue's names
    return combined(
        "btcusdt@aggTrade",
        {
            "e": "aggTrade",
            "E": T0_MS,
            "s": "BTCUSDT",
            "a": a,
            "p": "1.50000000",
            "q": "2.00000000",
            "f": f,
            "l": l,
            "T": T0_MS,
            "m": False,
        },
    )


def depth(first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> bytes:
    return combined(
        "btcusdt@depth@100ms", {"e": "depthUpdate", "E": T0_MS, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": asks}
    )


def day_stats(change: str = "-1.25") -> bytes:
    data = {
        "e": "24hrTicker",
        "E": T0_MS,
        "s": "BTCUSDT",
        "p": "-1.00",
        "P": change,
        "c": "99.00",
        "o": "100.00",
        "h": "101.00",
        "l": "98.00",
    }
    return combined("btcusdt@ticker", data | {"v": "12.5", "q": "1250.00", "n": 77})


def kline(open_ms: int, closed: bool, close: str = "1.05") -> bytes:
    k = {
        "t": open_ms,
        "T": open_ms + 59_999,
        "s": "BTCUSDT",
        "i": "1m",
        "o": "1.00",
        "c": close,
        "h": "1.10",
        "l": "0.90",
        "v": "7.0",
    }
    return combined(
        "btcusdt@kline_1m", {"e": "kline", "E": open_ms + 30_000, "s": "BTCUSDT", "k": k | {"n": 3, "x": closed, "q": "7.2"}}
    )


def snapshot(last_id: int, bids: list[list[str]], asks: list[list[str]]) -> Any:
    from connectors.exchanges.binance.wire import DepthSnapshot

    return msgspec.convert({"lastUpdateId": last_id, "bids": bids, "asks": asks}, DepthSnapshot)
