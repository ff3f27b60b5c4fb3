"""All instances of one plugin: hands them events, checks what they say, and gives up on a plugin that keeps failing.

It does no I/O and knows no process: a worker runs it, and so can a backtest.
"""

from __future__ import annotations

import errno
import json
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from bot.isolation.loading import imports_of, line_of, load_class, settings_of, words_of
from bot.isolation.protocol import MAX_SIGNALS_PER_EVENT, MAX_STATE_BYTES, Facts, Failure, Said, clipped
from common_models import Candle, Direction, MarketEvent, Signal, Ticker
from strategy import Market, Plugin, PluginError, make_plugin
from strategy.plugin import CALLBACKS

MAX_ERRORS: Final = 5
"""Failed callbacks after which a plugin is ended."""

MAX_WARM_UP: Final = 1_000_000

Callback = Callable[[Any], Iterable[object] | None]


class StateError(Exception):
    """A state could not be saved or taken over; the text says why."""


class Instance:
    """One plugin at work on one market. `candles` is how many of the unbroken run it has seen."""

    __slots__ = ("callbacks", "candles", "needed", "plugin")

    def __init__(self, plugin: Plugin[Any]) -> None:
        self.plugin = plugin
        self.candles = 0
        wanted = plugin.subscriptions()
        self.callbacks: dict[type, Callback] = {kind: getattr(plugin, name) for kind, name in CALLBACKS.items() if name in wanted}
        self.needed = _count("warm_up", plugin.warm_up) if Candle in self.callbacks else 0


