"""docs/metrics.md as a program reads it, and what a running stack exposes, in the same form."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.stack import Stack

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
EVERYWHERE = {"mode"}
"""The label that every series of ours has; the page says it once."""
OPTIONAL = re.compile(r"tradebot_telegram_|tradebot_alerts_(delivered|failed|refused|dropped|waiting)|tradebot_traces_")
"""There only where a channel for notifications, or tracing, is switched on."""


@dataclass(frozen=True, slots=True)
class Documented:
    """One row. `labels` is None for the metrics of the client library; `used_by` are alerts and dashboards."""

    kind: str
    labels: frozenset[str] | None
    used_by: tuple[str, ...]


def documented() -> dict[str, Documented]:
    """Every metric of the page by its name as exposed."""
    found: dict[str, Documented] = {}
    for cells in _rows("| name | type | labels | unit | meaning | used by |"):
        names, kind, labels, _, _, used_by = cells
        known = None if labels.startswith("(") or "python_info" in names else frozenset(_words(labels))
        found |= {name: Documented(kind, known, tuple(_words(used_by))) for name in re.findall(r"`(\w+)`", names)}
    return found


def documented_records() -> set[str]:
    """Every recording rule of the page."""
    return {name for cells in _rows("| name | labels | meaning |") for name in re.findall(r"`(tradebot:[\w:]+)`", cells[0])}


async def disagreements(stack: Stack) -> list[str]:
    """What the page and the processes of a stack say differently, and series that are exposed twice."""
    rows, seen, wrong = documented(), set[str](), []
    for process, text in (await _scraped(stack)).items():
        families = list(text_string_to_metric_families(text))
        series = Counter((sample.name, tuple(sorted(sample.labels.items()))) for family in families for sample in family.samples)
        wrong += [f"{process}: {name}{dict(labels)} is there twice" for (name, labels), count in series.items() if count > 1]
        for family in families:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            seen.add(name)
            labels = {label for sample in family.samples for label in sample.labels} - EVERYWHERE - {"le"}
            wrong += _compare(process, name, family.type, labels if family.samples else None, rows)
    return wrong + [f"{name} is exposed by nobody" for name in rows if name not in seen and not OPTIONAL.match(name)]


def _compare(process: str, name: str, kind: str, labels: set[str] | None, rows: dict[str, Documented]) -> Iterable[str]:
    row = rows.get(name)
    if row is None:
        yield f"{process}: {name} is not documented"
    elif row.kind != kind:
        yield f"{process}: {name} is a {kind}, documented as {row.kind}"
    elif labels is not None and row.labels is not None and labels != row.labels:
        yield f"{process}: {name} has the labels {sorted(labels)}, documented are {sorted(row.labels)}"


async def _scraped(stack: Stack) -> dict[str, str]:
    targets = json.loads((stack.settings.run_dir / "prometheus-targets.json").read_text())
    texts = {}
    async with aiohttp.ClientSession() as session:
        for target in targets:
            async with session.get(f"http://{target['targets'][0]}/metrics") as response:
                texts[target["labels"]["job"]] = await response.text()
    return texts


def _rows(header: str) -> Iterable[list[str]]:
    """The cells of every row below this header."""
    inside = False
    for line in PAGE.read_text().splitlines():
        inside = line == header or (inside and line.startswith("|"))
        if inside and line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def _words(cell: str) -> list[str]:
    return [word.strip() for word in cell.split(",") if word.strip()]
