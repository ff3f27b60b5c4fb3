"""Every query of every panel, annotation and variable is asked as Grafana would ask it, and answers; the SQL finds its rows by index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.support.answers import Answers, reasons
from tests.support.fleet import Fleet
from tests.support.grafana import Query, queries

SQL = [query for query in queries() if query.sql]
BIG = frozenset(
    [
        "trades",
        "tickers",
        "order_books",
        "signals",
        "decisions",
        "ohlcv",
        "orders",
        "order_events",
        "fills",
        "position_events",
        "balance_events",
        "round_trips",
        "alerts",
        "gaps",
        "connector_status",
        "controls",
    ]
)
"""Tables that grow for ever: reading one whole must never be the only way."""


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.place)
async def test_a_query_of_a_dashboard_gives_data(query: Query, answers: Answers) -> None:
    answer = answers.found[query.place]
    assert not answer.error, answer.error
    if query.place in reasons():
        assert not answer.rows, f"it has data: take it out of without_data.yml ({reasons()[query.place]})"
    else:
        assert answer.rows, f"no data: {query.text}"


async def test_no_reason_is_given_for_what_does_not_exist(answers: Answers) -> None:
    assert set(reasons()) - set(answers.found) == set()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def analysed(fleet: Fleet) -> None:
    """The planner knows its tables, as autovacuum lets it know them after a while."""
    connection = await fleet.stack.connect()
    try:
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


@pytest.mark.parametrize("query", SQL, ids=lambda query: query.place)
async def test_six_hours_are_found_by_an_index_of_time(query: Query, fleet: Fleet, analysed: None) -> None:
    """The six hours before the run: nearly nothing of what is stored, as six hours are of a year."""
    connection = await fleet.history()
    try:
        plan = await planned(connection, fleet.view().hours_before(6, fleet.began_s).fill(query))
    finally:
        await connection.close()
    for node in scans(plan):
        if table_of(node["Relation Name"]) in BIG and node.get("Index Name") != "orders_open":
            assert "_ns" in node.get("Index Cond", ""), f"{node['Relation Name']} is read whole: {node}"


async def planned(connection: asyncpg.Connection[Any], sql: str) -> dict[str, Any]:
    """How PostgreSQL would run it; small tables would be read whole, rightly, were that not forbidden here."""
    await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    found: dict[str, Any] = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}"))[0]["Plan"]
    return found


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in plan:
        yield plan
    for child in plan.get("Plans", ()):
        yield from scans(child)


def table_of(relation: str) -> str:
    """The table that a partition belongs to, or the table itself."""
    table, _, partition = relation.rpartition("_")
    return table if partition.isdigit() or partition == "default" else relation
