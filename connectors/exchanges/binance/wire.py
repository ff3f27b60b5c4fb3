"""Binance spot's market-data frames as they come off the wire, and which names its streams have.

Numbers stay the venue's own text. Source: binance-spot-api-docs, web-socket-streams.md, read 2026-07-21.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from common_models.base import Int64

MAX_FRAME_BYTES = 256 * 1024
"""More than any documented frame; what is larger is refused unread, since one frame may not cost more than 50 ms."""

TextLevels = list[tuple[str, str]]
F = TypeVar("F")

_PLAIN = b'0123456789.,:"[]{}'


class Envelope(msgspec.Struct, Generic[F], gc=False):
    """A combined stream's wrapper: `{"stream": name, "data": frame}`."""

    data: F


class BookTickerFrame(msgspec.Struct, gc=False):
    """`@bookTicker`: no event name and no time; `u` is the book's update number."""

    u: Int64
    s: str
    b: str
    B: str
    a: str
    A: str


class TradeFrame(msgspec.Struct, gc=False):
    """`@trade`: `m` says that the buyer was the maker, so the taker sold."""

    E: int
    s: str
    t: Int64
    p: str
    q: str
    T: int
    m: bool


class AggTradeFrame(msgspec.Struct, gc=False):
    """`@aggTrade`: trades `f` to `l` of one taker order at one price; `a` is the aggregate's own id."""

    E: int
    s: str
    a: Int64
    p: str
    q: str
    f: Int64
    l: Int64  # noqa: E741 the venue's name
    T: int
    m: bool


class DepthFrame(msgspec.Struct, gc=False):
    """`@depth`: updates `U` to `u`; absolute sizes, zero removes."""

    E: int
    s: str
    U: Int64
    u: Int64
    b: TextLevels
    a: TextLevels


class DayStatsFrame(msgspec.Struct, gc=False):
    """`@ticker`: rolling 24 hours."""

    E: int
    s: str
    P: str
    c: str
    o: str
    h: str
    l: str  # noqa: E741 the venue's name
    v: str
    q: str
    n: Int64


class Kline(msgspec.Struct, gc=False):
    t: Int64
    T: int
    i: str
    o: str
    c: str
    h: str
    l: str  # noqa: E741 the venue's name
    v: str
    n: Int64
    x: bool
    q: str


class KlineFrame(msgspec.Struct, gc=False):
    """`@kline_<interval>`: `k.x` says that the interval is over."""

    E: int
    s: str
    k: Kline


class DepthSnapshot(msgspec.Struct, gc=False):
    """Body of GET /api/v3/depth."""

    lastUpdateId: Int64  # noqa: N815 the venue's name
    bids: TextLevels
    asks: TextLevels


class AnyFrame(msgspec.Struct, gc=False):
    """As much of a frame as tells what it is when its stream's name does not."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    e: str = ""
    s: str = ""
    u: Int64 | None = None
    id: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    k: Kline | None = None


def plain_numbers(frame: bytes, start: bytes, keys: bytes) -> bool:
    """Whether all that follows `start` is digits, points and JSON marks, apart from the one-letter `keys` in that order.

    One pass over the bytes in place of a check per number: no sign, exponent, blank, underscore or foreign digit gets through.
    """
    at = frame.find(start)
    return at >= 0 and frame[at:].translate(None, _PLAIN) == keys
