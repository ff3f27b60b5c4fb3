"""Positions, orders on their way and balances: the state that records build up, and nothing that is not in a record.

Live and after a restart the same `apply` runs over the same records, so there is one path to every state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

import structlog

from bot.order_planner import order_mark
from bot.records import (
    STRATEGY,
    AnyRecord,
    BalanceTold,
    CommandDecided,
    CommandEnded,
    FillApplied,
    OrderState,
    PositionKey,
    Snapshot,
)
from common_models import Balance, Fill, OrderUpdate, PlaceOrder, Position, RoundTrip
from common_models.decimals import MAX_DIGITS, ZERO
from trading.decimal_context import exact_arithmetic
from trading.ledger import Ledger, LedgerError, Trip, currencies, valued
from trading.risk import reserved_money

log = structlog.get_logger(__name__)

REMEMBERED = 2_000
"""Command ids and round trips that are kept after they are over, to recognise what comes again."""

Marks = Callable[[str, str], Decimal | None]
"""The present price of (exchange, symbol), None when there is none."""


class Portfolio:
    """What the bot holds and awaits. `marks` prices what is held and fees paid in third assets."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self.ledgers: dict[PositionKey, Ledger] = {}
        self.orders: dict[str, OrderState] = {}
        self.balances: dict[tuple[str, str, str], Balance] = {}
        self.exit_reasons: dict[PositionKey, str] = {}
        self.last_order_ns: dict[PositionKey, int] = {}
        self.wanted_by: dict[PositionKey, tuple[str, ...]] = {}  # the plugins behind the last entry, as name@version
        self._decided: dict[str, None] = {}
        self._by_mark: dict[str, str] = {}
        self._round_trips: dict[tuple[PositionKey, str], RoundTrip] = {}
        self.changed: Callable[[PositionKey], None] = _ignore
        """Called after anything of a position changed."""

    # -- what was

    def apply(self, record: AnyRecord) -> None:
        """Take in one record; one that was applied before changes nothing."""
        match record:
            case CommandDecided():
                self._apply_decided(record)
            case CommandEnded():
                self._apply_ended(record)
            case FillApplied():
                self._apply_fill(record)
            case BalanceTold(balance=balance):
                self.balances[balance.exchange, balance.account, balance.asset] = balance
            case Snapshot():
                self._apply_snapshot(record)

    def snapshot(self) -> Snapshot:
        """The whole state as one record."""
        return Snapshot(
            ledgers=list(self.ledgers.items()),
            orders=list(self.orders.values()),
            balances=list(self.balances.values()),
            decided_ids=list(self._decided),
            exit_reasons=list(self.exit_reasons.items()),
            last_order_ns=list(self.last_order_ns.items()),
            wanted_by=list(self.wanted_by.items()),
        )

    # -- what is

    def is_decided(self, command_id: str) -> bool:
        """Whether this command was decided before: lately, in this life or an earlier one."""
        return command_id in self._decided

    def orders_of(self, key: PositionKey, *, exits: bool | None = None) -> Iterator[OrderState]:
        """Orders of a position that are not over: all, only exits, or only entries."""
        for order in self.orders.values():
            if key_of(order.decided.command) == key and exits in (None, bool(order.decided.exit_reason)):
                yield order

    def quantity(self, key: PositionKey) -> Decimal:
        """What is held in base currency."""
        ledger = self.ledgers.get(key)
        return ledger.quantity if ledger else ZERO

    def positions(self, strategy: str) -> Iterator[PositionKey]:
        """The positions of a strategy that hold something, dust included."""
        return (key for key, ledger in self.ledgers.items() if ledger.lots and key.strategy == strategy)

    def free(self, exchange: str, account: str, asset: str) -> Decimal | None:
        """The free balance, None when it was never told."""
        balance = self.balances.get((exchange, account, asset))
        return balance.free if balance else None

    def reserved(self, exchange: str, account: str, quote: str) -> Decimal:
        """Quote currency that orders on their way may still take, UNKNOWN ones included."""
        return reserved_money(
            (order.decided.command, order.filled_quantity, order.decided.expected_price)
            for order in self.orders.values()
            if (order.decided.command.exchange, order.decided.command.account) == (exchange, account)
            and currencies(order.decided.command.symbol)[1] == quote
        )

    def equity(self, exchange: str, account: str, quote: str) -> Decimal | None:
        """The quote balance plus our positions against it at the mark; other holdings are not ours. None: never told."""
        balance = self.balances.get((exchange, account, quote))
        if balance is None:
            return None
        with exact_arithmetic():
            equity = balance.total
            for key, ledger in self.ledgers.items():
                if (key.exchange, key.account) == (exchange, account) and currencies(key.symbol)[1] == quote:
                    equity += ledger.quantity * (self._marks(exchange, key.symbol) or ZERO)
            return equity

    def position(self, key: PositionKey, now_ns: int) -> Position:
        """The position as others see it: at the mark, numbers cut to the digits that the database keeps."""
        ledger = self.ledgers[key]
        mark = self._marks(key.exchange, key.symbol)
        return Position(
            exchange=key.exchange,
            account=key.account,
            ts_event_ns=None,
            ts_recv_ns=now_ns,
            symbol=key.symbol,
            strategy=key.strategy,
            quantity=shown(ledger.quantity),
            cost=shown(ledger.cost),
            realised=shown(ledger.realised),
            unrealised=ZERO if mark is None else shown(ledger.unrealised(mark)),
            fees=shown(self._fees(key, ledger.fees, ledger.other_fees)),
            mark_price=mark,
        )

    def strategy_of(self, fill: Fill) -> str:
        """Whose fill it is: as the connector says, by the order that we decided, or STRATEGY's; empty when it is not ours."""
        if fill.external:
            return ""
        if fill.strategy:
            return fill.strategy
        command_id = self._by_mark.get(fill.client_order_id[-24:])
        return self.orders[command_id].decided.command.strategy if command_id else STRATEGY

    def order_of(self, update: OrderUpdate) -> OrderState | None:
        """The order that an update is about; None when it is over or not ours."""
        return self.orders.get(update.command_id or self._by_mark.get(update.client_order_id[-24:], ""))

    def note_status(self, update: OrderUpdate) -> None:
        """Remember what the connector says of an order that goes on: not durable, it says it again after a restart."""
        order = self.order_of(update)
        if order is not None and not update.status.terminal:
            order.status = update.status

    def round_trip_ended_by(self, key: PositionKey, trade_id: str) -> RoundTrip | None:
        """The round trip that a fill completed, also when the fill is delivered again."""
        return self._round_trips.get((key, trade_id))

    # -- how records change it

    def _apply_decided(self, record: CommandDecided) -> None:
        command = record.command
        if command.command_id in self._decided:
            return
        self._remember(command.command_id)
        self._await(OrderState(decided=record))
        key = key_of(command)
        self.last_order_ns[key] = max(self.last_order_ns.get(key, 0), command.created_at_ns)
        if record.exit_reason:
            self.exit_reasons[key] = record.exit_reason
        else:
            self.exit_reasons.pop(key, None)  # of dust that an earlier exit left
            self.wanted_by[key] = command.made_by
        self.changed(key)

    def _apply_ended(self, record: CommandEnded) -> None:
        order = self.orders.get(record.command_id)
        if order is None:
            return
        order.status = record.status
        order.final_quantity = max(record.filled_quantity, order.final_quantity or ZERO)
        self._drop_if_over(order)

    def _apply_fill(self, record: FillApplied) -> None:
        fill = record.fill
        key = PositionKey(fill.exchange, fill.account, record.strategy, fill.symbol)
        ledger = self.ledgers.setdefault(key, Ledger(symbol=fill.symbol))
        if not ledger.apply(fill):
            return
        order = self.orders.get(self._by_mark.get(fill.client_order_id[-24:], ""))
        if order is not None:
            with exact_arithmetic():
                order.filled_quantity += fill.quantity
        if record.ends_trip:
            trip = ledger.end_trip()
            self.wanted_by.pop(key, None)  # what is left is dust, which nobody wanted
            reason = self.exit_reasons.pop(key, "external")
            if trip is not None:
                self._keep_round_trip(key, fill.trade_id, self._round_trip(key, trip, reason))
            self.last_order_ns[key] = max(self.last_order_ns.get(key, 0), fill.ts_recv_ns)
        if order is not None:
            self._drop_if_over(order)
        self.changed(key)

    def _apply_snapshot(self, record: Snapshot) -> None:
        self.ledgers = dict(record.ledgers)
        self.balances = {(balance.exchange, balance.account, balance.asset): balance for balance in record.balances}
        self._decided = dict.fromkeys(record.decided_ids)
        self.exit_reasons = dict(record.exit_reasons)
        self.last_order_ns = dict(record.last_order_ns)
        self.wanted_by = dict(record.wanted_by)
        self.orders, self._by_mark = {}, {}
        for order in record.orders:
            self._await(order)

    def _await(self, order: OrderState) -> None:
        command_id = order.decided.command.command_id
        self.orders[command_id] = order
        self._by_mark[order_mark(command_id)] = command_id

    def _drop_if_over(self, order: OrderState) -> None:
        if order.over:
            command = order.decided.command
            del self.orders[command.command_id]
            del self._by_mark[order_mark(command.command_id)]
            self.changed(key_of(command))

    def _remember(self, command_id: str) -> None:
        self._decided[command_id] = None
        if len(self._decided) > REMEMBERED:
            del self._decided[next(iter(self._decided))]

    def _keep_round_trip(self, key: PositionKey, trade_id: str, round_trip: RoundTrip) -> None:
        self._round_trips[key, trade_id] = round_trip
        if len(self._round_trips) > REMEMBERED:
            del self._round_trips[next(iter(self._round_trips))]

    def _round_trip(self, key: PositionKey, trip: Trip, reason: str) -> RoundTrip:
        fees = self._fees(key, trip.fees, trip.other_fees)
        with exact_arithmetic():
            profit = trip.side.sign * (trip.exit_value - trip.entry_value) - fees
        return RoundTrip(
            exchange=key.exchange,
            account=key.account,
            strategy=key.strategy,
            symbol=key.symbol,
            side=trip.side,
            quantity=shown(trip.quantity),
            entry_cost=shown(trip.entry_value),
            exit_proceeds=shown(trip.exit_value),
            fees=shown(fees),
            profit=shown(profit),
            opened_ns=trip.opened_ns,
            closed_ns=trip.closed_ns,
            exit_reason=reason,
            trade_ids=tuple(trip.trade_ids),
        )

    def _fees(self, key: PositionKey, fees: Decimal, others: Mapping[str, Decimal]) -> Decimal:
        """Fees in quote currency; those in an asset without a price are left out, and that is said."""
        quote = currencies(key.symbol)[1]
        marks = {asset: mark for asset in others if (mark := self._marks(key.exchange, f"{asset}/{quote}")) is not None}
        try:
            return valued(fees, others, marks)
        except LedgerError as error:
            log.warning("portfolio.fee_without_price", exchange=key.exchange, symbol=key.symbol, reason=str(error))
            return valued(fees, {asset: amount for asset, amount in others.items() if asset in marks}, marks)


def key_of(command: PlaceOrder) -> PositionKey:
    """The position that an order changes."""
    return PositionKey(command.exchange, command.account, command.strategy, command.symbol)


def shown(number: Decimal) -> Decimal:
    """The number for display and for the database: cut to 18 digits after the point where it has more."""
    exponent = number.as_tuple().exponent
    return round(number, MAX_DIGITS) if isinstance(exponent, int) and exponent < -MAX_DIGITS else number


def _ignore(_: PositionKey) -> None:
    return
