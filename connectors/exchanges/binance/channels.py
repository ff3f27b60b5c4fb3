"""One class per market-data stream of Binance spot: a frame in, checked and in sequence, an event out.

A channel belongs to one symbol and outlives the sockets that feed it, so it knows what it has already seen: frames that two sockets
deliver twice are dropped by their number, and a jump of a number is a hole that is told to `on_hole`.

Source: binance-spot-api-docs, web-socket-streams.md, read 2026-07-21.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from bus.streams import Stream
from common_models import AggregateTrade, Candle, DayStats, Gap, Message, Side, Ticker, Trade
from common_models.decimals import MAX_DIGITS, checked, exact
from common_models.timestamps import NS_PER_MS, NS_PER_S, ms_to_ns
from connectors.exchange import NoteDayStats, Put
from connectors.exchanges.binance.wire import (
    AggTradeFrame,
    BookTickerFrame,
    DayStatsFrame,
    Envelope,
    KlineFrame,
    TradeFrame,
    plain_numbers,
)
from connectors.frame_times import TIMED_FRAMES_MASK, FrameTimes

EXCHANGE_NAME = "binance"
RESET_NS = 60 * NS_PER_S
"""A number that falls while its time is this much later is a restart of the venue's counter, not an old frame."""


class Hole(msgspec.Struct, frozen=True):
    """Numbers that a channel missed, both inclusive; None when they are not numbers that one can count."""

    reason: str
    first: int | None
    last: int | None
    from_ns: int
    to_ns: int


class OnHole(Protocol):
    def __call__(self, channel: Channel, hole: Hole) -> None: ...


class Channel(ABC):
    """One subscription: its name on the wire, its symbol, and when it last spoke."""

    suffix = ""
    kind = ""

    def __init__(self, symbol: str, native: str, stream: Stream, put: Put, on_hole: OnHole) -> None:
        self.symbol = symbol
        self.native = native
        self.name = native.lower() + self.suffix
        self.stream = stream
        self.last_recv_ns = 0
        self.frames = 0
        self.duplicates = 0
        self.gaps = {True: 0, False: 0}  # told, by whether they were healed
        self.times: FrameTimes | None = None
        self._put = put
        self._on_hole = on_hole
        self._enveloped, self._plain = self._decoders()

    @abstractmethod
    def _decoders(self) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
        """For frames inside a combined stream's wrapper, and for those without."""

    def on_frame(self, frame: bytes, ts_recv_ns: int, *, enveloped: bool = True) -> None:
        """Take one frame; raises msgspec.MsgspecError or ValueError when it is malformed, and then nothing was published of it."""
        data = self._enveloped.decode(frame).data if enveloped else self._plain.decode(frame)
        self._on_data(data, frame, ts_recv_ns)
        self.last_recv_ns = ts_recv_ns
        if not self.frames & TIMED_FRAMES_MASK and self.times is not None:
            self.times.note(self._venue_ms(data), ts_recv_ns)
        self.frames += 1

    def _venue_ms(self, data: Any) -> int | None:
        """The venue's own time of a decoded frame; None where it sends none."""
        at_ms: int | None = getattr(data, "E", None)
        return at_ms

    @abstractmethod
    def _on_data(self, data: Any, frame: bytes, ts_recv_ns: int) -> None:
        """Check the numbers of a decoded frame and publish what it says; `frame` is its bytes."""

    def malformed(self, ts_recv_ns: int) -> None:  # noqa: B027 most channels have nothing to add
        """A frame of this channel could not be read: what it said is missing."""

    def disconnected(self, ts_recv_ns: int, reason: str) -> None:  # noqa: B027 most channels have nothing to forget
        """No socket feeds this channel any more."""

    def _publish(self, event: Message) -> None:
        self._put(self.stream, event)

    def publish_gap(self, hole: Hole, ts_recv_ns: int, *, healed: bool) -> None:
        """Say in the stream itself that data is missing, or was missing until now."""
        self.gaps[healed] += 1
        known = hole.first is not None and hole.last is not None
        self._publish(
            Gap(
                exchange=EXCHANGE_NAME,
                symbol=self.symbol,
                stream=self.name,
                reason=hole.reason,
                from_ns=hole.from_ns,
                to_ns=hole.to_ns,
                ts_recv_ns=ts_recv_ns,
                first_missing="" if hole.first is None else str(hole.first),
                last_missing="" if hole.last is None else str(hole.last),
                count=hole.last - hole.first + 1 if known and hole.last is not None and hole.first is not None else None,
                healed=healed,
            )
        )


