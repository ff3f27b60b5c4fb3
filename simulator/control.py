"""The simulator's own addresses beside the venue's, for tests and people: faults, deposits, state, a replay's start."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

import msgspec
from aiohttp import web

from simulator.accounts import DEFAULT_ACCOUNT
from simulator.exchange import SimulatedExchange
from simulator.faults import FaultRule, Faults
from simulator.replay import Replay

T = TypeVar("T")


class _Deposit(msgspec.Struct, forbid_unknown_fields=True):
    """Money for an account; a negative amount is a withdrawal."""

    asset: str
    amount: Decimal
    account: str = DEFAULT_ACCOUNT


def add_control_routes(app: web.Application, exchange: SimulatedExchange, faults: Faults, replay: Replay | None) -> None:
    """Serve `/simulator/...` on `app`."""

    async def list_faults(_: web.Request) -> web.Response:
        return _json(faults.report())

    async def add_faults(request: web.Request) -> web.Response:
        for rule in await _read(request, list[FaultRule]):
            faults.add(rule)
        return _json(faults.report())

    async def clear_faults(_: web.Request) -> web.Response:
        report = faults.report()
        faults.clear()
        return _json(report)

    async def deposit(request: web.Request) -> web.Response:
        wanted = await _read(request, _Deposit)
        exchange.deposit(wanted.account, wanted.asset, wanted.amount)
        return _json(exchange.balances(wanted.account))

    async def state(_: web.Request) -> web.Response:
        accounts = {name: exchange.balances(name) for name in exchange.histories}
        open_orders = {name: len(exchange.engine.open_orders(name)) for name in exchange.histories}
        body = {"ledger_entries": exchange.ledger.next_sequence - 1, "accounts": accounts, "open_orders": open_orders}
        return _json(body | ({"replay": replay.report()} if replay is not None else {}))

    async def start_replay(_: web.Request) -> web.Response:
        if replay is None:
            return web.Response(status=409, text="the market is synthetic: there is no replay to start")
        replay.start()
        return _json(replay.report())

    app.router.add_get("/simulator/faults", list_faults)
    app.router.add_post("/simulator/faults", add_faults)
    app.router.add_delete("/simulator/faults", clear_faults)
    app.router.add_post("/simulator/deposits", deposit)
    app.router.add_get("/simulator/state", state)
    app.router.add_post("/simulator/replay/start", start_replay)


async def _read(request: web.Request, expected: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=expected)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
