"""Every query of dashboards and rules, and what the data sources answered."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import yaml

from tests.support.fleet import Fleet
from tests.support.grafana import Query, View, queries
from tests.support.monitoring_servers import HttpServer, rule_expressions, until

COMPLETE_S = 75.0
"""How long answers may take to have data after the connector is back: rates need two scrapes, rules of rules two evaluations."""

_METRIC = re.compile(r"(?<![\w:\"$])(tradebot[_:][a-zA-Z0-9_:]+|process_[a-z_]+|up|ALERTS)(?=[\s{\[)]|$)")


@dataclass
class Answer:
    """What came back in the best of all attempts: how many rows or series with a value, or the error of the last attempt."""

    rows: int = 0
    error: str = ""


@dataclass
class Answers:
    """By the place of each query."""

    found: dict[str, Answer] = field(default_factory=dict)

    def without_data(self) -> set[str]:
        return {place for place, answer in self.found.items() if not answer.rows}

    def note(self, place: str, rows: int = 0, error: str = "") -> None:
        """Keep the most that a query ever gave; an error is never forgotten."""
        answer = self.found.setdefault(place, Answer())
        answer.rows = max(answer.rows, rows)
        answer.error = error or answer.error

    async def complete(self, fleet: Fleet) -> None:
        """Ask again what has given nothing so far, until it all has or the time is over; the tests then say what is missing."""

        async def answered() -> bool:
            await ask_everything(fleet, self, only=self.without_data())
            return not self.without_data() - set(reasons())

        with suppress(AssertionError):
            await until(answered, COMPLETE_S, "data for every query")


def reasons() -> dict[str, str]:
    """Why some queries have no data in this run, by their places."""
    path = Path(__file__).resolve().parents[1] / "ops" / "without_data.yml"
    return dict(yaml.safe_load(path.read_text()) or {})


async def ask_everything(fleet: Fleet, answers: Answers, only: set[str] | None = None) -> None:
    """Ask all queries once, or those of the places `only`."""
    view = fleet.view()
    connection = await fleet.history()
    try:
        for query in queries():
            if only is None or query.place in only:
                await _ask(fleet.prometheus, connection, view, query, answers)
    finally:
        await connection.close()
    for name, text in rule_expressions(fleet.prometheus.folder).items():
        if only is None or f"rules / {name}" in only:
            await _ask_rule(fleet.prometheus, name, text, answers)
    for name in metric_names(fleet):
        if only is None or f"metric / {name}" in only:
            await _note(answers, f"metric / {name}", _series(fleet.prometheus, f"count(last_over_time({name}[1h]))"))


async def _ask(server: HttpServer, connection: asyncpg.Connection[Any], view: View, query: Query, answers: Answers) -> None:
    text = view.fill(query)
    if query.sql:
        await _note(answers, query.place, _rows(connection, query.form, text))
    elif query.label_of_values:
        await _note(answers, query.place, _values(server, view, query))
    elif query.instant:
        await _note(answers, query.place, _series(server, text))
    else:
        await _note(answers, query.place, _range(server, view, text))


async def _note(answers: Answers, place: str, asked: Any) -> None:
    try:
        answers.note(place, rows=await asked)
    except (AssertionError, asyncpg.PostgresError) as error:
        answers.note(place, error=str(error))


async def _rows(connection: asyncpg.Connection[Any], form: str, sql: str) -> int:
    """Rows with anything in them beside NULL; what shall become time series must have the columns for it."""
    statement = await connection.prepare(sql)
    if form == "time_series":
        columns = {attribute.name: attribute.type.name for attribute in statement.get_attributes()}
        assert columns == {"time": "timestamptz", "metric": "text", "value": columns.get("value")}, columns
        assert columns["value"] in ("float8", "int4", "int8"), columns
    return sum(any(value is not None for value in row.values()) for row in await statement.fetch())


async def _values(server: HttpServer, view: View, query: Query) -> int:
    assert query.label_of_values is not None
    selector, label = query.label_of_values
    filled = view.fill(Query(query.place, sql=False, text=selector))
    return len(await server.get(f"/api/v1/label/{label}/values", **{"match[]": filled}))


async def _series(server: HttpServer, expr: str) -> int:
    answer = await server.ask("/api/v1/query", query=expr)
    return sum(not math.isnan(float(series["value"][1])) for series in answer["result"])


async def _range(server: HttpServer, view: View, expr: str) -> int:
    answer = await server.ask(
        "/api/v1/query_range", query=expr, start=str(view.from_s), end=str(view.to_s), step=str(view.interval_s)
    )
    return sum(any(not math.isnan(float(value)) for _, value in series["values"]) for series in answer["result"])


async def _ask_rule(server: HttpServer, name: str, expr: str, answers: Answers) -> None:
    """A rule has data when it gives some, or, for the condition of an alert, when everything that it compares is there."""
    place = f"rules / {name}"
    await _note(answers, place, _series(server, expr))
    if not answers.found[place].rows and ":" not in name:
        known = [await _series(server, f"count(last_over_time({metric}[1h]))") for metric in _METRIC.findall(expr)]
        answers.note(place, rows=int(bool(known) and all(known)))


def metric_names(fleet: Fleet) -> set[str]:
    """Every metric that a dashboard or a rule speaks of; `or vector(0)` would hide one that nobody exposes."""
    texts = [query.text for query in queries() if not query.sql]
    texts += rule_expressions(fleet.prometheus.folder).values()
    return {name for text in texts for name in _METRIC.findall(text)}
