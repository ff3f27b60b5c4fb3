"""The contract of a strategy: one file, one class, one callback for each kind of event that it listens to.

    class Momentum(Plugin[MomentumSettings]):
        name = "momentum"
        settings_type = MomentumSettings

        def on_ticker(self, ticker: Ticker) -> Iterator[Signal]:
            ...
            yield self.signal(ticker, Direction.BUY, reason="three higher bids in a row")

    PLUGIN = Momentum

A plugin has no clock, no socket and no bus: what it may know, it is handed. The same events and settings give the same signals.
One instance serves one market.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from common_models import AggregateTrade, Candle, Direction, MarketEvent, OrderBook, Signal, Ticker, Trade

CALLBACKS: Mapping[type[MarketEvent], str] = {
    Ticker: "on_ticker",
    Trade: "on_trade",
    AggregateTrade: "on_trade",
    OrderBook: "on_book",
    Candle: "on_candle",
}
"""Which callback takes which event. Candles come closed, in order and of the bot's timeframe; books only when valid."""

HOOKS = frozenset({"on_save", "on_load"})
"""What is called when a changed file takes over, beside the callbacks for events."""

Signals = Iterable[Signal] | None
"""What a callback returns; a generator is the usual form."""


class PluginError(Exception):
    """A plugin or its settings cannot be used; the text says what to change."""


class PluginSettings(BaseModel):
    """Base of a plugin's own settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


Settings = TypeVar("Settings", bound=PluginSettings)


class Market(NamedTuple):
    """Where an instance is at work."""

    exchange: str
    symbol: str


class Plugin(Generic[Settings]):
    """Base of every strategy. Subclasses set `name` and `settings_type` and define some of the callbacks in `CALLBACKS`.

    `when_gone` says what becomes of open positions that the plugin wanted once its file is removed or it was ended for misbehaving:
    they are kept (stop-loss and take-profit go on), or closed.
    """

    name: ClassVar[str] = ""
    when_gone: ClassVar[Literal["keep", "close"]] = "keep"
    settings_type: ClassVar[type[PluginSettings]] = PluginSettings

    def __init__(self, settings: Settings, market: Market) -> None:
        self.settings = settings
        self.market = market
        self.direction = Direction.HOLD  # the last that was signalled: signal changes, not states

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = {*CALLBACKS.values(), *HOOKS}
        for callback in vars(cls):
            if callback.startswith("on_") and callback not in known:
                raise PluginError(f"{cls.__name__}.{callback} is no callback; there are {', '.join(sorted(known))}")

    @property
    def warm_up(self) -> int:
        """Closed candles that must have been seen before the plugin has an opinion; 0 if it needs none."""
        return 0

    @property
    def warm_up_events(self) -> int:
        """Past events other than candles that the plugin wants to be shown first, as far as the bot has them."""
        return 0

    def heartbeat(self) -> str:
        """Called every few seconds: a word for people on how it goes. What it raises counts as an error."""
        return ""

    def on_save(self) -> object | None:
        """What the next version of this file shall know, of plain JSON types; None is nothing."""
        return None

    def on_load(self, state: object) -> None:
        """Take what the version before saved; called after the warm-up. Raise, and the version before goes on."""
        return

    def subscriptions(self) -> frozenset[str]:
        """The callbacks that want to be called: those defined, unless the settings need fewer."""
        return frozenset(name for name in CALLBACKS.values() if callable(getattr(self, name, None)))

    def signal(
        self, event: MarketEvent, direction: Direction, *, strength: float = 1.0, confidence: float = 1.0, reason: str = ""
    ) -> Signal:
        """An opinion caused by `event`; it stands until the next one. `strength` and `confidence` lie in 0..1."""
        self.direction = direction
        return Signal(
            causation_id=event.message_id,
            correlation_id=event.correlation_id or event.message_id,
            strategy=self.name,
            exchange=event.exchange,
            symbol=event.symbol,
            direction=direction,
            strength=strength,
            confidence=confidence,
            reason=reason,
            ts_event_ns=event.ts_recv_ns if event.ts_event_ns is None else event.ts_event_ns,
        )

    def forget_opinion(self) -> None:
        """What was signalled so far reached nobody (it was history): say it again when it still holds."""
        self.direction = Direction.HOLD


def make_plugin(kind: type[Plugin[Any]], settings: Mapping[str, Any], market: Market) -> Plugin[Any]:
    """Return an instance at work on `market`; raises PluginError with one line for each wrong setting."""
    if not kind.name:
        raise PluginError(f"{kind.__name__} has no name: set `name = ...` in the class")
    try:
        checked = kind.settings_type.model_validate(dict(settings))
    except ValidationError as error:
        raise PluginError("\n".join(_explain(kind.name, problem) for problem in error.errors())) from None
    return kind(checked, market)


def _explain(name: str, problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    text = "unknown setting" if problem["type"] == "extra_forbidden" else problem["msg"]
    return f"plugin {name}: {key}: {text}" if key else f"plugin {name}: {text}"