class Runner:
    """One plugin on all its markets. Raises PluginError when the file, its settings or its contract are wrong.

    What it raises later is counted and logged; the fifth time `over` says why it may not go on, and what it says counts no more.
    `tell` is called with the traceback of each failure.
    """

    def __init__(
        self,
        path: str,
        code: bytes,
        settings: Mapping[str, Any],
        markets: Sequence[Market],
        memory_mb: int = 0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.over = ""
        self.errors = 0
        self._path = path
        self._settings = settings
        self._markets = tuple(markets)
        self._memory_mb = memory_mb
        self._tell = tell
        self._kind = load_class(path, code)
        self._instances = {market: self._made(market) for market in self._markets}
        self.facts = self._facts(code)

    def _facts(self, code: bytes) -> Facts:
        plugins = [instance.plugin for instance in self._instances.values()]
        return Facts(
            name=self._kind.name,
            callbacks=frozenset(CALLBACKS[kind] for one in self._instances.values() for kind in one.callbacks),  # type: ignore[misc]
            warm_up=max((one.needed for one in self._instances.values()), default=0),
            warm_up_events=max((_count("warm_up_events", plugin.warm_up_events) for plugin in plugins), default=0),
            when_gone=self._kind.when_gone,
            imports=imports_of(code),
            settings=settings_of(self._kind.settings_type),
        )

    def _made(self, market: Market) -> Instance:
        try:
            return Instance(make_plugin(self._kind, self._settings, market))
        except PluginError:
            raise
        except BaseException as error:
            raise PluginError(self._described(error, "making it")) from error

    def anew(self, market: int) -> None:
        """Start the instance of the market with this index afresh; one that cannot be made ends the plugin."""
        try:
            self._instances[self._markets[market]] = self._made(self._markets[market])
        except PluginError as error:
            self.end(str(error))

    def show(self, market: int, past: Iterable[MarketEvent]) -> list[Failure]:
        """Let an instance see the past, in order of time; what it says on the way is old and goes nowhere."""
        failures: list[Failure] = []
        instance = self._instances[self._markets[market]]
        for event in past:
            self._call(instance, 0, event, failures)
        instance.plugin.forget_opinion()
        return failures

    def take(self, events: Iterable[tuple[MarketEvent, bool]]) -> tuple[list[Said], list[Failure]]:
        """Hand over events, each with whether it is live; returns what was said of live ones by warm instances."""
        said: list[Said] = []
        failures: list[Failure] = []
        for index, (event, live) in enumerate(events):
            instance = self._instances.get((event.exchange, event.symbol))  # type: ignore[call-overload]
            if instance is None:
                continue
            opinions = self._call(instance, index, event, failures)
            if not live or instance.candles < instance.needed:
                instance.plugin.forget_opinion()
            elif opinions:
                said += opinions
        return said, failures

    def heartbeat(self) -> str:
        """What the instances say of themselves, each word once."""
        texts: dict[str, None] = {}
        for instance in self._instances.values():
            try:
                text = instance.plugin.heartbeat()
                if not isinstance(text, str):
                    raise PluginError(f"heartbeat must return text, not {text!r:.50}")  # noqa: TRY301 one handler for both
                texts[text] = None
            except BaseException as error:  # noqa: BLE001 the boundary to code that is not ours
                self._failed(error, "heartbeat")
        return clipped("; ".join(text for text in texts if text))

    def save(self) -> bytes:
        """The states of all instances that have one, as JSON; raises StateError."""
        states: list[tuple[str, str, object]] = []
        try:
            for market, instance in self._instances.items():
                state = instance.plugin.on_save()
                if state is not None:
                    states.append((*market, state))
            data = json.dumps(states, allow_nan=False).encode()  # unlike msgspec, it survives that there is no memory for it
        except BaseException as error:
            raise StateError(self._described(error, "on_save")) from error
        if len(data) > MAX_STATE_BYTES:
            raise StateError(f"on_save: a state of {len(data)} bytes, more than {MAX_STATE_BYTES}")
        return data

    def load(self, states: bytes) -> None:
        """Give every instance what the version before saved for its market; raises StateError."""
        try:
            for exchange, symbol, state in json.loads(states):
                instance = self._instances.get(Market(exchange, symbol))
                if instance is not None:
                    instance.plugin.on_load(state)
        except BaseException as error:
            raise StateError(self._described(error, "on_load")) from error

    def end(self, reason: str) -> None:
        """The plugin may not go on; the first reason counts."""
        self.over = self.over or clipped(reason)

    def _call(self, instance: Instance, index: int, event: MarketEvent, failures: list[Failure]) -> list[Said] | None:
        callback = instance.callbacks.get(type(event))
        if callback is None or self.over or (type(event) is Ticker and event.crossed):
            return None
        if type(event) is Candle:
            instance.candles += 1
        try:
            signals = callback(event)
            return self._checked(signals, index) if signals is not None else None
        except BaseException as error:  # noqa: BLE001 the boundary to code that is not ours
            failures.append(Failure(index, self._failed(error, CALLBACKS[type(event)])))
            return None

    def _checked(self, signals: Iterable[object], index: int) -> list[Said]:
        """What was said, if it is sound; raises PluginError where it is not."""
        said: list[Said] = []
        for signal in signals:
            if not isinstance(signal, Signal) or not isinstance(signal.direction, Direction):
                raise PluginError(f"said {signal!r:.200}, which is no Signal")
            for name, value in (("strength", signal.strength), ("confidence", signal.confidence)):
                if not (isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 1):
                    raise PluginError(f"{name} must lie in 0..1, not {value!r:.50}")
            if len(said) == MAX_SIGNALS_PER_EVENT:
                self.end(f"too many signals: more than {MAX_SIGNALS_PER_EVENT} for one event")
                break
            said.append(Said(index, signal.direction, float(signal.strength), float(signal.confidence), clipped(signal.reason)))
        return said

    def _failed(self, error: BaseException, where: str) -> str:
        """Count and tell a failure; returns it in a line."""
        text = self._described(error, where)
        self.errors += 1
        with suppress(BaseException):  # the text of its exception is its own code, too; the line above says what there is to say
            self._tell("".join(traceback.format_exception(error)))
        if isinstance(error, MemoryError):
            self.end(text)  # what it holds is broken, and it would soon ask for as much again
        elif self.errors >= MAX_ERRORS:
            self.end(f"failed {self.errors} times, last {text}")
        return text

    def _described(self, error: BaseException, where: str) -> str:
        """One line on an error: what, why, and the line of the file."""
        if isinstance(error, MemoryError):
            return f"memory: {where} needed more than {self._memory_mb} MB"
        blocked = "blocked: " if isinstance(error, OSError) and error.errno in {errno.EPERM, errno.EACCES} else ""
        line = line_of(error, self._path)
        place = f" ({self._path}:{line}, {where})" if line else f" ({where})"
        return clipped(f"{blocked}{words_of(error)[:300]}{place}")


def _count(name: str, value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= MAX_WARM_UP:
        raise PluginError(f"{name} must be a whole number from 0 to {MAX_WARM_UP}, not {value!r:.50}")
    return int(value)
