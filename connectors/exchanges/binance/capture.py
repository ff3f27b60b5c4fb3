"""Binance spot's captured messages: any of its streams, with the REST replies that were captured among them."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import msgspec

from bus.streams import Streams
from common_models import SymbolError
from connectors.exchange import Put
from connectors.exchanges.binance.channels import Channel, Hole
from connectors.exchanges.binance.decoder import DIFF_SUFFIXES, UNREADABLE, Decoder, channel_name
from connectors.exchanges.binance.depth import DepthChannel
from connectors.exchanges.binance.instruments import ExchangeInfo
from connectors.exchanges.binance.symbols import split_native
from connectors.exchanges.binance.wire import AnyFrame, DepthSnapshot

BOOK_DEPTH = 20

_any_frame = msgspec.json.Decoder(AnyFrame)


class BinanceCapture:
    """Subscribes to each stream as it first appears; reads `/depth` and `/exchangeInfo` bodies where they stand."""

    def __init__(self, put: Put) -> None:
        self._decoder = Decoder(Streams("capture"), put, self._on_hole, lambda *_: None, BOOK_DEPTH)
        self._symbols: dict[str, str] = {}

    @property
    def rejected(self) -> int:
        return self._decoder.rejected.total()

    @property
    def unsynced(self) -> tuple[str, ...]:
        books = self._decoder.channels.values()
        return tuple(book.symbol for book in books if isinstance(book, DepthChannel) and not book.live)

    def on_line(self, url: str, raw: bytes, ts_recv_ns: int) -> None:
        if url.startswith("http"):
            self._on_body(url, raw, ts_recv_ns)
            return
        self._subscribe(raw)
        self._decoder.on_frame(raw, ts_recv_ns)

    def _subscribe(self, raw: bytes) -> None:
        """Make a channel for a stream that is seen for the first time; what cannot be told is left to the decoder to count."""
        name = raw[11 : raw.find(b'"', 11, 100)].decode("utf-8", "replace") if raw.startswith(b'{"stream":"') else ""
        if not name:
            try:
                head = _any_frame.decode(raw)
                name = head.stream or channel_name(_any_frame.decode(head.data) if head.data else head)
            except UNREADABLE:
                return
        native, at, suffix = name.partition("@")
        if not at or name in self._decoder.channels:
            return
        native = native.upper()
        try:
            self._decoder.subscribe(self._symbols.get(native) or split_native(native), native, [at + suffix])
        except (SymbolError, ValueError):
            return

    def _on_body(self, url: str, raw: bytes, ts_recv_ns: int) -> None:
        parts = urlsplit(url)
        try:
            if parts.path.endswith("/exchangeInfo"):
                for market in msgspec.json.decode(raw, type=ExchangeInfo).symbols:
                    self._symbols[market.symbol] = f"{market.baseAsset}/{market.quoteAsset}"
            elif parts.path.endswith("/depth"):
                native = parse_qs(parts.query).get("symbol", [""])[0].upper()
                self._on_snapshot(native, msgspec.json.decode(raw, type=DepthSnapshot), ts_recv_ns)
        except UNREADABLE as error:
            self._decoder.reject(None, raw, error, ts_recv_ns)

    def _on_snapshot(self, native: str, snapshot: DepthSnapshot, ts_recv_ns: int) -> None:
        names = [native.lower() + suffix for suffix in DIFF_SUFFIXES]
        if not any(name in self._decoder.channels for name in names):
            self._decoder.subscribe(self._symbols.get(native) or split_native(native), native, DIFF_SUFFIXES[:1])
        for name in names:
            channel = self._decoder.channels.get(name)
            if isinstance(channel, DepthChannel):
                channel.on_snapshot(snapshot, ts_recv_ns)

    def _on_hole(self, channel: Channel, hole: Hole) -> None:
        """Nothing can be fetched for a capture: say that it is missing."""
        if not isinstance(channel, DepthChannel):
            channel.publish_gap(hole, hole.to_ns, healed=False)
