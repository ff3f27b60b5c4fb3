"""The last public trades of one market and its counters, in a memory-mapped ring: it survives `kill -9` without a system call."""

from __future__ import annotations

import mmap
import os
import struct
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from common_models.base import Side

_HEADER = struct.Struct("<8sqqqqq")  # magic, capacity, next trade id, next aggregate id, update id, next order id
_RECORD = struct.Struct("<qqqqqq")  # trade id, aggregate id, price, size (both in 1e-8), time, 1 when the taker bought
_MAGIC = b"TAPE0001"
_SCALE = 8


class PublicTrade(NamedTuple):
    """One match as everyone sees it. `aggregate_id` is shared by the matches of one taker order at one price."""

    trade_id: int
    aggregate_id: int
    price: Decimal
    size: Decimal
    ts_ns: int
    taker_side: Side

    @property
    def quote_size(self) -> Decimal:
        return self.price * self.size


class Tape:
    """A ring of `capacity` trades whose ids count up by one. `path` None keeps it in memory only."""

    def __init__(self, path: Path | None, capacity: int = 8192) -> None:
        self._capacity = capacity
        size = _HEADER.size + capacity * _RECORD.size
        if path is None:
            self._map = mmap.mmap(-1, size)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.ftruncate(handle, size)
                self._map = mmap.mmap(handle, size)
            finally:
                os.close(handle)
        magic, stored, trade_id, aggregate_id, update_id, order_id = _HEADER.unpack_from(self._map, 0)
        known = magic == _MAGIC and stored == capacity
        self.next_trade_id: int = trade_id if known else 1
        self.next_aggregate_id: int = aggregate_id if known else 1
        self.update_id: int = update_id if known else 0
        self.next_order_id: int = order_id if known else 1
        self.first_trade_id = max(1, self.next_trade_id - capacity)

    def close(self) -> None:
        self._map.close()

    def add(self, trade: PublicTrade) -> None:
        """Keep one more trade; ids only rise."""
        slot = _HEADER.size + (trade.trade_id % self._capacity) * _RECORD.size
        _RECORD.pack_into(
            self._map,
            slot,
            trade.trade_id,
            trade.aggregate_id,
            int(trade.price.scaleb(_SCALE)),
            int(trade.size.scaleb(_SCALE)),
            trade.ts_ns,
            trade.taker_side is Side.BUY,
        )
        self.next_trade_id = trade.trade_id + 1
        self.next_aggregate_id = trade.aggregate_id + 1
        self.first_trade_id = max(self.first_trade_id, self.next_trade_id - self._capacity)

    def mark(self, update_id: int, next_order_id: int) -> None:
        """Write the counters down: after this call no later run uses them again."""
        self.update_id, self.next_order_id = update_id, next_order_id
        _HEADER.pack_into(
            self._map, 0, _MAGIC, self._capacity, self.next_trade_id, self.next_aggregate_id, update_id, next_order_id
        )

    def last(self, count: int) -> list[PublicTrade]:
        """The newest `count` trades, oldest first."""
        return self.since(self.next_trade_id - count, count)

    def since(self, trade_id: int, count: int) -> list[PublicTrade]:
        """Up to `count` trades from `trade_id` on, as far as they are still kept."""
        first = max(trade_id, self.first_trade_id)
        read = (self._read(number) for number in range(first, min(first + count, self.next_trade_id)))
        return [trade for trade in read if trade is not None]

    def _read(self, trade_id: int) -> PublicTrade | None:
        slot = _HEADER.size + (trade_id % self._capacity) * _RECORD.size
        number, aggregate_id, price, size, ts_ns, bought = _RECORD.unpack_from(self._map, slot)
        if number != trade_id:  # a replay may skip ids
            return None
        return PublicTrade(
            number,
            aggregate_id,
            Decimal(price).scaleb(-_SCALE),
            Decimal(size).scaleb(-_SCALE),
            ts_ns,
            Side.BUY if bought else Side.SELL,
        )