class TickerChannel(Channel):
    """`@bookTicker`: best bid and offer, numbered by the book's update id, without a time."""

    suffix = "@bookTicker"
    kind = "tickers"

    def _decoders(self) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
        self.last_sequence = 0
        self.last_quote = ("", "")
        return msgspec.json.Decoder(Envelope[BookTickerFrame]), msgspec.json.Decoder(BookTickerFrame)

    def _on_data(self, data: BookTickerFrame, frame: bytes, ts_recv_ns: int) -> None:
        bid, ask, bid_size, ask_size = data.b, data.a, data.B, data.A
        longest = MAX_DIGITS  # shorter text cannot have too many digits
        if (
            not plain_numbers(frame, b'"b":', b"bBaA")
            or len(bid) > longest
            or len(ask) > longest
            or len(bid_size) > longest
            or len(ask_size) > longest
        ):
            for number in (bid, bid_size, ask, ask_size):
                checked(number)
        float(bid_size), float(ask_size)  # a lone point passes the byte check and fails here
        if data.u < self.last_sequence:
            self.duplicates += 1
            return
        self.last_sequence = data.u
        self.last_quote = (bid, ask)
        self._publish(
            Ticker(
                exchange=EXCHANGE_NAME,
                symbol=self.symbol,
                ts_event_ns=None,
                ts_recv_ns=ts_recv_ns,
                bid_price=bid,
                bid_size=bid_size,
                ask_price=ask,
                ask_size=ask_size,
                crossed=at_or_above(bid, ask),
                sequence=data.u,
            )
        )

    def disconnected(self, ts_recv_ns: int, reason: str) -> None:
        self.last_sequence = 0  # whatever comes on a fresh socket is the newest


def at_or_above(bid: str, ask: str) -> bool:
    """Whether bid >= ask, exactly: floats decide only where they differ."""
    bid_float, ask_float = float(bid), float(ask)
    return bid_float > ask_float or (bid_float == ask_float and Decimal(bid) >= Decimal(ask))


class _NumberedTrades(Channel):
    """What `@trade` and `@aggTrade` share: ids that count up by one."""

    kind = "trades"

    def __init__(self, symbol: str, native: str, stream: Stream, put: Put, on_hole: OnHole) -> None:
        super().__init__(symbol, native, stream, put, on_hole)
        self.last_id: int | None = None
        self.last_event_ns = 0

    def _is_new(self, number: int, event_ns: int) -> bool:
        """Note a trade's number; tell of a hole before it; False for one that was seen."""
        last = self.last_id
        if last is not None:
            if number <= last and event_ns - self.last_event_ns < RESET_NS:
                self.duplicates += 1
                return False
            if number > last + 1:
                self._on_hole(self, Hole("missed trades", last + 1, number - 1, self.last_event_ns, event_ns))
        self.last_id = number
        self.last_event_ns = event_ns
        return True


class TradeChannel(_NumberedTrades):
    """`@trade`: every single match."""

    suffix = "@trade"

    def _decoders(self) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
        return msgspec.json.Decoder(Envelope[TradeFrame]), msgspec.json.Decoder(TradeFrame)

    def _on_data(self, data: TradeFrame, frame: bytes, ts_recv_ns: int) -> None:
        trade = self.trade(data.t, data.p, data.q, data.T, data.m, ts_recv_ns)
        if self._is_new(data.t, data.T * NS_PER_MS):
            self._publish(trade)

    def trade(self, number: int, price: str, size: str, time_ms: int, buyer_is_maker: bool, ts_recv_ns: int) -> Trade[str]:
        """The event of one match, from the stream or from REST; raises ValueError for bad numbers or times."""
        return Trade(
            exchange=EXCHANGE_NAME,
            symbol=self.symbol,
            ts_event_ns=ms_to_ns(time_ms),
            ts_recv_ns=ts_recv_ns,
            trade_id=str(number),
            side=Side.SELL if buyer_is_maker else Side.BUY,
            price=checked(price),
            size=checked(size),
        )


