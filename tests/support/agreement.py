"""The judge of a run: does what we stored agree with what the simulator's ledger says, to the last digit?

It trusts two things only, the ledger's file and PostgreSQL, and uses no code of the project.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import asyncpg

ACCOUNT = "simulator"
FINISHED = {"FILLED", "CANCELED", "EXPIRED", "REJECTED"}


class VenueTruth:
    """Orders, fills and balances as the ledger's lines have them, last state last."""

    def __init__(self, ledger: Path) -> None:
        self.orders: dict[int, dict[str, Any]] = {}
        self.fills: dict[tuple[str, int], dict[str, Any]] = {}
        self.balances: dict[str, tuple[Decimal, Decimal]] = {}
        self.deposits: dict[str, Decimal] = defaultdict(Decimal)
        self.accepted: Counter[str] = Counter()
        for line in ledger.read_bytes().splitlines():
            assert int(line[:8], 16) == zlib.crc32(line[9:]), "a damaged line in the ledger"
            self._take(json.loads(line[9:], parse_float=Decimal))

    def _take(self, entry: dict[str, Any]) -> None:
        for order in entry.get("orders", ()):
            if order["account"] == ACCOUNT:
                if order["order_id"] not in self.orders:
                    self.accepted[order["client_order_id"]] += 1
                self.orders[order["order_id"]] = order
        for fill in entry.get("fills", ()):
            if fill["account"] == ACCOUNT:
                self.fills[fill["symbol"], fill["trade_id"]] = fill
        for balance in entry.get("balances", ()):
            if balance["account"] == ACCOUNT:
                free, locked = Decimal(balance["free"]), Decimal(balance["locked"])
                before = sum(self.balances.get(balance["asset"], (Decimal(0), Decimal(0))))
                if entry["kind"] == "deposit":
                    self.deposits[balance["asset"]] += free + locked - before
                self.balances[balance["asset"]] = (free, locked)


async def disagreements(ledger: Path, connection: asyncpg.Connection[Any]) -> list[str]:
    """Every way in which the stored history differs from the ledger; empty when all is well."""
    truth = VenueTruth(ledger)
    found = [f"{client_id} was accepted {count} times" for client_id, count in truth.accepted.items() if count > 1]
    found += await _orders(truth, connection)
    found += await _fills(truth, connection)
    found += await _balances(truth, connection)
    found += await _commands(connection)
    found += await _profit(truth, connection)
    return found


async def _orders(truth: VenueTruth, connection: asyncpg.Connection[Any]) -> list[str]:
    rows = {row["client_order_id"]: row for row in await connection.fetch("SELECT * FROM orders")}
    found = []
    for order in truth.orders.values():
        row = rows.get(order["client_order_id"])
        if row is None:
            found.append(f"order {order['client_order_id']} is not stored")
        elif (row["status"], row["filled_quantity"]) != (order["status"], Decimal(order.get("filled", "0"))):
            found.append(
                f"order {order['client_order_id']}: venue {order['status']} {order.get('filled')}, stored {row['status']} {row['filled_quantity']}"
            )
        elif row["external"]:
            found.append(f"order {order['client_order_id']} is ours and stored as external")
    known = {order["client_order_id"] for order in truth.orders.values()}
    for client_id, row in rows.items():
        if client_id not in known and row["status"] not in ("REJECTED", "EXPIRED"):
            found.append(f"stored order {client_id} is {row['status']}, and the venue never had it")
    return found


async def _fills(truth: VenueTruth, connection: asyncpg.Connection[Any]) -> list[str]:
    rows = await connection.fetch("SELECT * FROM fills")
    stored = {(row["symbol"], int(row["trade_id"])): (row["price"], row["quantity"], row["fee"], row["fee_asset"]) for row in rows}
    venue = {
        key: (Decimal(fill["price"]), Decimal(fill["quantity"]), Decimal(fill["fee"]), fill["fee_asset"])
        for key, fill in truth.fills.items()
    }
    found = [
        f"fill {key}: venue {venue.get(key)}, stored {stored.get(key)}"
        for key in venue.keys() | stored.keys()
        if venue.get(key) != stored.get(key)
    ]
    if len(rows) != len(stored):
        found.append(f"{len(rows)} fills stored, {len(stored)} different ones")
    return found


async def _balances(truth: VenueTruth, connection: asyncpg.Connection[Any]) -> list[str]:
    stored = {row["asset"]: (row["free"], row["locked"]) for row in await connection.fetch("SELECT * FROM balances")}
    return [
        f"balance of {asset}: venue {held}, stored {stored.get(asset)}"
        for asset, held in truth.balances.items()
        if stored.get(asset) != held
    ]


async def _commands(connection: asyncpg.Connection[Any]) -> list[str]:
    """Every decision that was taken ended as one order, or as none with a stated reason."""
    rows = await connection.fetch(
        "SELECT d.command_id, o.status, o.reason FROM (SELECT DISTINCT command_id FROM decisions WHERE verdict = 'taken') d"
        " LEFT JOIN orders o USING (command_id)"
    )
    found = [f"command {row['command_id']} has no order" for row in rows if row["status"] is None]
    found += [
        f"command {row['command_id']} ended {row['status']}" for row in rows if row["status"] and row["status"] not in FINISHED
    ]
    counts = Counter(row["command_id"] for row in rows)
    return found + [f"command {command} became {count} orders" for command, count in counts.items() if count > 1]


async def _profit(truth: VenueTruth, connection: asyncpg.Connection[Any]) -> list[str]:
    """realised + unrealised - fees of all positions is the change of the balances at the positions' own marks, exactly."""
    with localcontext() as context:
        context.prec = 80
        rows = await connection.fetch("SELECT * FROM positions")
        profit = sum((row["realised"] + row["unrealised"] - row["fees"] for row in rows), Decimal(0))
        marks = {row["symbol"].split("/")[0]: row["mark_price"] for row in rows}
        change = Decimal(0)
        for asset, held in truth.balances.items():
            moved = sum(held) - truth.deposits[asset]
            if asset == "USDT":
                change += moved
            elif moved:
                if marks.get(asset) is None:
                    return [f"no position knows a mark for {asset}, of which {moved} moved"]
                change += moved * marks[asset]
        return [] if profit == change else [f"profit of the positions is {profit}, the balances changed by {change}"]
