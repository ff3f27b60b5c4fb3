"""Binance spot frames to events: which channel a frame is for, and what to do with one that cannot be read.

Used by the connector on live sockets and by `tradebot decode` on captured ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec
import structlog

from bus.streams import Streams
from connectors.exchange import NoteDayStats, Put
from connectors.exchanges.binance.channels import (
    EXCHANGE_NAME,
    AggTradeChannel,
    CandleChannel,
    Channel,
    DayStatsChannel,
    OnHole,
    TickerChannel,
    TradeChannel,
)
from connectors.exchanges.binance.depth import DepthChannel, PartialDepthChannel
from connectors.exchanges.binance.wire import MAX_FRAME_BYTES, AnyFrame

log = structlog.get_logger(__name__)

UNREADABLE = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)
"""What a hostile or broken frame can raise while it is read; it is counted and the connection goes on."""
DIFF_SUFFIXES = ("@depth@100ms", "@depth")
SAMPLES_LOGGED = 20
SAMPLE_BYTES = 200

_any_frame = msgspec.json.Decoder(AnyFrame)
_PLAIN_SUFFIX = {"trade": "@trade", "aggTrade": "@aggTrade", "depthUpdate": DIFF_SUFFIXES[0], "24hrTicker": "@ticker"}


class Decoder:
    """Route frames to channels. Counts what it could not read by reason in `rejected`."""

    def __init__(self, streams: Streams, put: Put, on_hole: OnHole, note_day_stats: NoteDayStats, book_depth: int) -> None:
        self.channels: dict[str, Channel] = {}
        self.rejected: Counter[str] = Counter()
        self.frames = 0
        self.on_reply: Callable[[AnyFrame], None] = lambda _: None
        self.on_shutdown: Callable[[], None] = lambda: None
        self._by_name: dict[bytes, Channel] = {}
        self._streams = streams
        self._put = put
        self._on_hole = on_hole
        self._note_day_stats = note_day_stats
        self._book_depth = book_depth

    def subscribe(self, symbol: str, native: str, suffixes: Iterable[str]) -> None:
        """Add the channels of one symbol by their stream suffixes, such as `@trade` or `@kline_1m`; raises ValueError."""
        for suffix in suffixes:
            self._add(self._channel(symbol, native, suffix))

    def _channel(self, symbol: str, native: str, suffix: str) -> Channel:
        market = self._streams.market
        if suffix.startswith("@kline_"):
            stream = market(EXCHANGE_NAME, CandleChannel.kind)
            return CandleChannel(symbol, native, stream, self._put, self._on_hole, suffix.removeprefix("@kline_"))
        if suffix.startswith("@depth"):
            stream = market(EXCHANGE_NAME, DepthChannel.kind)
            if suffix in DIFF_SUFFIXES:
                return DepthChannel(symbol, native, stream, self._put, self._on_hole, suffix=suffix, depth=self._book_depth)
            return PartialDepthChannel(symbol, native, stream, self._put, self._on_hole, suffix=suffix)
        if suffix == DayStatsChannel.suffix:
            stream = market(EXCHANGE_NAME, DayStatsChannel.kind)
            return DayStatsChannel(symbol, native, stream, self._put, self._on_hole, self._note_day_stats)
        for kind in (TickerChannel, TradeChannel, AggTradeChannel):
            if kind.suffix == suffix:
                return kind(symbol, native, market(EXCHANGE_NAME, kind.kind), self._put, self._on_hole)
        raise ValueError(f"no such Binance stream: {suffix!r}")

    def _add(self, channel: Channel) -> None:
        self.channels[channel.name] = channel
        self._by_name[channel.name.encode()] = channel

    def on_frame(self, frame: bytes, ts_recv_ns: int) -> None:
        """Take one message of any socket; never raises for what is in it."""
        self.frames += 1
        # {"stream":"btcusdt@trade","data":{...}}: the name stands between the 11th byte and the next quote
        channel = self._by_name.get(frame[11 : frame.find(b'"', 11, 100)])
        if channel is None or len(frame) > MAX_FRAME_BYTES:
            self._on_other(frame, ts_recv_ns)
            return
        try:
            channel.on_frame(frame, ts_recv_ns)
        except UNREADABLE as error:
            self.reject(channel, frame, error, ts_recv_ns)

    def _on_other(self, frame: bytes, ts_recv_ns: int) -> None:
        """A frame that does not begin as a combined stream of ours: a reply, a notice, another spelling, or rubbish."""
        if len(frame) > MAX_FRAME_BYTES:
            self.reject(None, frame, ValueError(f"{len(frame)} bytes, more than {MAX_FRAME_BYTES}"), ts_recv_ns)
            return
        try:
            head = _any_frame.decode(frame)
            inner = _any_frame.decode(head.data) if head.data else head
        except UNREADABLE as error:
            self.reject(None, frame, error, ts_recv_ns)
            return
        channel = self.channels.get(head.stream or channel_name(inner))
        if channel is not None:
            try:
                channel.on_frame(frame, ts_recv_ns, enveloped=bool(head.data))
            except UNREADABLE as error:
                self.reject(channel, frame, error, ts_recv_ns)
        elif inner.e == "serverShutdown":
            self.on_shutdown()
        elif head.id or head.error:
            self.on_reply(head)
        else:
            self._count("unknown", frame, f"no subscription for {head.stream or inner.e or 'this message'!r}", None)

    def reject(self, channel: Channel | None, frame: bytes, error: Exception, ts_recv_ns: int) -> None:
        """Count an unreadable frame, log the first samples, and let its channel say what is missing."""
        self._count(type(error).__name__, frame, str(error), channel)
        if channel is not None:
            channel.malformed(ts_recv_ns)

    def _count(self, reason: str, frame: bytes, detail: str, channel: Channel | None) -> None:
        self.rejected[reason] += 1
        if self.rejected.total() <= SAMPLES_LOGGED:
            log.warning(
                "frame.rejected",
                exchange=EXCHANGE_NAME,
                stream=channel.name if channel else "",
                reason=reason,
                detail=detail[:SAMPLE_BYTES],
                sample=frame[:SAMPLE_BYTES].decode("utf-8", "backslashreplace"),
            )


def channel_name(frame: AnyFrame) -> str:
    """The stream's name of a frame without a wrapper, as `/ws/<stream>` sends it; empty when it cannot be told."""
    if frame.k is not None and frame.s:
        return f"{frame.s.lower()}@kline_{frame.k.i}"
    if not frame.e and frame.s and frame.u is not None:
        return f"{frame.s.lower()}@bookTicker"
    suffix = _PLAIN_SUFFIX.get(frame.e)
    return frame.s.lower() + suffix if suffix else ""