class AggTradeChannel(_NumberedTrades):
    """`@aggTrade`: the matches of one taker order at one price."""

    suffix = "@aggTrade"

    def _decoders(self) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
        return msgspec.json.Decoder(Envelope[AggTradeFrame]), msgspec.json.Decoder(AggTradeFrame)

    def _on_data(self, data: AggTradeFrame, frame: bytes, ts_recv_ns: int) -> None:
        trade = self.trade(data, ts_recv_ns)
        if self._is_new(data.a, data.T * NS_PER_MS):
            self._publish(trade)

    def trade(self, data: AggTradeFrame, ts_recv_ns: int) -> AggregateTrade[str]:
        """The event of one aggregate; raises ValueError for bad numbers or times."""
        return AggregateTrade(
            exchange=EXCHANGE_NAME,
            symbol=self.symbol,
            ts_event_ns=ms_to_ns(data.T),
            ts_recv_ns=ts_recv_ns,
            trade_id=str(data.a),
            side=Side.SELL if data.m else Side.BUY,
            price=checked(data.p),
            size=checked(data.q),
            first_trade_id=str(data.f),
            last_trade_id=str(data.l),
        )


class DayStatsChannel(Channel):
    """`@ticker`: rolling 24 hours, once a second."""

    suffix = "@ticker"
    kind = "daystats"

    def __init__(self, symbol: str, native: str, stream: Stream, put: Put, on_hole: OnHole, note: NoteDayStats) -> None:
        super().__init__(symbol, native, stream, put, on_hole)
        self._note = note

    def _decoders(self) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
        self.last_event_ms = 0
        return msgspec.json.Decoder(Envelope[DayStatsFrame]), msgspec.json.Decoder(DayStatsFrame)

    def _on_data(self, data: DayStatsFrame, frame: bytes, ts_recv_ns: int) -> None:
        exact(data.P)  # the only signed number
        event = DayStats(
            exchange=EXCHANGE_NAME,
            symbol=self.symbol,
            ts_event_ns=ms_to_ns(data.E),
            ts_recv_ns=ts_recv_ns,
            open=checked(data.o),
            high=checked(data.h),
            low=checked(data.l),
            last=checked(data.c),
            volume=checked(data.v),
            quote_volume=checked(data.q),
            change_percent=data.P,
            trade_count=data.n,
        )
        if self.last_event_ms > data.E:
            self.duplicates += 1
            return
        self.last_event_ms = data.E
        self._publish(event)
        self._note(event, self.native)


class CandleChannel(Channel):
    """`@kline_<interval>`: the running candle, and once closed, for good."""

    kind = "candles"

    def __init__(self, symbol: str, native: str, stream: Stream, put: Put, on_hole: OnHole, timeframe: str) -> None:
        self.suffix = f"@kline_{timeframe}"
        self.timeframe = timeframe
        self.last_open_ms = 0  # of the last closed candle
        super().__init__(symbol, native, stream, put, on_hole)

    def _decoders(self) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
        return msgspec.json.Decoder(Envelope[KlineFrame]), msgspec.json.Decoder(KlineFrame)

    def _on_data(self, data: KlineFrame, frame: bytes, ts_recv_ns: int) -> None:
        kline = data.k
        event = self.candle(
            (kline.t, kline.T), (kline.o, kline.h, kline.l, kline.c, kline.v, kline.q), kline.n, kline.x, data.E, ts_recv_ns
        )
        if kline.t <= self.last_open_ms:
            self.duplicates += 1
            return
        span_ms = kline.T + 1 - kline.t
        if self.last_open_ms and kline.t > self.last_open_ms + span_ms:
            first, last = self.last_open_ms + span_ms, kline.t - span_ms
            self.last_open_ms = last
            self._on_hole(self, Hole("missed candles", None, None, first * NS_PER_MS, (last + span_ms) * NS_PER_MS))
        if kline.x:
            self.last_open_ms = kline.t
        self._publish(event)

    def candle(
        self, span_ms: tuple[int, int], numbers: tuple[str, ...], count: int, closed: bool, event_ms: int, ts_recv_ns: int
    ) -> Candle[str]:
        """The event of one candle. `span_ms` is open and close as the venue counts (its last millisecond), `numbers` open, high,
        low, close, volume, quote volume; raises ValueError for bad numbers or times."""
        open_, high, low, close, volume, quote_volume = (checked(number) for number in numbers)
        return Candle(
            exchange=EXCHANGE_NAME,
            symbol=self.symbol,
            ts_event_ns=ms_to_ns(event_ms),
            ts_recv_ns=ts_recv_ns,
            timeframe=self.timeframe,
            open_ns=ms_to_ns(span_ms[0]),
            close_ns=ms_to_ns(span_ms[1]) + NS_PER_MS,
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=volume,
            quote_volume=quote_volume,
            trade_count=count,
            closed=closed,
        )
