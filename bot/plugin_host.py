"""What the bot does for its plugins and with what they say: the one place where plugins and trading meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bot.consensus import Consensus
from bot.data_provider import DataProvider
from bot.decision_maker import DecisionMaker
from bot.exit_watch import ExitWatch
from bot.isolation.protocol import Facts
from bot.metrics import BotMetrics
from bot.order_desk import OrderDesk
from common_models import AlertLevel, MarketEvent, PluginStatus, Signal
from strategy import Market

WARM_UP_RESERVE = 2
"""Candles are kept for so many warm-ups, so that a hole in them does not leave a plugin without any."""


class PluginHost:
    """The listener of the plugin handler and the host of the lifecycle. `wants` follows the streams that callbacks take."""

    def __init__(
        self,
        desk: OrderDesk,
        consensus: Consensus,
        decision_maker: DecisionMaker,
        exit_watch: ExitWatch,
        provider: DataProvider,
        metrics: BotMetrics,
    ) -> None:
        self._desk = desk
        self._consensus = consensus
        self._decision_maker = decision_maker
        self._exit_watch = exit_watch
        self._provider = provider
        self._metrics = metrics
        self.wants: Callable[[Iterable[str]], None] = _follow_nothing
        self.bars_needed = 0

    # -- what plugins say

    def decide(self, event: MarketEvent, signals: Sequence[Signal], taken_ns: int) -> None:
        """All that the plugins that have a say said to one event."""
        for signal in signals:
            self._metrics.signalled(signal, taken_ns)
        self._decision_maker.decide(event, signals)

    def recorded(self, signal: Signal, taken_ns: int) -> None:
        """A signal of a plugin in shadow: published, and nothing follows from it."""
        self._metrics.signalled(signal, taken_ns)
        self._desk.tell_signal(signal)

    def opinions_void(self, name: str, market: Market | None) -> None:
        """What a plugin said of this market (or of all) holds no more."""
        self._consensus.withdraw(name, market)

    # -- what becomes of plugins

    def plugin_alert(self, level: AlertLevel, code: str, text: str, plugin: str, *, resolves: bool = False) -> None:
        """Tell a person about a plugin."""
        self._desk.alert(level, code, text, category="plugins", resolves=resolves, plugin=plugin)

    def plugin_status(self, status: PluginStatus) -> None:
        """Publish how a plugin is."""
        self._metrics.plugin(status)
        self._desk.tell_plugin(status)

    def plugin_wants(self, facts: Facts) -> None:
        """Follow the streams and keep the candles that a plugin needs."""
        self.bars_needed = max(self.bars_needed, facts.warm_up)
        self._provider.keep_candles(WARM_UP_RESERVE * facts.warm_up)
        self.wants(facts.callbacks)

    def close_positions_of(self, plugin: str) -> list[str]:
        """Close what a plugin wanted; returns the symbols."""
        return self._exit_watch.close_positions_of(plugin)

    def run_length(self, market: Market) -> int:
        """How many candles without a hole there are of a market."""
        return self._provider.run_length(market)


def _follow_nothing(_: Iterable[str]) -> None:
    """As long as there is no bus."""
