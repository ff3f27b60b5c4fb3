"""Rules over the figures that local processes serve at /metrics; what Prometheus watches needs none of these."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from alerts.report import Report
from alerts.rules.models import MetricRule
from alerts.rules.probes import OpenBus
from alerts.rules.voice import Lasting, Memory, Voice
from runtime import http_probe
from runtime.clock import now_ns

TIMEOUT_S = 3.0

_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class MetricProbe:
    """Reads one metric of the processes whose name fits, and judges each of its series."""

    def __init__(self, run_dir: Path, host: str, voice: Voice, rule: MetricRule, memory: Memory) -> None:
        self.every_s = rule.every_s
        self._run_dir = run_dir
        self._host = host
        self._rule = rule
        self._lasting = Lasting(voice, rule, memory)

    async def look(self, bus: OpenBus) -> list[Report]:
        found: list[Report] = []
        for process, port in self._ports():
            found += await self._look_at(process, port)
        return found

    def _ports(self) -> Iterator[tuple[str, int]]:
        """Where the processes that the rule means listen."""
        for path in sorted(self._run_dir.glob("*.port")):
            if fnmatch.fnmatchcase(path.stem, self._rule.process):
                with contextlib.suppress(OSError, ValueError):  # it ends in this moment
                    yield path.stem, int(path.read_text())

    async def _look_at(self, process: str, port: int) -> list[Report]:
        """One process; one that has just gone is the matter of another rule."""
        try:
            status, body = await http_probe.get(self._host, port, "/metrics", TIMEOUT_S)
        except OSError:
            return []
        text = body.decode(errors="replace") if status == HTTPStatus.OK else ""
        found: list[Report] = []
        for labels, value in series(text, self._rule.metric):
            if self._rule.labels.items() <= labels.items():
                found += self._judge(process, labels, value)
        return found

    def _judge(self, process: str, labels: dict[str, str], value: float) -> Iterator[Report]:
        above = self._rule.above is not None
        limit = self._rule.above if self._rule.above is not None else self._rule.below or 0.0
        shown = ", ".join(f"{name} {text}" for name, text in sorted(labels.items()))
        values = {
            "process": process,
            "metric": self._rule.metric,
            "labels": shown,
            "value": f"{value:g}",
            "comparison": "above" if above else "below",
            "limit": f"{limit:g}",
        }
        if value > limit if above else value < limit:
            return self._lasting.wrong(f"{process}|{shown}", now_ns(), lambda _: values)
        return self._lasting.right(f"{process}|{shown}", now_ns(), values)


def series(text: str, metric: str) -> Iterator[tuple[dict[str, str], float]]:
    """Labels and value of every series of a metric in Prometheus' text format; what is no number is left out."""
    for line in text.splitlines():
        if not line.startswith(metric):
            continue
        found = _LINE.match(line)
        if found is None or found.group(1) != metric:
            continue
        try:
            value = float(found.group(3))
        except ValueError:
            continue
        yield {name: _plain(value) for name, value in _LABEL.findall(found.group(2) or "")}, value


def _plain(value: str) -> str:
    return re.sub(r"\\(.)", lambda mark: "\n" if mark.group(1) == "n" else mark.group(1), value)
