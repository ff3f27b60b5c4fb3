"""What a venue's account offers the gateway and reconciliation: requests in the venue's words, answers as facts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from common_models import CancelOrder, Instrument, PlaceOrder
from connectors.errors import ExchangeError
from connectors.journal_records import WireRequest
from connectors.venue_clock import VenueClock
from trading.order_state import Executed, OrderTerms, Reported


class OrderReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue says of one order: whose it is, what it asks for, how it stands, and the fills told in the same breath."""

    client_order_id: str
    terms: OrderTerms
    report: Reported
    fills: tuple[Executed, ...] = ()


class BalanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """One asset of the account as of `at_ns`, the venue's clock."""

    asset: str
    free: Decimal
    locked: Decimal
    at_ns: int


OnAnswer = Callable[[OrderReport | ExchangeError], None]
"""Called with the outcome of a request: at once or much later, and perhaps twice (a time-out, then the late answer)."""


class AccountListener(Protocol):
    """Who is told what the venue pushes. Calls are synchronous, from the socket's callback."""

    def on_order(self, report: OrderReport, ts_recv_ns: int) -> None: ...

    def on_balances(self, balances: Sequence[BalanceReport], ts_recv_ns: int) -> None: ...

    def on_orders_leg(self, connected: bool, reason: str) -> None:
        """The way for orders opened or closed."""

    def on_user_data_leg(self, connected: bool, reason: str) -> None:
        """The push of account events began or ended. After a beginning, what was missed must be asked for."""


class OrderEntry(Protocol):
    """One account at one venue. Queries raise TransientError when there is no usable answer: that is never evidence of absence."""

    name: str
    clock: VenueClock
    recv_window_s: float
    """W: how long after its time stamp the venue accepts a request."""
    settle_s: float
    """How long the venue itself may hold an accepted request before it executes (its own time-out)."""
    retention_s: float
    """How long a never-filled, cancelled order can be found."""
    unreadable: int
    """Messages that could not be read so far. Each has the account asked for anew."""

    async def run(self, listener: AccountListener, stop: asyncio.Event) -> None:
        """Keep the sockets until stopped."""

    def place(self, command: PlaceOrder, client_order_id: str, instrument: Instrument) -> WireRequest:
        """The request that places an order; raises OrderRejected for what the venue cannot express."""

    def cancel(self, command: CancelOrder, instrument: Instrument | None) -> WireRequest:
        """The request that cancels an order by our id."""

    def send(self, request: WireRequest, timestamp_ms: int, on_answer: OnAnswer) -> None:
        """Sign and write the request in this call. Raises NotSent when no byte left; after any other error one may have."""

    async def send_second_way(self, request: WireRequest, timestamp_ms: int, last_check: Callable[[], None]) -> OrderReport:
        """The same request by another way, for when `send` said NotSent.

        `last_check` is called immediately before the first byte and may raise NotSent. Raises ExchangeError.
        """

    async def measure_clock(self) -> None:
        """Measure the venue's clock; raises TransientError."""

    async def order(self, symbol: str, *, client_order_id: str = "", exchange_order_id: str = "") -> OrderReport | None:
        """One order by either id; None when the venue does not know it now."""

    async def open_orders(self) -> list[OrderReport]:
        """All open orders of the account."""

    async def fills(self, symbol: str, *, exchange_order_id: str = "", after_trade_id: int | None = None) -> list[Executed]:
        """Fills of one order, or all after a trade id; from the newest page alone when neither is given. Complete, or an error."""

    async def balances(self) -> list[BalanceReport]:
        """Every asset that is not zero."""
