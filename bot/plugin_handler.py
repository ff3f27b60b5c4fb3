"""Runs the plugins: hands them events, checks what they say, and switches off those that fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import structlog

from bot.data_provider import CandlesRebuilt
from common_models import AggregateTrade, Candle, Direction, MarketEvent, OrderBook, Signal, Ticker, Trade
from common_models.timestamps import NS_PER_S
from runtime.settings import PluginSettings
from strategy import Market, Plugin, PluginError, make_plugin
from strategy.plugin import CALLBACKS

log = structlog.get_logger(__name__)

MAX_ERRORS = 5
"""Failed callbacks after which a plugin is switched off until it is enabled again or the bot starts anew."""

Decide = Callable[[MarketEvent, list[Signal]], None]
Callback = Callable[[Any], Iterable[Signal] | None]


class Listener(Protocol):
    """Who hears of the plugins' fate."""

    def plugin_disabled(self, name: str, reason: str) -> None:
        """A plugin failed too often, or its settings are wrong."""

    def opinions_void(self, name: str, market: Market | None) -> None:
        """What the plugin said of this market (or of all) holds no more."""


@dataclass(slots=True)
class Slot:
    """One plugin with its instances, one for each market."""

    kind: type[Plugin[Any]]
    settings: Mapping[str, Any]
    instances: dict[Market, Plugin[Any]] = field(default_factory=dict)
    errors: int = 0
    off_because: str = ""


@dataclass(slots=True)
class Route:
    """Where an event of one kind and market goes to."""

    slot: Slot
    plugin: Plugin[Any]
    callback: Callback


