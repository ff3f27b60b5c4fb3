"""What the live view shows of a running stack, collected from the bus and the process table about once a second."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from bus.connection import Connection
from bus.errors import BusError
from bus.streams import Stream, Streams
from common_models import (
    Alert,
    AlertLevel,
    Decision,
    Fill,
    Instrument,
    Message,
    OrderUpdate,
    PluginStatus,
    Position,
    Signal,
    Verdict,
)
from common_models.decimals import ZERO
from runtime import emergency_stop
from runtime.clock import monotonic_s, now_ns
from runtime.endpoints import NotRunning, bus_url
from runtime.settings import Settings
from tradebot.bus_inspection import StreamState, entries_after, kind_of, newest, readable, stream_states, streams_of
from tradebot.managed_process import ManagedProcess
from tradebot.pausing import paused
from tradebot.plugin_overview import newest_statuses, told_lately
from tradebot.process_usage import Usage, UsageMeter

M = TypeVar("M", bound=Message)

USAGE_EVERY_S = 5.0
RECENT = 8
POSITIONS_READ = 50
DECISIONS_READ = 500
RATE_SECONDS = 5  # rates are means over so many looks: calm figures
ALERTS_READ = 50
ALERTS_FOR_NS = 600_000_000_000
"""An alert is shown for ten minutes, unless another says that it is over."""
INSTRUMENTS_READ = 5000
RULES_EVERY_S = 30.0
SERIOUS = (AlertLevel.WARNING, AlertLevel.ERROR, AlertLevel.CRITICAL)


@dataclass(slots=True)
class Numbers:
    """One look. Rates are entries per second by kind of stream, totals are since the stream began.

    `stopped` says who pressed the emergency stop and why, empty when nobody did; `pauses` why nothing is entered, by exchange (`*`
    is all). `alerts` are the serious ones of the last minutes that are not over, newest first; `rules` tell dust from a position.
    """

    reachable: bool = False
    rates: dict[str, float] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    taken: int = 0
    denied: int = 0
    lags: dict[str, int] = field(default_factory=dict)
    dead_letters: int = 0
    signals: list[Signal] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    orders: list[OrderUpdate] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    positions: dict[tuple[str, str, str], Position] = field(default_factory=dict)
    usage: dict[int, Usage] = field(default_factory=dict)
    stopped: str = ""
    pauses: Mapping[str, str] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    plugins: dict[str, PluginStatus] = field(default_factory=dict)
    rules: dict[tuple[str, str], Instrument] = field(default_factory=dict)

    @property
    def events_per_s(self) -> float:
        return sum(self.rates.values())

    @property
    def realised(self) -> Decimal:
        """Profit of what was closed, before fees, in quote currency, over all positions seen; so for the next two."""
        return sum((item.realised for item in self.positions.values()), ZERO)

    @property
    def unrealised(self) -> Decimal:
        return sum((item.unrealised for item in self.positions.values()), ZERO)

    @property
    def fees(self) -> Decimal:
        return sum((item.fees for item in self.positions.values()), ZERO)

    @property
    def profit(self) -> Decimal:
        """Realised and unrealised profit after fees."""
        return self.realised + self.unrealised - self.fees


class StackWatch:
    """Keeps `numbers` fresh; a bus that is away costs a stale picture, never an exception."""

    def __init__(self, settings: Settings, processes: list[ManagedProcess]) -> None:
        self.numbers = Numbers()
        self._settings = settings
        self._processes = processes
        self._streams = streams_of(settings)
        self._shared = Streams(settings.mode.value)
        self._connection: Connection | None = None
        self._added: deque[tuple[float, Counter[str]]] = deque(maxlen=RATE_SECONDS + 1)
        self._decisions_after = ""
        self._meter = UsageMeter()
        self._metered_s = 0.0
        self._rules_read_s = float("-inf")

    async def refresh(self) -> None:
        """Take one look."""
        now_s = monotonic_s()
        if now_s - self._metered_s >= USAGE_EVERY_S or not self.numbers.usage:
            self._metered_s = now_s
            self.numbers.usage = self._meter.measure(process.pid for process in self._processes if process.pid is not None)
        self._look_at_files()
        try:
            await self._look(await self._open())
        except (BusError, NotRunning):
            self.numbers.reachable = False
            self.close()

    def _look_at_files(self) -> None:
        """What holds even while the bus is away."""
        stop = emergency_stop.read(self._settings.home)
        self.numbers.stopped = f"{stop.actor or 'nobody known'}: {stop.reason}" if stop.pressed else ""
        self.numbers.pauses = paused(self._settings)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.closed.done():
            self._connection = await Connection.open(bus_url(self._settings), name="tradebot-view", timeout_s=1.0)
        return self._connection

    async def _look(self, connection: Connection) -> None:
        states = await stream_states(connection, self._streams)
        self._count(states)
        await self._count_decisions(connection, states)
        numbers = self.numbers
        numbers.signals = await _newest(connection, [self._shared.signals], Signal)
        numbers.decisions = await _newest(connection, [self._shared.decisions], Decision)
        numbers.orders = await _newest(connection, self._of_kind("orders"), OrderUpdate)
        numbers.fills = await _newest(connection, self._of_kind("fills"), Fill)
        for position in reversed(await _newest(connection, self._of_kind("positions"), Position, POSITIONS_READ)):
            numbers.positions[position.exchange, position.symbol, position.strategy] = position
        numbers.alerts = unresolved(await _newest(connection, [self._shared.alerts], Alert, ALERTS_READ), now_ns())
        statuses = await newest_statuses(connection, self._settings)
        numbers.plugins = statuses if told_lately(statuses.values()) else {}
        await self._read_rules(connection)
        numbers.reachable = True

    async def _read_rules(self, connection: Connection) -> None:
        """The rules of the markets in which something is held, looked up now and then until all are known."""
        held = {(position.exchange, position.symbol) for position in self.numbers.positions.values() if position.quantity}
        if held <= self.numbers.rules.keys() or monotonic_s() - self._rules_read_s < RULES_EVERY_S:
            return
        self._rules_read_s = monotonic_s()
        told = await _newest(connection, self._of_kind("instruments"), Instrument, INSTRUMENTS_READ)
        self.numbers.rules = {(rules.exchange, rules.symbol): rules for rules in reversed(told)}

    def _of_kind(self, kind: str) -> list[Stream]:
        return [stream for stream in self._streams if kind_of(stream.name) == kind]

    def _count(self, states: list[StreamState]) -> None:
        totals: Counter[str] = Counter()
        lags: Counter[str] = Counter()
        for state in states:
            totals[kind_of(state.name)] += state.added
            for group in state.groups:
                lags[group.group] += max(0, group.lag) + group.pending
        now_s = monotonic_s()
        self._added.append((now_s, totals))
        before_s, before = self._added[0]
        if now_s > before_s:
            self.numbers.rates = {kind: max(0, count - before[kind]) / (now_s - before_s) for kind, count in totals.items()}
        self.numbers.totals = totals
        self.numbers.lags = dict(lags)
        self.numbers.dead_letters = next((state.length for state in states if kind_of(state.name) == "dead-letters"), 0)

    async def _count_decisions(self, connection: Connection, states: list[StreamState]) -> None:
        """Taken and denied since the view started: the stream itself only knows how many there were."""
        name = self._shared.decisions.name
        if not self._decisions_after:
            self._decisions_after = next((state.last_id for state in states if state.name == name), "0")
            return
        entries = await entries_after(connection, {name: self._decisions_after}, DECISIONS_READ)
        if entries:
            self._decisions_after = entries[-1].entry_id
        verdicts = Counter(message.verdict for message in readable(entries) if isinstance(message, Decision))
        self.numbers.taken += verdicts[Verdict.TAKEN]
        self.numbers.denied += verdicts[Verdict.DENIED]


def unresolved(alerts: Iterable[Alert], at_ns: int) -> list[Alert]:
    """Of alerts, newest first, those of the last minutes that are serious, of each matter the newest, and not over."""
    seen: set[tuple[str, str, str]] = set()
    found = []
    for alert in alerts:
        matter = (alert.code, alert.exchange, alert.symbol)
        if matter not in seen and not alert.resolves and alert.level in SERIOUS and at_ns - alert.ts_pub_ns < ALERTS_FOR_NS:
            found.append(alert)
        seen.add(matter)
    return found


async def _newest(connection: Connection, streams: list[Stream], kind: type[M], count: int = RECENT) -> list[M]:
    """The newest messages of one kind, newest first."""
    entries = [entry for stream in streams for entry in await newest(connection, stream, count)]
    entries.sort(key=lambda entry: entry.position, reverse=True)
    return [message for message in readable(entries[:count]) if isinstance(message, kind)]
