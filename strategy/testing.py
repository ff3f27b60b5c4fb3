"""A test kit for plugins: make events, feed them, look at the signals. No bus, no clock, no waiting.

plugin = running(Momentum, lookback=3)
signals = feed(plugin, tickers([100, 101, 102, 103]))
assert directions(signals) == [Direction.BUY]

`assert_well_behaved(Momentum)` tries what the bot demands of every plugin.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Any, TypeVar

from common_models import Candle, Direction, MarketEvent, Signal
from strategy.made_events import MARKET, MINUTE_NS, START_NS, books, candles, mixed, tickers, trades, walk
from strategy.plugin import CALLBACKS, Plugin, PluginError, make_plugin

__all__ = [
    "MARKET",
    "MINUTE_NS",
    "START_NS",
    "assert_deterministic",
    "assert_survives_handover",
    "assert_well_behaved",
    "books",
    "candles",
    "directions",
    "feed",
    "handed_over",
    "load",
    "mixed",
    "running",
    "tickers",
    "trades",
    "walk",
    "warmed_up",
]

P = TypeVar("P", bound=Plugin[Any])

WALK_EVENTS = 300
MARGIN = 50
"""How many candles a trial goes on after the plugin is warm."""


def running(kind: type[P], **settings: Any) -> P:
    """An instance of a plugin at work on BTC/USDT of the exchange `test`; raises PluginError for wrong settings."""
    plugin = make_plugin(kind, settings, MARKET)
    assert isinstance(plugin, kind)
    return plugin


def load(path: Path) -> type[Plugin[Any]]:
    """The class that a plugin file offers as PLUGIN, for a test that lies where nothing can be imported."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kind = module.PLUGIN
    assert isinstance(kind, type)
    assert issubclass(kind, Plugin)
    return kind


def feed(plugin: Plugin[Any], events: Iterable[MarketEvent]) -> list[Signal]:
    """Hand over the events that the plugin subscribes to, in order; returns its signals.

    Raises PluginError for what the bot would not take: no Signal, or a strength or confidence outside 0..1.
    """
    wanted = plugin.subscriptions()
    signals: list[Signal] = []
    for event in events:
        callback = CALLBACKS.get(type(event))
        if callback in wanted:
            signals.extend(_sound(plugin, said) for said in getattr(plugin, callback)(event) or ())
    return signals


def warmed_up(kind: type[P], history: Iterable[Candle], **settings: Any) -> P:
    """An instance that has seen past candles as the bot shows them at a start: what it said meanwhile went nowhere."""
    plugin = running(kind, **settings)
    feed(plugin, history)
    plugin.forget_opinion()
    return plugin


def directions(signals: Iterable[Signal]) -> list[Direction]:
    """What was said, without when and why."""
    return [signal.direction for signal in signals]


def handed_over(plugin: P, past: Iterable[MarketEvent] = ()) -> P:
    """A fresh instance as a changed file gets one: shown the past first, then the state that the old one saves, through JSON.

    What the old one had said counts no more then, so the new one begins without an opinion and says again what holds.
    """
    heir = type(plugin)(plugin.settings, plugin.market)
    feed(heir, past)
    heir.forget_opinion()
    state = plugin.on_save()
    if state is not None:
        heir.on_load(json.loads(json.dumps(state, allow_nan=False)))
    return heir


def assert_deterministic(kind: type[Plugin[Any]], events: Iterable[MarketEvent], **settings: Any) -> None:
    """The same events and settings must give the same signals: two instances in a row are compared."""
    same = list(events)
    first, second = (_plain(feed(running(kind, **settings), same)) for _ in range(2))
    _compare(first, second, "said other things the second time; is there state outside of self, a clock, or chance?")


def assert_survives_handover(kind: type[Plugin[Any]], events: Sequence[MarketEvent], **settings: Any) -> None:
    """One that hands its state over in the middle must turn where an undisturbed one turns."""
    middle = len(events) // 2
    plugin, seen = running(kind, **settings), events[:middle]
    feed(plugin, seen)
    heir, stood = handed_over(plugin, _past(plugin, seen)), plugin.direction

    def turns(said: Iterable[Signal]) -> list[Any]:
        return _plain(dropwhile(lambda signal: signal.direction in {Direction.HOLD, stood}, said))

    expected, found = turns(feed(plugin, events[middle:])), turns(feed(heir, events[middle:]))
    _compare(expected, found, "says other things after on_save and on_load; what is missing in what it saves?")


def assert_well_behaved(kind: type[Plugin[Any]], **settings: Any) -> None:
    """Try what the bot demands of every plugin, on events of every kind at random prices.

    Its signals are sound, the same events give the same signals, and, when it defines on_save, its state survives a handover.
    """
    plugin = running(kind, **settings)
    count = max(WALK_EVENTS, plugin.warm_up + MARGIN)
    events = mixed(
        candles(walk(count, seed=1)),
        tickers(walk(count, seed=2), spread="0.02", every_ns=MINUTE_NS),
        trades(walk(count, seed=3), every_ns=MINUTE_NS),
        books(walk(count, seed=4), every_ns=MINUTE_NS),
    )
    assert_deterministic(kind, events, **settings)
    if kind.on_save is not Plugin.on_save:
        assert_survives_handover(kind, events, **settings)
    assert isinstance(plugin.heartbeat(), str), f"{kind.__name__}.heartbeat() must return text"


def _past(plugin: Plugin[Any], seen: Sequence[MarketEvent]) -> list[MarketEvent]:
    """What the bot shows of the past: the closed candles, then as many other events as the plugin asks for."""
    past: list[MarketEvent] = [event for event in seen if isinstance(event, Candle)]
    others = [event for event in seen if not isinstance(event, Candle)]
    return past + others[max(0, len(others) - plugin.warm_up_events) :]


def _sound(plugin: Plugin[Any], said: object) -> Signal:
    if not isinstance(said, Signal):
        raise PluginError(f"{plugin.name} said {said!r:.200}, which is no Signal")
    for word, value in (("strength", said.strength), ("confidence", said.confidence)):
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise PluginError(f"{plugin.name}: {word} must lie in 0..1, not {value!r}")
    return said


def _plain(signals: Iterable[Signal]) -> list[tuple[str, str, float, float, str]]:
    return [(said.causation_id, said.direction.value, said.strength, said.confidence, said.reason) for said in signals]


def _compare(expected: list[Any], found: list[Any], complaint: str) -> None:
    for number, (one, other) in enumerate(zip(expected, found, strict=False), start=1):
        assert one == other, f"signal {number}: {one} and {other}: {complaint}"
    assert len(expected) == len(found), f"{len(expected)} and {len(found)} signals: {complaint}"
