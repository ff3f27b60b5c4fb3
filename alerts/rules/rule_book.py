"""All rules of one file, ready to look: which streams they need, and what each message means to them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import structlog

from alerts.durable_tables import DurableTables
from alerts.report import Report, report_of
from alerts.rules import models
from alerts.rules.market import FeedWatcher, GapWatcher, PriceWatcher
from alerts.rules.metrics import MetricProbe
from alerts.rules.money import DrawdownWatcher, HeldPosition, Holdings, LimitWatcher
from alerts.rules.probes import DeadLetterProbe, DiskProbe, DownProbe, LagProbe, Probe, RestartProbe
from alerts.rules.trading import (
    AlertWatcher,
    ClosedWatcher,
    ControlWatcher,
    DecisionWatcher,
    FillWatcher,
    OpenedWatcher,
    OrderWatcher,
    UnknownOrderWatcher,
)
from alerts.rules.voice import Memory, Voice, Watcher, spelled
from bus.streams import Stream, Streams
from common_models import Alert, AnyMessage, Message
from runtime.settings import Settings
from runtime.settings_loader import load_file

log = structlog.get_logger(__name__)

KNOWN_KEYS = "docs/alerts.md lists the keys of each kind of rule"


def load_rules(settings: Settings) -> dict[str, models.Rule]:
    """The enabled rules by name; raises ConfigError, which names file, line and key."""
    return load_file(settings.alerts.rules, models.RuleFile, KNOWN_KEYS).enabled


class RuleBook:
    """Watchers of messages and probes of everything else. A watcher that fails is counted and logged, and costs nothing else."""

    def __init__(self, rules: dict[str, models.Rule], settings: Settings, tables: DurableTables) -> None:
        self.errors = 0
        self.names = tuple(rules)
        self.probes: dict[str, Probe] = {}
        self.market: list[Stream] = []
        self._settings = settings
        self._streams = Streams(settings.mode.value)
        self._memory = tables.table("rules", str)
        self._holdings = Holdings(tables.table("balances", Decimal), tables.table("positions", HeldPosition))
        self._watchers: dict[str, Watcher] = {}
        self._alerts: dict[str, AlertWatcher] = {}
        self._failures: Counter[str] = Counter()
        for name, rule in rules.items():
            self._add(name, rule)
        self._by_kind: defaultdict[type[Message], list[tuple[str, Watcher]]] = defaultdict(list)
        for name, watcher in self._watchers.items():
            for kind in watcher.sees:
                self._by_kind[kind].append((name, watcher))

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        """What the rules say about one message."""
        if isinstance(message, Alert):
            watcher = self._alerts.get(message.code)
            yield from watcher.reports(message) if watcher else (report_of(message),)
            return
        self._holdings.apply(message)
        for name, each in self._by_kind.get(type(message), ()):
            yield from self._guarded(name, lambda each=each: each.see(message, now_ns))  # type: ignore[misc]

    def tick(self, now_ns: int) -> Iterator[Report]:
        """What the rules say about the time; to be called about once a second."""
        for name, watcher in self._watchers.items():
            yield from self._guarded(name, lambda watcher=watcher: watcher.tick(now_ns))  # type: ignore[misc]

    def note_failure(self, name: str, error: Exception) -> None:
        """Count a rule's failure; log the 1st, 10th, 100th ... of each."""
        self.errors += 1
        self._failures[name] += 1
        if str(self._failures[name]).strip("0") == "1":
            log.error("alerts.rule_failed", rule=name, failures=self._failures[name], exc_info=error)

    def _guarded(self, name: str, look: Callable[[], Iterator[Report]]) -> list[Report]:
        try:
            return list(look())
        except Exception as error:  # noqa: BLE001 the boundary to one rule: its mistake must not end the others
            self.note_failure(name, error)
            return []

    def _add(self, name: str, rule: models.Rule) -> None:
        parts = _Parts(Voice(name, rule), self._memory, self._holdings, self._settings, self._streams)
        if isinstance(rule, models.AlertRule):
            self._alerts |= dict.fromkeys(rule.codes, AlertWatcher(name, rule))
        elif make_probe := _PROBES.get(type(rule)):
            self.probes[name] = make_probe(rule, parts)
        else:
            self._watchers[name] = _WATCHERS[type(rule)](rule, parts)
        if isinstance(rule, models.PriceRule):
            symbol = spelled(rule.symbol)
            self._read(("tickers",), lambda exchange, symbols: rule.exchange in ("", exchange) and symbol in symbols)
        elif isinstance(rule, models.GapRule):
            named = set(map(spelled, rule.symbols))
            self._read(rule.streams, lambda _, symbols: not named or bool(named & symbols))

    def _read(self, kinds: tuple[str, ...], wanted: Callable[[str, set[str]], bool]) -> None:
        """Read these market streams of the exchanges that have what the rule is about."""
        for name, exchange in self._settings.exchanges.items():
            if exchange.enabled and wanted(name, set(map(spelled, exchange.symbols))):
                found = [self._streams.market(name, kind) for kind in kinds]
                self.market += [stream for stream in found if stream not in self.market]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What watchers and probes are made of."""

    voice: Voice
    memory: Memory
    holdings: Holdings
    settings: Settings
    streams: Streams

    @property
    def supervisor_file(self) -> Path:
        """Where `tradebot up` says how its processes are."""
        return self.settings.run_dir / "supervisor.json"

    def grouped_streams(self) -> list[Stream]:
        """Every stream that consumer groups read."""
        found = list(self.streams.shared)
        for name, exchange in self.settings.exchanges.items():
            if exchange.enabled:
                found += self.streams.all_of(name, exchange.account)
        return found


def _limit_watcher(rule: models.LimitRule, parts: _Parts) -> Watcher:
    limit = Decimal(parts.settings.bot.risk.max_concurrent_trades) if rule.limit is None else rule.limit
    return LimitWatcher(parts.voice, rule, parts.memory, parts.holdings, limit)


def _disk_probe(rule: models.DiskRule, parts: _Parts) -> Probe:
    limit_mb = rule.free_mb or 2 * parts.settings.supervisor.min_free_disk_mb
    return DiskProbe(parts.settings.home, parts.voice, rule, parts.memory, limit_mb)


def _reachable(host: str) -> str:
    """Where to ask processes that listen on `host`: loopback when they listen on all addresses."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 compared, not bound


