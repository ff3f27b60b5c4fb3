"""Hands every event to the plugins that want it, and what they say on, in the turn of the loop in which the last one answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count, groupby
from typing import Protocol

from bot.data_provider import CandlesRebuilt
from bot.isolation.protocol import Done, encode_event
from bot.plugin_feed import Item, Opinion, PluginFeed, Round
from common_models import AggregateTrade, Candle, MarketEvent, OrderBook, Signal, Ticker, Trade
from common_models.timestamps import NS_PER_S
from runtime.clock import monotonic_ns
from strategy import Market
from strategy.plugin import CALLBACKS

PATIENCE_S = 0.01
"""How long a decision waits for a plugin that has not answered; it is not waited for again until it has caught up."""

CALLBACK_TYPES: tuple[type[MarketEvent], ...] = (Ticker, Trade, AggregateTrade, OrderBook, Candle)
"""What `PluginHandler.update` wants to be told of."""


class Turns(Protocol):
    """The event loop as the handler needs it."""

    def now_s(self) -> float: ...

    def at_end(self, function: Callable[[], None]) -> object:
        """Call when this turn's work is done."""

    def later(self, delay_s: float, function: Callable[[], None]) -> object:
        """Call after a while."""


class LoopTurns:
    """The running event loop."""

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def at_end(self, function: Callable[[], None]) -> object:
        return asyncio.get_running_loop().call_soon(function)

    def later(self, delay_s: float, function: Callable[[], None]) -> object:
        return asyncio.get_running_loop().call_later(delay_s, function)


class Listener(Protocol):
    """Who hears what the plugins say."""

    def decide(self, event: MarketEvent, signals: Sequence[Signal], taken_ns: int) -> None:
        """All that the plugins that have a say said to one event, which the bot got at `taken_ns` (monotonic clock)."""

    def recorded(self, signal: Signal, taken_ns: int) -> None:
        """A signal of a plugin in shadow."""

    def opinions_void(self, name: str, market: Market | None) -> None:
        """What a plugin said of this market (or of all) holds no more."""


class History(Protocol):
    """Where the past of a market is."""

    def run_of(self, market: Market) -> list[Candle]: ...

    def recent(self, market: Market, callbacks: Iterable[str], limit: int) -> list[MarketEvent]: ...


