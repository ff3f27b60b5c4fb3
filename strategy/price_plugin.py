"""A plugin that judges one series of prices, whichever events they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

from common_models import Candle, Direction, MarketEvent, Signal, Ticker, Trade
from strategy.plugin import Plugin, PluginSettings


class PriceSettings(PluginSettings):
    """`source` is where prices come from: the closes of candles, the middle of each best bid and offer, or each trade.

    With candles, `intrabar` also judges the live middle price as if the running candle closed there, without keeping it.
    """

    source: Literal["candles", "ticks", "trades"] = "candles"
    intrabar: bool = True


class Opinion:
    """A direction, how strong (0..1), and the figures behind it, put into words only when somebody is told."""

    __slots__ = ("_figures", "_words", "direction", "strength")

    def __init__(self, direction: Direction, words: str, *figures: float, strength: float = 1.0) -> None:
        self.direction = direction
        self.strength = strength
        self._words = words
        self._figures = figures

    @property
    def reason(self) -> str:
        """`words` with the figures filled in, as `str.format` does."""
        return self._words.format(*self._figures)


Settings = TypeVar("Settings", bound=PriceSettings)


class PricePlugin(Plugin[Settings], ABC, Generic[Settings]):
    """Signals whenever the opinion on the price turns. Subclasses say how a price is taken in and how it is judged."""

    @abstractmethod
    def take(self, price: float) -> Opinion | None:
        """Take the next price in for good and judge; None while there are too few."""

    @abstractmethod
    def look(self, price: float) -> Opinion | None:
        """Judge as if `price` were the next one, without taking it in."""

    @property
    @abstractmethod
    def prices_needed(self) -> int:
        """How many prices must have been taken in before there is an opinion."""

    @property
    def warm_up(self) -> int:
        return self.prices_needed if self.settings.source == "candles" else 0

    @property
    def warm_up_events(self) -> int:
        return 0 if self.settings.source == "candles" else self.prices_needed

    def subscriptions(self) -> frozenset[str]:
        if self.settings.source == "candles":
            return frozenset({"on_candle", "on_ticker"} if self.settings.intrabar else {"on_candle"})
        return frozenset({"on_ticker"} if self.settings.source == "ticks" else {"on_trade"})

    def on_candle(self, candle: Candle) -> Iterator[Signal]:
        return self._say(candle, self.take(float(candle.close)))

    def on_trade(self, trade: Trade) -> Iterator[Signal]:
        return self._say(trade, self.take(float(trade.price)))

    def on_ticker(self, ticker: Ticker) -> Iterator[Signal]:
        middle = (float(ticker.bid_price) + float(ticker.ask_price)) / 2
        return self._say(ticker, self.take(middle) if self.settings.source == "ticks" else self.look(middle))

    def _say(self, event: MarketEvent, opinion: Opinion | None) -> Iterator[Signal]:
        if opinion is not None and opinion.direction is not self.direction:
            yield self.signal(event, opinion.direction, strength=opinion.strength, reason=opinion.reason)
