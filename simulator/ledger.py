"""The judge: an append-only record of all that the simulator accepted, written before the answer leaves.

One entry is one request or one market event with everything that it changed, in one line: either all of it happened, or none.
On start the entries are read back; that is the only recovery there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

import msgspec

from common_models.base import Side
from common_models.commands_events_models import Liquidity, OrderStatus, OrderType, TimeInForce
from common_models.decimals import ZERO
from runtime.append_log import AppendLog, read_records
from trading.matching_orders import EndReason, Order, SelfTrade


class EntryKind(StrEnum):
    DEPOSIT = "deposit"
    PLACE = "place"
    CANCEL = "cancel"
    MARKET = "market"  # someone else's order changed one of an account's
    REFUSED = "refused"  # a signed order request that changed nothing


class RequestIdentity(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a request came from: the way in, the client's own request id, its address and connection."""

    via: str
    request_id: str = ""
    remote: str = ""
    received_ns: int = 0


class OrderRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole state of one order after the entry."""

    order_id: int
    account: str
    symbol: str
    side: Side
    order_type: OrderType
    client_order_id: str
    quantity: Decimal
    created_ns: int
    updated_ns: int
    status: OrderStatus
    time_in_force: TimeInForce = TimeInForce.GTC
    price: Decimal | None = None
    quote_quantity: Decimal | None = None
    stop_price: Decimal | None = None
    post_only: bool = False
    self_trade: SelfTrade = SelfTrade.NONE
    filled: Decimal = ZERO
    filled_quote: Decimal = ZERO
    locked: Decimal = ZERO
    working_ns: int = 0
    end_reason: EndReason | None = None
    waiting: bool = False

    @classmethod
    def of(cls, order: Order) -> OrderRecord:
        return cls(**{name: getattr(order, name) for name in cls.__struct_fields__})

    def order(self) -> Order:
        return Order(**{name: getattr(self, name) for name in self.__struct_fields__})


class FillRecord(msgspec.Struct, frozen=True):
    """One side of a match: the one that belongs to an account."""

    trade_id: int
    account: str
    symbol: str
    order_id: int
    client_order_id: str
    side: Side
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: Liquidity
    ts_ns: int


class BalanceRecord(msgspec.Struct, frozen=True):
    """An asset of an account after the entry."""

    account: str
    asset: str
    free: Decimal
    locked: Decimal


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the ledger. `sequence` counts up by one over all runs; `ts_ns` is the simulator's clock, UTC nanoseconds."""

    sequence: int
    ts_ns: int
    kind: EntryKind
    request: RequestIdentity | None = None
    orders: tuple[OrderRecord, ...] = ()
    fills: tuple[FillRecord, ...] = ()
    balances: tuple[BalanceRecord, ...] = ()
    client_order_id: str = ""
    code: str = ""
    detail: str = ""


_decoder = msgspec.json.Decoder(Entry)


def read_entries(path: Path) -> Iterator[Entry]:
    """All entries of a ledger file, oldest first; raises AppendLogError for a damaged one."""
    for record in read_records(path):
        yield _decoder.decode(record)


class Ledger:
    """Write entries. `path` None keeps none (a replay that nobody judges)."""

    def __init__(self, path: Path | None, next_sequence: int = 1) -> None:
        self._log = AppendLog(path) if path is not None else None
        self._next_sequence = next_sequence
        self._encoder = msgspec.json.Encoder()
        self.failed: OSError | None = None

    @property
    def next_sequence(self) -> int:
        return self._next_sequence

    def write(
        self,
        kind: EntryKind,
        ts_ns: int,
        *,
        request: RequestIdentity | None = None,
        orders: tuple[OrderRecord, ...] = (),
        fills: tuple[FillRecord, ...] = (),
        balances: tuple[BalanceRecord, ...] = (),
        client_order_id: str = "",
        code: str = "",
        detail: str = "",
    ) -> int:
        """Append one entry and return its sequence; it is in the kernel when this returns.

        Raises OSError when the disk refuses; then `failed` is set and the simulator must stop: its memory is ahead of the file.
        """
        entry = Entry(self._next_sequence, ts_ns, kind, request, orders, fills, balances, client_order_id, code, detail)
        if self._log is not None:
            try:
                self._log.append(self._encoder.encode(entry))
            except OSError as error:
                self.failed = error
                raise
        self._next_sequence += 1
        return entry.sequence

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
