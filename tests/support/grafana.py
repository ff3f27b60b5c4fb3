"""What Grafana does with a dashboard file before it asks a data source: finding the queries and filling in variables and macros."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).resolve().parents[2] / "monitoring" / "grafana" / "dashboards"
POSTGRESQL = "grafana-postgresql-datasource"

_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
_MACRO = re.compile(r"\$(__unixEpochNanoFilter)\(([^)]*)\)")
_LABEL_VALUES = re.compile(r"label_values\((.*),\s*(\w+)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a dashboard. `place` names it for people: board / panel / letter."""

    place: str
    sql: bool
    text: str
    instant: bool = False
    form: str = "table"

    @property
    def label_of_values(self) -> tuple[str, str] | None:
        """The selector and the label that a variable's `label_values()` asks for."""
        found = _LABEL_VALUES.fullmatch(self.text)
        return (found[1], found[2]) if found else None


@dataclass(frozen=True, slots=True)
class View:
    """What a person has chosen: the time range in Unix seconds, the interval of a point in seconds, the values of variables."""

    from_s: int
    to_s: int
    interval_s: int
    scrape_s: int
    choices: Mapping[str, str | Sequence[str]]

    def hours_before(self, hours: int, to_s: int) -> View:
        """The same for some hours, at an interval of a minute."""
        return replace(self, from_s=to_s - hours * 3600, to_s=to_s, interval_s=60)

    def fill(self, query: Query) -> str:
        """The text that the data source receives; a variable that is not known raises KeyError."""
        text = _MACRO.sub(self._macro, query.text) if query.sql else query.text
        return _VARIABLE.sub(self._value, text)

    def _macro(self, found: re.Match[str]) -> str:
        column = found[2].strip()
        return f"{column} >= {self.from_s}000000000 AND {column} <= {self.to_s}000000000"

    def _value(self, found: re.Match[str]) -> str:
        name, form = found[1] or found[3], found[2]
        built_in = {
            "__interval_ms": str(self.interval_s * 1000),
            "__interval": f"{self.interval_s}s",
            "__rate_interval": f"{max(self.interval_s + self.scrape_s, 4 * self.scrape_s)}s",
            "__range": f"{self.to_s - self.from_s}s",
        }
        if name in built_in:
            return built_in[name]
        chosen = self.choices[name]
        values = [chosen] if isinstance(chosen, str) else list(chosen)
        if form == "sqlstring":
            return ",".join("'" + value.replace("'", "''") + "'" for value in values)
        if form == "doublequote":
            return ",".join('"' + value.replace('"', '\\"') + '"' for value in values)
        if form is not None:
            raise KeyError(f"{found[0]}: a format that this test does not know")
        if isinstance(chosen, str):
            return chosen
        escaped = [re.sub(r"([\\^$.*+?()\[\]{}|])", r"\\\\\1", value) for value in values]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def boards(folder: Path = DASHBOARDS) -> dict[str, dict[str, Any]]:
    """Every dashboard file, by its name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a board without its headings."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


def queries(folder: Path = DASHBOARDS) -> list[Query]:
    """Every query of every panel, annotation and variable of all dashboards."""
    return [query for name, board in boards(folder).items() for query in _of_board(name, board)]


def _of_board(name: str, board: Mapping[str, Any]) -> Iterator[Query]:
    for panel in panels(board):
        for target in panel["targets"]:
            yield _of_target(f"{name} / {panel['title']} / {target['refId']}", target)
    for annotation in board.get("annotations", {}).get("list", ()):
        yield _of_target(f"{name} / marks / {annotation['name']}", annotation["target"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            sql = variable["datasource"]["type"] == POSTGRESQL
            text = variable["query"] if sql else variable["query"]["query"]
            yield Query(f"{name} / choices / {variable['name']}", sql, text)


def _of_target(place: str, target: Mapping[str, Any]) -> Query:
    if target["datasource"]["type"] == POSTGRESQL:
        return Query(place, sql=True, text=target["rawSql"], form=target["format"])
    return Query(place, sql=False, text=target["expr"], instant=bool(target["instant"]))
