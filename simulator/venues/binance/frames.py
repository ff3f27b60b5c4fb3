"""Reading recorded Binance frames: which market they speak of, what changes in its book, which trades they tell."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from common_models.base import Side
from common_models.decimals import NumberError, checked, exact
from simulator.recording import BookLevels, Frame, FrameError, FrameMeaning
from simulator.tape import PublicTrade

_TIMES = re.compile(rb'("[ET]":\s*)(\d{13})')
_EVENT_STREAMS = {"trade": "trade", "aggTrade": "aggTrade", "depthUpdate": "depth@100ms", "24hrTicker": "ticker"}


def read_frame(frame: Frame) -> FrameMeaning:
    """Interpret one frame; outgoing ones, answers and unknown messages mean nothing. Raises FrameError for a damaged one."""
    if frame.dir != "in":
        return FrameMeaning()
    try:
        message = msgspec.json.decode(frame.raw)
        if not isinstance(message, dict):
            return FrameMeaning()
        if "lastUpdateId" in message and "asks" in message and "stream" not in message:
            return _snapshot(frame.conn, message)
        data = message.get("data", message)
        return _event(str(message.get("stream", "")), data) if isinstance(data, dict) else FrameMeaning()
    except (msgspec.DecodeError, NumberError, KeyError, TypeError, ValueError) as error:
        raise FrameError(f"unreadable frame of {frame.conn[:80]}: {error!r}: {frame.raw[:120]}") from error


def payload_of(raw: str) -> bytes:
    """The part of a frame that an uncombined connection gets."""
    text = raw.encode()
    head, found, rest = text.partition(b'"data":')
    return rest[:-1].strip() if found and head.lstrip().startswith(b'{"stream"') else text


def moved(text: bytes, shift_ms: int) -> bytes:
    """The frame with its event and trade times moved; everything else stays byte for byte."""
    if not shift_ms:
        return text
    return _TIMES.sub(lambda match: match[1] + str(int(match[2]) + shift_ms).encode(), text)


def _snapshot(address: str, message: dict[str, Any]) -> FrameMeaning:
    symbol = parse_qs(urlsplit(address).query).get("symbol", [""])[0].upper()
    if not symbol:
        return FrameMeaning()
    last_id = int(message["lastUpdateId"])
    book = BookLevels(True, last_id, last_id, _levels(message["bids"]), _levels(message["asks"]))
    return FrameMeaning(native_symbol=symbol, book=book)


def _event(stream: str, data: dict[str, Any]) -> FrameMeaning:
    kind, symbol = str(data.get("e", "")), str(data.get("s", ""))
    if not symbol:
        return FrameMeaning()
    suffix = _EVENT_STREAMS.get(kind, "bookTicker" if not kind and "u" in data else kind)
    meaning = FrameMeaning(native_symbol=symbol, stream=stream or f"{symbol.lower()}@{suffix}", event_ms=data.get("E"))
    if kind == "depthUpdate":
        meaning.book = BookLevels(False, int(data["U"]), int(data["u"]), _levels(data["b"]), _levels(data["a"]))
    elif kind == "trade":
        meaning.trades = [_trade(data, int(data["t"]), int(data["t"]))]
    elif kind == "aggTrade":
        meaning.trades, meaning.aggregate = [_trade(data, int(data["l"]), int(data["a"]))], True
    return meaning


def _trade(data: dict[str, Any], trade_id: int, aggregate_id: int) -> PublicTrade:
    side = Side.SELL if data["m"] else Side.BUY
    return PublicTrade(trade_id, aggregate_id, exact(data["p"]), exact(data["q"]), int(data["T"]) * 1_000_000, side)


def _levels(rows: list[Any]) -> list[tuple[str, str]]:
    return [(checked(row[0]), checked(row[1])) for row in rows]
