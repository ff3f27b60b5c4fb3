"""The order book of Binance spot: updates joined with a snapshot by the documented rule, and the ready-made partial books.

Source: binance-spot-api-docs, web-socket-streams.md, "How to manage a local order book correctly", read 2026-07-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bus.streams import Stream
from common_models import OrderBook
from common_models.decimals import checked
from common_models.timestamps import NS_PER_MS, ms_to_ns
from connectors.exchange import Put
from connectors.exchanges.binance.channels import EXCHANGE_NAME, Channel, Hole, OnHole, at_or_above
from connectors.exchanges.binance.wire import DepthFrame, DepthSnapshot, Envelope, TextLevels, plain_numbers
from trading.order_book import DepthBook

MAX_BUFFERED = 5_000
RESET_MS = 1_000
MAX_LEVELS = 10_000
"""Levels kept on a side before the far half is forgotten: hostile frames may not grow a book without end."""


class DepthChannel(Channel):
    """`@depth@100ms` joined with a REST snapshot by the documented rule, published as full top-N snapshots.

    Until a snapshot bridges to the buffered updates, and from the first missing update on, the published book is invalid.
    """

    kind = "books"

    def __init__(self, symbol: str, native: str, stream: Stream, put: Put, on_hole: OnHole, *, suffix: str, depth: int) -> None:
        self.suffix = suffix
        super().__init__(symbol, native, stream, put, on_hole)
        self.book = DepthBook(depth)
        self.live = False
        self._buffer: list[tuple[DepthFrame, int]] = []
        self._event_ms = 0  # of the last update applied since the snapshot, which has no time

    def _decoders(self) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
        return msgspec.json.Decoder(Envelope[DepthFrame]), msgspec.json.Decoder(DepthFrame)

    def _on_data(self, data: DepthFrame, frame: bytes, ts_recv_ns: int) -> None:
        if not plain_numbers(frame, b'"b":', b"ba"):
            check_levels(data.b, data.a)
        ms_to_ns(data.E)
        if data.u < data.U:
            raise ValueError(f"update runs backwards: U {data.U} u {data.u}")
        if not self.live:
            if len(self._buffer) >= MAX_BUFFERED:
                del self._buffer[: MAX_BUFFERED // 2]  # the snapshot will be asked for again, since it cannot bridge now
            self._buffer.append((data, ts_recv_ns))
            return
        sequence = self.book.sequence
        if data.u <= sequence:
            if self._event_ms and self._event_ms + RESET_MS < data.E:  # an old number in a new message: one of them is wrong
                self._lose(Hole("update numbers ran backwards", data.U, sequence, ts_recv_ns, ts_recv_ns), ts_recv_ns)
                self._buffer.append((data, ts_recv_ns))
                return
            self.duplicates += 1
        elif sequence + 1 < data.U:
            self._lose(Hole("missed book updates", sequence + 1, data.U - 1, ts_recv_ns, ts_recv_ns), ts_recv_ns)
            self._buffer.append((data, ts_recv_ns))
        else:
            self._apply(data, ts_recv_ns)

    def _apply(self, data: DepthFrame, ts_recv_ns: int) -> None:
        book = self.book
        book.apply(data.b, data.a, data.u)
        self._event_ms = data.E
        if len(book.bids) > MAX_LEVELS or len(book.asks) > MAX_LEVELS:
            book.forget_beyond(MAX_LEVELS // 2)
        self._publish_book(data.E * NS_PER_MS, ts_recv_ns)

    def _publish_book(self, ts_event_ns: int | None, ts_recv_ns: int) -> None:
        """The best levels when the book is live, and no levels when it is not."""
        book, live = self.book, self.live
        self._put(
            self.stream,
            OrderBook(
                exchange=EXCHANGE_NAME,
                symbol=self.symbol,
                ts_event_ns=ts_event_ns,
                ts_recv_ns=ts_recv_ns,
                sequence=book.sequence,
                valid=live,
                crossed=live and book.crossed,
                bids=msgspec.Raw(book.bids.top_json() if live else "[]"),
                asks=msgspec.Raw(book.asks.top_json() if live else "[]"),
            ),
        )

    def on_snapshot(self, snapshot: DepthSnapshot, ts_recv_ns: int) -> bool:
        """Join a REST snapshot with the buffered updates; False when it is too old and must be asked for again.

        Raises ValueError when its numbers are malformed.
        """
        if self.live:
            return True
        last_id = snapshot.lastUpdateId
        check_levels(snapshot.bids, snapshot.asks)
        while self._buffer and self._buffer[0][0].u <= last_id:
            del self._buffer[0]
        if self._buffer and last_id + 1 < self._buffer[0][0].U:
            return False
        self.book.load(snapshot.bids, snapshot.asks, last_id)
        self._event_ms = 0
        self.live = True
        buffered, self._buffer = self._buffer, []
        if not buffered:
            self._publish_book(None, ts_recv_ns)  # a snapshot has no venue time
        for data, at_ns in buffered:
            if not self.live:
                self._buffer.append((data, at_ns))  # a hole among the buffered ones
            elif self.book.sequence + 1 < data.U:
                self._lose(Hole("missed book updates", self.book.sequence + 1, data.U - 1, at_ns, at_ns), at_ns)
                self._buffer.append((data, at_ns))
            elif data.u > self.book.sequence:
                self._apply(data, at_ns)
        return True

    def malformed(self, ts_recv_ns: int) -> None:
        self._lose(Hole("malformed book update", None, None, ts_recv_ns, ts_recv_ns), ts_recv_ns)

    def disconnected(self, ts_recv_ns: int, reason: str) -> None:
        self._buffer.clear()
        if self.live:
            self._lose(Hole(reason, None, None, self.last_recv_ns, ts_recv_ns), ts_recv_ns)

    def _lose(self, hole: Hole, ts_recv_ns: int) -> None:
        """Mark the book invalid before anyone can read on, then tell of the hole."""
        if not self.live:
            return
        self.live = False
        self._publish_book(None, ts_recv_ns)
        self.publish_gap(hole, ts_recv_ns, healed=False)
        self._on_hole(self, hole)


class PartialDepthChannel(Channel):
    """`@depth5`, `@depth10`, `@depth20`: the venue's own top of the book, without symbol or time in it."""

    kind = "books"

    def __init__(self, symbol: str, native: str, stream: Stream, put: Put, on_hole: OnHole, *, suffix: str) -> None:
        self.suffix = suffix
        self.last_sequence = 0
        super().__init__(symbol, native, stream, put, on_hole)

    def _decoders(self) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
        return msgspec.json.Decoder(Envelope[DepthSnapshot]), msgspec.json.Decoder(DepthSnapshot)

    def _on_data(self, data: DepthSnapshot, frame: bytes, ts_recv_ns: int) -> None:
        check_levels(data.bids, data.asks)
        if data.lastUpdateId < self.last_sequence:
            self.duplicates += 1
            return
        self.last_sequence = data.lastUpdateId
        self._publish(
            OrderBook(
                exchange=EXCHANGE_NAME,
                symbol=self.symbol,
                ts_event_ns=None,
                ts_recv_ns=ts_recv_ns,
                sequence=data.lastUpdateId,
                valid=True,
                crossed=bool(data.bids and data.asks) and at_or_above(data.bids[0][0], data.asks[0][0]),
                bids=msgspec.Raw(msgspec.json.encode(data.bids)),
                asks=msgspec.Raw(msgspec.json.encode(data.asks)),
            )
        )

    def disconnected(self, ts_recv_ns: int, reason: str) -> None:
        self.last_sequence = 0


def check_levels(*sides: TextLevels) -> None:
    """Raise NumberError unless every price and size is a plain bounded number."""
    for side in sides:
        for price, size in side:
            checked(price)
            checked(size)
