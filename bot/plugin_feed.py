"""The way of events to one worker and of its signals back, and the rounds in which the opinions of several workers meet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from bot.isolation.protocol import Done, Facts, signal_of
from bot.isolation.workers import Stats
from common_models import Candle, MarketEvent, Signal
from strategy import Market

HELD_EVENTS = 20_000
"""Events that wait while a changed file takes over: some seconds' worth."""


class Worker(Protocol):
    """The process of one plugin file; `bot.isolation.workers.Worker` is the real one."""

    version: str
    pid: int
    facts: Facts
    on_done: Callable[[Done], None]
    on_gone: Callable[[str], None]

    @property
    def stats(self) -> Stats: ...

    def send_history(self, market: Market, candles: Sequence[Candle], events: Sequence[MarketEvent]) -> None: ...

    def send_events(self, seq: int, events: Sequence[tuple[bytes, bool]]) -> None: ...

    def beat(self) -> None: ...

    async def save(self) -> bytes: ...

    async def load(self, states: bytes) -> None: ...

    async def stop(self) -> None: ...


class Item(NamedTuple):
    """One event on its way: its number orders what several workers say to it; past events give no signals.

    `taken_ns` is the monotonic clock when the bot got it.
    """

    number: int
    taken_ns: int
    event: MarketEvent
    encoded: bytes
    live: bool


class Opinion(NamedTuple):
    """What one plugin said to one event."""

    item: Item
    signal: Signal


@dataclass(slots=True, eq=False)
class Round:
    """One batch of events at all workers that have a say: decided when all have answered, so that the quickest does not rule."""

    waiting: set[PluginFeed]
    started_s: float
    opinions: list[Opinion] = field(default_factory=list)
    settled: bool = False


@dataclass(slots=True, eq=False)
class PluginFeed:
    """One worker and what lies between it and the handler.

    A feed that is `muted` is being warmed up beside the version that it will replace: it sees every event, and what it says goes
    nowhere. One that is `held` keeps its events until it is released. One that is `late` is not waited for.
    """

    name: str
    worker: Worker
    shadow: bool
    muted: bool = False
    late: bool = False
    pending: list[Item] = field(default_factory=list)
    held: deque[Item] | None = None
    outstanding: dict[int, tuple[list[Item], Round]] = field(default_factory=dict)
    signals: int = 0
    _seq: int = 0

    @property
    def has_a_say(self) -> bool:
        """Whether decisions wait for it."""
        return not (self.shadow or self.muted or self.late)

    def take(self, item: Item) -> None:
        """Queue one event; while the feed is held the oldest go first when there are too many."""
        if self.held is None:
            self.pending.append(item)
        else:
            self.held.append(item)

    def hold(self) -> None:
        """Keep events back from now on."""
        self.held = deque(maxlen=HELD_EVENTS)

    def release(self) -> None:
        """Queue what was kept back."""
        self.pending += self.held or ()
        self.held = None

    def send(self, round_: Round) -> None:
        """Hand all that is queued to the worker, without waiting."""
        self._seq += 1
        items, self.pending = self.pending, []
        self.outstanding[self._seq] = (items, round_)
        self.worker.send_events(self._seq, [(item.encoded, item.live and not self.muted) for item in items])

    def answered(self, done: Done) -> tuple[list[Opinion], Round] | None:
        """The signals of an answer, as this plugin's and nobody else's; None for an answer to nothing."""
        known = self.outstanding.pop(done.seq, None)
        if known is None:
            return None
        if self.late and not self.outstanding:
            self.late = False
        items, round_ = known
        if self.muted or not done.said:
            return [], round_
        self.signals += len(done.said)
        version = self.worker.version
        opinions = []
        for said in done.said:
            item = items[said.event]
            signal = signal_of(said, item.event, self.name, version, shadow=self.shadow)
            opinions.append(Opinion(item, signal))
        return opinions, round_
