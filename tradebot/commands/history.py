"""`tradebot orders|positions|trades|balance|explain`: what Postgres remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import typer

from runtime.endpoints import postgres_url
from runtime.settings import Settings
from tradebot.commands.context import AsJson, Limit, print_json, print_rows, say, settings_of
from tradebot.exit_codes import CommandError, ExitCode

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    for command in (orders, positions, trades, balance, explain):
        app.command()(command)


def ask(settings: Settings, question: Callable[[Any], Awaitable[T]]) -> T:
    """Ask the history one question; a database that is away or not migrated becomes one line."""
    import asyncpg

    from postgres.pool import Link
    from postgres.schema import SchemaError

    async def work() -> T:
        link = Link(lambda: postgres_url(settings), settings.mode.value, settings.postgres)
        try:
            return await question(await link.connection())
        finally:
            await link.close()

    try:
        return asyncio.run(work())
    except (OSError, asyncpg.CannotConnectNowError) as error:
        raise CommandError(f"the database does not answer: {error or type(error).__name__}", ExitCode.NOT_RUNNING) from None
    except (SchemaError, asyncpg.PostgresError) as error:
        raise CommandError(f"the database refuses: {error}") from None


def orders(
    context: typer.Context,
    open_only: Annotated[bool, typer.Option("--open", help="Only orders that may still fill.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Print the orders that changed last."""
    from postgres import queries

    found = ask(settings_of(context), queries.open_orders if open_only else lambda source: queries.recent_orders(source, limit))
    if as_json:
        print_json(found[:limit])
        return
    rows = [
        {
            "changed": clock(order.ts_recv_ns),
            "client_order_id": order.client_order_id,
            "symbol": order.symbol,
            "side": order.side.value,
            "type": order.order_type.value,
            "quantity": plain(order.quantity),
            "filled": plain(order.filled_quantity),
            "price": plain(order.price),
            "status": order.status.value,
            "reason": order.reason,
        }
        for order in found[:limit]
    ]
    print_rows(rows, as_json=False, empty="no open orders" if open_only else "no orders yet")


def positions(context: typer.Context, as_json: AsJson = False) -> None:
    """Print what is held, by strategy, with its profit.

    `dust` is what a sale left over, too little for an order.
    """
    import msgspec

    from postgres import queries
    from tradebot.open_positions import state_of

    async def look_up(source: Any) -> list[tuple[Any, str]]:
        found = await queries.positions(source)
        exchanges = {position.exchange for position in found}
        rules = {(item.exchange, item.symbol): item for name in exchanges for item in await queries.instruments(source, name)}
        return [(position, state_of(position, rules.get((position.exchange, position.symbol)))) for position in found]

    found = ask(settings_of(context), look_up)
    if as_json:
        print_json([{**msgspec.to_builtins(position), "state": state} for position, state in found])
        return
    rows = [
        {
            "exchange": position.exchange,
            "account": position.account,
            "strategy": position.strategy,
            "symbol": position.symbol,
            "state": state,
            "quantity": plain(position.quantity),
            "cost": plain(position.cost),
            "mark": plain(position.mark_price),
            "realised": plain(position.realised),
            "unrealised": plain(position.unrealised),
            "fees": plain(position.fees),
        }
        for position, state in found
    ]
    print_rows(rows, as_json=False, empty="no positions yet")


def trades(context: typer.Context, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Print the newest fills of our orders."""
    from postgres import queries

    found = ask(settings_of(context), lambda source: queries.recent_fills(source, limit))
    rows = [
        {
            "time": clock(fill.ts_event_ns or fill.ts_recv_ns),
            "symbol": fill.symbol,
            "side": fill.side.value,
            "quantity": plain(fill.quantity),
            "price": plain(fill.price),
            "fee": f"{plain(fill.fee)} {fill.fee_asset}",
            "liquidity": fill.liquidity.value,
            "trade_id": fill.trade_id,
            "client_order_id": fill.client_order_id,
        }
        for fill in found
    ]
    print_json(found) if as_json else print_rows(rows, as_json=False, empty="no fills yet")


def balance(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the latest balances of every account."""
    from postgres import queries

    found = ask(settings_of(context), queries.balances)
    rows = [
        {
            "exchange": item.exchange,
            "account": item.account,
            "asset": item.asset,
            "free": plain(item.free),
            "locked": plain(item.locked),
            "total": plain(item.total),
        }
        for item in found
    ]
    print_json(found) if as_json else print_rows(rows, as_json=False, empty="no balances yet")


def explain(
    context: typer.Context,
    order: Annotated[str, typer.Argument(help="Our client order id, or the exchange's order id.")],
    as_json: AsJson = False,
) -> None:
    """Tell the story of one order: its states and its fills."""
    from postgres import queries

    async def look_up(source: Any) -> tuple[Any, Sequence[Any], Sequence[Any]]:
        found = await queries.order_by_id(source, order)
        if found is None:
            return None, (), ()
        history = await queries.order_history(source, found.client_order_id)
        return found, history, await queries.fills_of_order(source, found.client_order_id)

    found, history, fills = ask(settings_of(context), look_up)
    if found is None:
        raise CommandError(f"no order {order!r} in the history", ExitCode.NOT_FOUND)
    if as_json:
        print_json({"order": found, "states": history, "fills": fills})
        return
    where = f"{found.exchange}/{found.account}"
    say(f"{found.side.value} {plain(found.quantity)} {found.symbol} on {where}, for {found.strategy or 'nobody of ours'}")
    say(f"ours {found.client_order_id}, theirs {found.exchange_order_id or '-'}, command {found.command_id or '-'}")
    for state in history:
        why = f"  {state.code} {state.reason}".rstrip()
        say(f"{clock(state.ts_recv_ns)}  {state.status.value:<16} filled {plain(state.filled_quantity)}{why}")
    for fill in fills:
        fee = f"{plain(fill.fee)} {fill.fee_asset}"
        say(f"{clock(fill.ts_recv_ns)}  fill {fill.trade_id}: {plain(fill.quantity)} at {plain(fill.price)}, fee {fee}")


def clock(ts_ns: int) -> str:
    """UTC time to the millisecond."""
    moment = datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ts_ns // 1_000_000 % 1000:03d}Z"


def plain(number: Decimal | None) -> str:
    """A number for people: no exponent, no trailing zeros."""
    from common_models.decimals import plain as exact_text

    return "-" if number is None else exact_text(number)