_WATCHERS: Mapping[type[models.Rule], Callable[[Any, _Parts], Watcher]] = {
    models.PriceRule: lambda rule, parts: PriceWatcher(parts.voice, rule, parts.memory),
    models.GapRule: lambda rule, parts: GapWatcher(parts.voice, rule),
    models.FeedRule: lambda rule, parts: FeedWatcher(parts.voice, rule, parts.memory),
    models.DrawdownRule: lambda rule, parts: DrawdownWatcher(parts.voice, rule, parts.memory, parts.holdings),
    models.LimitRule: _limit_watcher,
    models.OrderRule: lambda rule, parts: OrderWatcher(parts.voice, rule),
    models.UnknownOrderRule: lambda rule, parts: UnknownOrderWatcher(parts.voice, rule, parts.memory),
    models.DecisionRule: lambda rule, parts: DecisionWatcher(parts.voice, rule),
    models.FillRule: lambda rule, parts: FillWatcher(parts.voice, rule),
    models.OpenedRule: lambda rule, parts: OpenedWatcher(parts.voice, rule, parts.memory),
    models.ClosedRule: lambda rule, parts: ClosedWatcher(parts.voice, rule),
    models.ControlRule: lambda rule, parts: ControlWatcher(parts.voice, rule),
}
_PROBES: Mapping[type[models.Rule], Callable[[Any, _Parts], Probe]] = {
    models.RestartRule: lambda rule, parts: RestartProbe(parts.supervisor_file, parts.voice, rule, parts.memory),
    models.DownRule: lambda rule, parts: DownProbe(parts.supervisor_file, parts.voice, rule, parts.memory),
    models.LagRule: lambda rule, parts: LagProbe(parts.grouped_streams(), parts.voice, rule, parts.memory),
    models.DiskRule: _disk_probe,
    models.DeadLetterRule: lambda rule, parts: DeadLetterProbe(parts.streams.dead_letters, parts.voice, rule, parts.memory),
    models.MetricRule: lambda rule, parts: MetricProbe(
        parts.settings.run_dir, _reachable(parts.settings.host), parts.voice, rule, parts.memory
    ),
}
