"""An account's facts as messages for the bus."""

from __future__ import annotations

from dataclasses import dataclass

from common_models import Balance, Fill, Message, OrderUpdate
from connectors.journal_records import TrackedOrder
from connectors.order_entry import BalanceReport
from trading.order_state import Executed


@dataclass(frozen=True, slots=True)
class AccountName:
    """Whose facts they are."""

    exchange: str
    account: str


def order_update(
    name: AccountName, order: TrackedOrder, cause: Message | None, ts_recv_ns: int, code: str = "", reason: str = ""
) -> OrderUpdate:
    """The present state of an order; `code` and `reason` are those of a command about it, else the order's own."""
    state, terms, command = order.state, order.terms, order.command
    return OrderUpdate(
        exchange=name.exchange,
        account=name.account,
        ts_event_ns=max((report.at_ns for report in order.knowledge.reports.values()), default=0) or None,
        ts_recv_ns=ts_recv_ns,
        causation_id=_message_id(cause or command),
        correlation_id=command.correlation_id if command is not None else "",
        client_order_id=order.client_order_id,
        symbol=terms.symbol,
        side=terms.side,
        order_type=terms.order_type,
        status=state.status,
        quantity=terms.quantity,
        filled_quantity=state.filled_quantity,
        filled_quote=state.filled_quote,
        revision=order.revision,
        time_in_force=terms.time_in_force,
        price=terms.price,
        stop_price=terms.stop_price,
        command_id=command.command_id if command is not None else "",
        strategy=command.strategy if command is not None else "",
        exchange_order_id=state.exchange_order_id,
        code=code or state.code,
        reason=reason or state.reason,
        external=order.external,
        reduce_only=terms.reduce_only,
        operator_review=state.operator_review,
        made_by=command.made_by if command is not None else (),
    )


def fill_event(name: AccountName, order: TrackedOrder, fill: Executed, cause: Message | None, ts_recv_ns: int) -> Fill:
    """One execution of an order."""
    command = order.command
    return Fill(
        exchange=name.exchange,
        account=name.account,
        ts_event_ns=fill.at_ns,
        ts_recv_ns=ts_recv_ns,
        causation_id=_message_id(cause or command),
        correlation_id=command.correlation_id if command is not None else "",
        trade_id=fill.trade_id,
        client_order_id=order.client_order_id,
        exchange_order_id=fill.exchange_order_id,
        symbol=order.terms.symbol,
        side=order.terms.side,
        price=fill.price,
        quantity=fill.quantity,
        quote_quantity=fill.quote_quantity,
        fee=fill.fee,
        fee_asset=fill.fee_asset,
        liquidity=fill.liquidity,
        strategy=command.strategy if command is not None else "",
        external=order.external,
    )


def balance_event(name: AccountName, report: BalanceReport, ts_recv_ns: int) -> Balance:
    """One asset of the account."""
    return Balance(
        exchange=name.exchange,
        account=name.account,
        ts_event_ns=report.at_ns,
        ts_recv_ns=ts_recv_ns,
        asset=report.asset,
        free=report.free,
        locked=report.locked,
    )


def _message_id(cause: Message | None) -> str:
    return cause.message_id if cause is not None else ""
