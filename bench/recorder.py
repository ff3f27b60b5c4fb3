"""How fast the recorder's write path is, beside plain COPY of the same rows in the same run (`python -m bench.recorder`).

Prints one JSON object: rows per second, best of the rounds, and each figure's share of plain COPY. Both write trades into the
recorder's own table, with its key and partitions, in a bundled PostgreSQL with fsync on. Plain COPY gets finished tuples; the
recorder gets messages: making rows of them, counting and the transaction are in its time. `replay` writes rows that are there
already, `new_with_care` new rows by the way that is taken after a conflict, `decoded` adds decoding them from the bus's bytes.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvloop

from bus.codec import decode, encode
from common_models import Message, Side, Trade
from postgres import migrate
from postgres.partitions import maintain
from postgres.pool import Link
from postgres.tables import TRADES
from postgres.writer import CAREFUL_BATCHES, HistoryWriter
from runtime.clock import now_ns
from runtime.settings import PostgresSettings
from tests.support import servers

MODE = "simulation"


def trades(count: int, start_ns: int) -> list[Message]:
    """Trades a millisecond apart, as a busy venue sends them."""
    return [
        Trade(
            exchange="binance",
            symbol="BTC/USDT",
            ts_event_ns=start_ns + number * 1_000_000,
            ts_recv_ns=start_ns + number * 1_000_000 + 350_000,
            ts_pub_ns=start_ns + number * 1_000_000 + 400_000,
            message_id=f"connector-binance.binance.trades:1a2b3c4d:{number}",
            trade_id=str(4_000_000_000 + number),
            side=Side.BUY if number % 2 else Side.SELL,
            price=Decimal(6_400_000 + number % 5000) / 100,
            size=Decimal(number % 9973 + 1) / 100_000,
        )
        for number in range(count)
    ]


async def measure(url: str, rows: int, batch: int, rounds: int) -> dict[str, Any]:
    """Rows per second of each way, the ways taking turns so that a noisy machine is noisy to all."""
    link = Link(lambda: url, MODE, PostgresSettings())
    connection = await link.connection()
    await maintain(connection, now_ns(), {})
    messages = trades(rows, now_ns())
    tuples = [TRADES.row(message) for message in messages]
    encoded = [encode(message) for message in messages]

    async def copy(chunk: slice) -> None:
        await connection.copy_records_to_table("trades", columns=TRADES.columns, records=tuples[chunk])

    async def store(writer: HistoryWriter, found: Sequence[Message], duplicates: int = 0) -> None:
        stored = await writer.store(connection, found)
        assert stored.rows["trades"] + stored.duplicates == len(found)
        assert stored.duplicates == duplicates

    async def timed(work: Callable[[slice], Awaitable[None]]) -> float:
        started_s = time.perf_counter()
        for start in range(0, rows, batch):
            await work(slice(start, start + batch))
        return rows / (time.perf_counter() - started_s)

    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        writer, decoding, careful = HistoryWriter(), HistoryWriter(), _careful()
        ways: dict[str, Callable[[slice], Awaitable[None]]] = {
            "plain_copy": copy,
            "recorder": lambda chunk, writer=writer: store(writer, messages[chunk]),
            "replay": lambda chunk, writer=writer: store(writer, messages[chunk], len(messages[chunk])),
            "decoded": lambda chunk, writer=decoding: store(writer, [decode(data) for data in encoded[chunk]]),
            "new_with_care": lambda chunk, writer=careful: store(writer, messages[chunk]),
        }
        for name, work in ways.items():
            if name != "replay":
                await connection.execute("TRUNCATE trades")
            await connection.execute("CHECKPOINT")
            rates.setdefault(name, []).append(await timed(work))
    await link.close()
    best = {name: max(found) for name, found in rates.items()}
    return {
        "rows": rows,
        "batch": batch,
        "rounds": rounds,
        "rows_per_s": {name: round(rate) for name, rate in best.items()},
        "share_of_plain_copy": {name: round(rate / best["plain_copy"], 3) for name, rate in best.items()},
        "goal_share": 0.55,
    }


def _careful() -> HistoryWriter:
    """A writer as it is after a conflict, for longer than usual."""
    writer = HistoryWriter()
    writer._careful_batches = CAREFUL_BATCHES * 1_000_000
    return writer


def recorder(rows: int = 50_000, batch: int = 2_000, rounds: int = 3) -> dict[str, Any]:
    """The measurement on a fresh PostgreSQL with fsync on; `batch` is rows in one transaction."""
    with tempfile.TemporaryDirectory() as home:
        server = servers.postgres(Path(home), durable=True)
        try:
            server.start()
            migrate.upgrade(server.url, MODE)
            return uvloop.run(measure(server.url, rows, batch, rounds))
        finally:
            server.kill()


if __name__ == "__main__":
    print(json.dumps(recorder(), indent=1))
