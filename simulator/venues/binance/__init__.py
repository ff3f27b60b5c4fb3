"""Binance spot, as its clients see it: REST, market streams and the WebSocket API on one port."""

from simulator.venues.binance.venue import BinanceVenue as VENUE  # noqa: N814 the name that the simulator looks for

__all__ = ["VENUE"]
