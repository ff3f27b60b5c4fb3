"""Plugins without processes, for tests, benchmarks and backtests: the same runner, called directly, with one order of events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bot.isolation.protocol import Done, Facts, decode_event
from bot.isolation.runner import Runner, StateError
from bot.isolation.source import PluginSource
from bot.isolation.workers import PluginRefused, Stats
from common_models import Candle, MarketEvent
from strategy import Market, PluginError


class InProcessWorker:
    """As `bot.isolation.workers.Worker`, but every answer comes before the request returns."""

    def __init__(self, source: PluginSource, settings: Mapping[str, object], markets: Sequence[Market]) -> None:
        self._markets = tuple(markets)
        self.runner = Runner(source.path, source.code, settings, self._markets)
        self.version = source.version
        self.pid = 0
        self.on_done: Callable[[Done], None] = _nobody
        self.on_gone: Callable[[str], None] = _nobody
        self.stopped = False
        self.waiting: list[Callable[[], None]] | None = None  # a list: answers are kept back until a test gives them

    @property
    def facts(self) -> Facts:
        return self.runner.facts

    @property
    def stats(self) -> Stats:
        return Stats(errors=self.runner.errors)

    def send_history(self, market: Market, candles: Sequence[Candle], events: Sequence[MarketEvent]) -> None:
        index = self._markets.index(market)
        self.runner.anew(index)
        self.runner.show(index, [*candles, *events])
        self._end_if_over()

    def send_events(self, seq: int, events: Sequence[tuple[bytes, bool]]) -> None:
        def answer() -> None:
            said, failures = self.runner.take([(decode_event(data), live) for data, live in events])
            self.on_done(Done(seq, said, failures, 0, self.runner.over))
            self._end_if_over()

        if self.waiting is None:
            answer()
        else:
            self.waiting.append(answer)

    def beat(self) -> None:
        self.runner.heartbeat()

    async def save(self) -> bytes:
        try:
            return self.runner.save()
        except StateError as error:
            raise PluginRefused(str(error)) from error

    async def load(self, states: bytes) -> None:
        try:
            self.runner.load(states)
        except StateError as error:
            raise PluginRefused(str(error)) from error

    async def stop(self) -> None:
        self.stopped = True

    def answer(self) -> None:
        """Give the answers that were kept back."""
        waiting, self.waiting = self.waiting or [], None
        for answer in waiting:
            answer()

    def _end_if_over(self) -> None:
        if self.runner.over and not self.stopped:
            self.stopped = True
            self.on_gone(self.runner.over)


class InProcessWorkers:
    """Makes such workers; `made` has them by plugin name, the newest of each. Nobody loses them, so `on_lost` is never called."""

    def __init__(self) -> None:
        self.on_lost: Callable[[], None] | None = None
        self.made: dict[str, InProcessWorker] = {}

    async def open(self, source: PluginSource, settings: Mapping[str, object], markets: Sequence[Market]) -> InProcessWorker:
        try:
            worker = InProcessWorker(source, settings, markets)
        except PluginError as error:
            raise PluginRefused(str(error)) from error
        self.made[worker.facts.name] = worker
        return worker


def _nobody(_: object) -> None:
    """Until somebody wants to hear."""
