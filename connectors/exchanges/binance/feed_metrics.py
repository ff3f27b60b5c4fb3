"""What the market-data feed tells of itself in numbers, read when someone scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from common_models.timestamps import NS_PER_S
from connectors.exchanges.binance.channels import EXCHANGE_NAME
from connectors.exchanges.binance.decoder import Decoder
from connectors.exchanges.binance.depth import DepthChannel
from runtime.clock import now_ns
from runtime.metrics import expose_counter, expose_counters, expose_gauge, expose_gauges

Values = dict[tuple[str, ...], float]


class FeedMetrics:
    """Frames, gaps, silence and books of one feed; `holes_waiting` counts the holes that wait to be fetched."""

    def __init__(self, decoder: Decoder, holes_waiting: Callable[[], int]) -> None:
        self._decoder = decoder
        self._channels = decoder.channels
        self._holes_waiting = holes_waiting
        self._made_ns = now_ns()

    def expose(self) -> None:
        """Publish all of it."""
        labels, decoder = {"exchange": EXCHANGE_NAME}, self._decoder
        expose_counter("tradebot_frames", "Messages taken from market-data sockets", labels, lambda: decoder.frames)
        expose_counter("tradebot_frames_rejected", "Messages that could not be read", labels, decoder.rejected.total)
        expose_counter("tradebot_frames_duplicate", "Messages seen before", labels, self._duplicates)
        expose_counters("tradebot_feed_gaps", "Gap messages published", labels, ("stream", "healed"), self._gaps)
        expose_gauge("tradebot_feed_holes_waiting", "Holes in the data waiting to be fetched", labels, self._holes_waiting)
        expose_gauges("tradebot_book_valid", "Whether the order book may be used", labels, ("symbol",), self._books)
        by = ("symbol", "channel")
        expose_gauges("tradebot_feed_stale_seconds", "Since this subscription last spoke", labels, by, self._stale_s)

    def _duplicates(self) -> float:
        return sum(channel.duplicates for channel in self._channels.values())

    def _gaps(self) -> Values:
        found: Counter[tuple[str, ...]] = Counter()
        for channel in self._channels.values():
            for healed, gaps in channel.gaps.items():
                found[channel.stream.label, "true" if healed else "false"] += gaps
        return dict(found)

    def _books(self) -> Values:
        return {(channel.symbol,): channel.live for channel in self._channels.values() if isinstance(channel, DepthChannel)}

    def _stale_s(self) -> Values:
        """By the first word of the channel's suffix: `@depth@100ms` is `depth`."""
        at_ns = now_ns()
        return {
            (channel.symbol, channel.suffix.split("@")[1]): (at_ns - (channel.last_recv_ns or self._made_ns)) / NS_PER_S
            for channel in self._channels.values()
        }