class PluginHandler:
    """Routes events to feeds and settles rounds. Nothing here waits.

    A batch of events goes to all workers at once and is decided when all those with a say have answered, in the order of the
    events and of the plugins' names: the same events give the same decisions, whichever process ran first.
    """

    def __init__(
        self,
        markets: Iterable[Market],
        history: History,
        listener: Listener,
        clock: Callable[[], int],
        max_event_age_s: float,
        turns: Turns | None = None,
    ) -> None:
        self.markets = tuple(markets)
        self._history = history
        self._listener = listener
        self._clock = clock
        self._max_age_ns = int(max_event_age_s * NS_PER_S)
        self._turns = turns or LoopTurns()
        self._feeds: list[PluginFeed] = []
        self._routes: dict[tuple[type, Market], list[PluginFeed]] = {}
        self._numbers = count()
        self._flush_due = False
        self._open: deque[Round] = deque()
        self._impatience_due = False
        self.late_answers = 0

    # -- who takes part

    def add(self, feed: PluginFeed) -> None:
        """Let a worker take part from the next event on, with the past of every market first."""
        feed.worker.on_done = lambda done: self._done(feed, done)
        for market in self.markets:
            self._send_history(feed, market)
        self._feeds.append(feed)
        self._route()

    def remove(self, feed: PluginFeed) -> None:
        """Let a worker take part no more; nobody waits for its answers."""
        if feed in self._feeds:
            self._feeds.remove(feed)
            self._route()
        for _, round_ in feed.outstanding.values():
            self._answered(round_, feed)
        feed.outstanding.clear()

    def replace(self, old: PluginFeed, new: PluginFeed) -> None:
        """The version that was warmed up beside the old one has its say from here on; the events held back come first."""
        new.muted = False
        self.remove(old)
        self.release(new)

    def hold(self, *feeds: PluginFeed) -> None:
        """An event boundary: what came so far is on its way, what comes now is kept back."""
        self.flush()
        for feed in feeds:
            feed.hold()

    def release(self, feed: PluginFeed) -> None:
        """Hand on what was kept back."""
        feed.release()
        self._flush_soon()

    # -- events in

    def update(self, event: MarketEvent) -> None:
        """Queue an event for the plugins that want it. What happened too long ago only warms them up."""
        feeds = self._routes.get((type(event), Market(event.exchange, event.symbol)))
        if not feeds or (type(event) is Ticker and event.crossed):
            return
        happened_ns = event.close_ns if isinstance(event, Candle) else event.ts_recv_ns
        item = Item(
            next(self._numbers), monotonic_ns(), event, encode_event(event), self._clock() - happened_ns <= self._max_age_ns
        )
        for feed in feeds:
            feed.take(item)
        if not self._flush_due:
            self._flush_soon()

    def rebuild(self, rebuilt: CandlesRebuilt) -> None:
        """The candles of a market are others than was thought: those who follow them read the run anew."""
        self.flush()
        for feed in self._feeds:
            if "on_candle" in feed.worker.facts.callbacks:
                self._send_history(feed, rebuilt.market)
                self._listener.opinions_void(feed.name, rebuilt.market)

    def flush(self) -> None:
        """Hand on all that is queued, as one round."""
        self._flush_due = False
        ready = [feed for feed in self._feeds if feed.pending]
        if not ready:
            return
        round_ = Round({feed for feed in ready if feed.has_a_say}, self._turns.now_s())
        self._open.append(round_)
        for feed in ready:
            feed.send(round_)
        self._settle(round_)
        self._lose_patience_later()

    # -- signals out

    def _done(self, feed: PluginFeed, done: Done) -> None:
        answer = feed.answered(done)
        if answer is None:
            return
        opinions, round_ = answer
        if feed.shadow:
            for opinion in opinions:
                self._listener.recorded(opinion.signal, opinion.item.taken_ns)
        elif round_.settled:
            self.late_answers += bool(opinions)
            self._tell(opinions)
        else:
            round_.opinions += opinions
        self._answered(round_, feed)

    def _answered(self, round_: Round, feed: PluginFeed) -> None:
        round_.waiting.discard(feed)
        self._settle(round_)

    def _settle(self, round_: Round) -> None:
        """Decide when nobody is waited for any more."""
        if round_.waiting or round_.settled:
            return
        round_.settled = True
        while self._open and self._open[0].settled:
            self._open.popleft()
        if round_.opinions:
            self._tell(sorted(round_.opinions, key=_event_then_name))

    def _tell(self, opinions: Iterable[Opinion]) -> None:
        for _, group in groupby(opinions, key=_number):
            said = list(group)
            item = said[0].item
            self._listener.decide(item.event, [opinion.signal for opinion in said], item.taken_ns)

    def _lose_patience_later(self) -> None:
        if self._open and not self._impatience_due:
            self._impatience_due = True
            self._turns.later(PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        """Decide without those who let a round wait for too long."""
        self._impatience_due = False
        due_s = self._turns.now_s() - PATIENCE_S
        while self._open and self._open[0].started_s <= due_s:
            round_ = self._open[0]
            for feed in round_.waiting:
                feed.late = True
            round_.waiting.clear()
            self._settle(round_)
        self._lose_patience_later()

    # -- inner

    def _send_history(self, feed: PluginFeed, market: Market) -> None:
        facts = feed.worker.facts
        candles = self._history.run_of(market) if "on_candle" in facts.callbacks else []
        events = self._history.recent(market, facts.callbacks, facts.warm_up_events) if facts.warm_up_events else []
        feed.worker.send_history(market, candles, events)

    def _flush_soon(self) -> None:
        self._flush_due = True
        self._turns.at_end(self.flush)

    def _route(self) -> None:
        """Work out who gets what, so that an event costs one look-up."""
        routes: dict[tuple[type, Market], list[PluginFeed]] = {}
        for feed in self._feeds:
            wanted = [kind for kind, name in CALLBACKS.items() if name in feed.worker.facts.callbacks]
            for kind in wanted:
                for market in self.markets:
                    routes.setdefault((kind, market), []).append(feed)
        self._routes = routes


def _number(opinion: Opinion) -> int:
    return opinion.item.number


def _event_then_name(opinion: Opinion) -> tuple[int, str]:
    return opinion.item.number, opinion.signal.strategy