class PluginHandler:
    """Owns all plugin instances of all markets. `decide` gets the signals of each event; `run_length` says how warm a market is.

    A plugin is free to be wrong, but only for itself: what it raises is counted and logged, the fifth time it is switched off.
    What it says is attributed here, so no plugin can speak for another, or of another market.
    """

    def __init__(
        self,
        markets: Iterable[Market],
        decide: Decide,
        run_length: Callable[[Market], int],
        run_of: Callable[[Market], list[Candle]],
        listener: Listener,
        clock: Callable[[], int],
        max_event_age_s: float,
    ) -> None:
        self._markets = tuple(markets)
        self._decide = decide
        self._run_length = run_length
        self._run_of = run_of
        self._listener = listener
        self._clock = clock
        self._max_age_ns = int(max_event_age_s * NS_PER_S)
        self._routes: dict[tuple[type, Market], list[Route]] = {}
        self.slots: dict[str, Slot] = {}
        self.errors = 0

    def add(self, kind: type[Plugin[Any]], settings: PluginSettings) -> None:
        """Take in a plugin and start it, unless its settings say otherwise or are wrong."""
        slot = self.slots[kind.name] = Slot(kind, settings.settings)
        if settings.enabled:
            self.enable(kind.name)
        else:
            slot.off_because = "disabled in the configuration"

    def enable(self, name: str) -> bool:
        """Start a plugin with fresh instances, warmed up with the candles that are known; False when there is none of this name."""
        slot = self.slots.get(name)
        if slot is None:
            return False
        slot.instances = {}
        for market in self._markets:
            plugin = self._made(slot, market)
            if plugin is None:
                return True
            slot.instances[market] = plugin
        slot.errors, slot.off_because = 0, ""
        self._route()
        for market in self._markets:
            self._replay(slot, market, self._run_of(market))
        return True

    def disable(self, name: str, reason: str) -> bool:
        """Stop a plugin and forget its opinions; False when there is none of this name."""
        slot = self.slots.get(name)
        if slot is None:
            return False
        slot.instances, slot.off_because = {}, reason
        self._route()
        self._listener.opinions_void(name, None)
        return True

    def update(self, event: MarketEvent) -> None:
        """Hand an event to the plugins that want it, and their signals on. Events of the past only warm them up."""
        routes = self._routes.get((type(event), Market(event.exchange, event.symbol)))
        if not routes or (type(event) is Ticker and event.crossed):
            return
        happened_ns = event.close_ns if isinstance(event, Candle) else event.ts_recv_ns
        live = self._clock() - happened_ns <= self._max_age_ns
        signals: list[Signal] = []
        for route in routes:
            said = self._call(route, event)
            if not live:
                route.plugin.forget_opinion()
            elif said and self._is_warm(route.plugin):
                signals += said
        if signals:
            self._decide(event, signals)

    def rebuild(self, rebuilt: CandlesRebuilt) -> None:
        """The candles of a market are others than was thought: start its instances anew and read the run to them."""
        for name, slot in self.slots.items():
            known = slot.instances.get(rebuilt.market)
            if known is None or "on_candle" not in known.subscriptions():
                continue
            fresh = self._made(slot, rebuilt.market)
            if fresh is None:
                continue
            slot.instances[rebuilt.market] = fresh
            self._listener.opinions_void(name, rebuilt.market)
            self._replay(slot, rebuilt.market, rebuilt.run)
        self._route()

    def cold(self) -> list[tuple[str, Market]]:
        """Plugins that have not seen enough candles of a market yet."""
        return [
            (name, market)
            for name, slot in self.slots.items()
            for market, plugin in slot.instances.items()
            if not self._is_warm(plugin)
        ]

    def _is_warm(self, plugin: Plugin[Any]) -> bool:
        needed = plugin.warm_up
        return not needed or self._run_length(plugin.market) >= needed

    def _made(self, slot: Slot, market: Market) -> Plugin[Any] | None:
        """A fresh instance; None, and the plugin is switched off, when it cannot be made."""
        try:
            return make_plugin(slot.kind, slot.settings, market)
        except PluginError as error:
            self._switch_off(slot, str(error))
        except Exception as error:  # noqa: BLE001 the boundary to code that is not ours
            self._switch_off(slot, f"could not be made: {type(error).__name__}: {error}")
        return None

    def _replay(self, slot: Slot, market: Market, candles: Iterable[Candle]) -> None:
        """Warm one instance up; what it says on the way is old and goes nowhere."""
        plugin = slot.instances.get(market)
        if plugin is None or "on_candle" not in plugin.subscriptions():
            return
        route = Route(slot, plugin, plugin.on_candle)  # type: ignore[attr-defined]
        for candle in candles:
            self._call(route, candle)
        plugin.forget_opinion()

    def _call(self, route: Route, event: MarketEvent) -> list[Signal]:
        try:
            said = route.callback(event)
            return [self._attributed(signal, route, event) for signal in said] if said is not None else []
        except Exception as error:  # noqa: BLE001 the boundary to code that is not ours
            self._failed(route.slot, event, error)
            return []

    def _attributed(self, signal: object, route: Route, event: MarketEvent) -> Signal:
        """The signal as this plugin's on this market; raises PluginError for what is no sound signal."""
        if not isinstance(signal, Signal) or not isinstance(signal.direction, Direction):
            raise PluginError(f"said {signal!r:.200}, which is no Signal")
        for name, value in (("strength", signal.strength), ("confidence", signal.confidence)):
            if not (isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 1):
                raise PluginError(f"{name} must lie in 0..1, not {value!r:.50}")
        plugin = route.plugin
        if (signal.strategy, signal.exchange, signal.symbol, signal.causation_id) != (
            plugin.name,
            *plugin.market,
            event.message_id,
        ):
            return msgspec.structs.replace(
                signal,
                strategy=plugin.name,
                exchange=plugin.market.exchange,
                symbol=plugin.market.symbol,
                causation_id=event.message_id,
            )
        return signal

    def _failed(self, slot: Slot, event: MarketEvent, error: Exception) -> None:
        self.errors += 1
        slot.errors += 1
        log.warning("plugin.failed", plugin=slot.kind.name, message_id=event.message_id, errors=slot.errors, exc_info=error)
        if slot.errors >= MAX_ERRORS and not slot.off_because:
            self._switch_off(slot, f"failed {slot.errors} times, last {type(error).__name__}: {error}")

    def _switch_off(self, slot: Slot, reason: str) -> None:
        self.disable(slot.kind.name, reason)
        self._listener.plugin_disabled(slot.kind.name, reason)

    def _route(self) -> None:
        """Work out who gets what, so that an event costs one look-up."""
        routes: dict[tuple[type, Market], list[Route]] = {}
        for slot in self.slots.values():
            for market, plugin in slot.instances.items():
                wanted = plugin.subscriptions()
                for kind, name in CALLBACKS.items():
                    if name in wanted:
                        routes.setdefault((kind, market), []).append(Route(slot, plugin, getattr(plugin, name)))
        self._routes = routes


EVENT_TYPES: tuple[type[MarketEvent], ...] = (Ticker, Trade, AggregateTrade, OrderBook, Candle)
"""What `PluginHandler.update` wants to be told of."""
