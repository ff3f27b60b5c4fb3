"""What the bot tells of itself in numbers. Hot paths count here; money is worked out when someone scrapes (docs/metrics.md)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from operator import attrgetter

from bot.controls import Controls
from bot.portfolio import Portfolio
from common_models import Decision, PlaceOrder, PluginState, PluginStatus, Position, RoundTrip, Signal, Symbol
from common_models.decimals import ZERO
from runtime.clock import monotonic_ns, monotonic_s
from runtime.metrics import Read, ReadMany, expose_counter, expose_counters, expose_gauge, expose_gauges, hop
from runtime.settings import ExchangeSettings, RiskSettings
from trading.ledger import currencies

Values = dict[tuple[str, ...], float]

MAX_PLUGINS = 200
"""Plugins that are told of; of more, those that were removed longest ago are forgotten first."""
REUSE_S = 0.5
"""One scrape asks for five figures of each position: they are worked out once."""
OTHER = "other"


@dataclass(frozen=True, slots=True)
class BotParts:
    """Whom the figures are read from. `open_trades` counts what is held or on its way against the limit."""

    portfolio: Portfolio
    controls: Controls
    risk: RiskSettings
    exchanges: Mapping[str, ExchangeSettings]
    open_trades: Callable[[], int]
    totals: Mapping[str, tuple[str, Read]]
    """Plain totals of other parts by metric name, each with its help text."""


class BotMetrics:
    """Counts what passes, and times the hops inside the bot."""

    def __init__(self, exchanges: Iterable[str]) -> None:
        names = tuple(exchanges)
        self._event_to_signal = {name: hop("event_to_signal", name) for name in names}
        self._signal_to_decision = {name: hop("signal_to_decision", name) for name in names}
        self._decision_to_command = {name: hop("decision_to_command", name) for name in names}
        self._signals: Counter[tuple[str, ...]] = Counter()
        self._decisions: Counter[tuple[str, ...]] = Counter()
        self._round_trips: Counter[tuple[str, ...]] = Counter()
        self._plugins: dict[str, PluginStatus] = {}
        self._decided_ns = 0

    # -- what passes

    def signalled(self, signal: Signal, taken_ns: int) -> None:
        """A plugin's signal is here; `taken_ns` is the monotonic clock when the bot got the event that it is about."""
        self._signals[signal.strategy, signal.direction.value, "true" if signal.shadow else "false"] += 1
        self._event_to_signal[signal.exchange].observe_ns(monotonic_ns() - taken_ns)

    def decided(self, decision: Decision, since_ns: int = 0) -> None:
        """A decision is made; joined denials are told one by one.

        `since_ns` is the monotonic clock when the signals to an event began to be weighed, 0 for a decision that no fresh signal
        caused (an exit by price): that is counted, not timed.
        """
        self._decisions[decision.exchange, decision.verdict.value, decision.code] += 1
        self._decided_ns = monotonic_ns()
        if since_ns:
            self._signal_to_decision[decision.exchange].observe_ns(self._decided_ns - since_ns)

    def commanded(self, command: PlaceOrder) -> None:
        """The order of the decision just told is durable and was handed to the bus."""
        self._decision_to_command[command.exchange].observe_ns(monotonic_ns() - self._decided_ns)

    def closed(self, trip: RoundTrip) -> None:
        """A position went flat; to be told once, not when its fill comes again."""
        result = "profit" if trip.profit > 0 else "loss" if trip.profit < 0 else "even"
        self._round_trips[trip.strategy, result] += 1

    def plugin(self, status: PluginStatus) -> None:
        """How a plugin is now."""
        self._plugins.pop(status.name, None)
        self._plugins[status.name] = status
        if len(self._plugins) > MAX_PLUGINS:
            gone = (name for name, known in self._plugins.items() if known.state is PluginState.REMOVED)
            del self._plugins[next(gone, next(iter(self._plugins)))]

    # -- what is read

    def expose(self, parts: BotParts) -> None:
        """Publish everything; once, at the start."""
        for name, (text, read) in parts.totals.items():
            expose_counter(name, text, {}, read)
        by_decision = ("exchange", "verdict", "code")
        expose_counters("tradebot_bot_signals", "Signals", {}, ("plugin", "direction", "shadow"), lambda: self._signals)
        expose_counters("tradebot_bot_decisions", "Decisions, joined denials included", {}, by_decision, lambda: self._decisions)
        expose_counters("tradebot_bot_round_trips", "Entry to flat", {}, ("strategy", "result"), lambda: self._round_trips)
        self._expose_plugins()
        _expose_limits(parts)
        money = _Money(parts.portfolio, parts.exchanges)
        money.expose()
        for exchange, settings in parts.exchanges.items():
            _expose_exchange(exchange, settings.account, parts)

    def _expose_plugins(self) -> None:
        values: tuple[tuple[str, str, ReadMany], ...] = (
            (
                "tradebot_plugin_call_p99_seconds",
                "The slowest hundredth of its callbacks",
                lambda: self._of_plugins("call_p99_us", 1e-6),
            ),
            ("tradebot_plugin_memory_bytes", "Memory of its worker process", lambda: self._of_plugins("memory_bytes")),
        )
        for name, text, read in values:
            expose_gauges(name, text, {}, ("plugin",), read)
        expose_counters("tradebot_plugin_events", "Events that it was handed", {}, ("plugin",), lambda: self._of_plugins("events"))
        expose_counters("tradebot_plugin_errors", "Callbacks that failed", {}, ("plugin",), lambda: self._of_plugins("errors"))
        expose_gauges("tradebot_plugin_state", "1 for the state that it is in", {}, ("plugin", "state"), self._plugin_states)
        by = ("plugin", "version", "plugin_mode")
        expose_gauges("tradebot_plugin_info", "The version that runs; always 1", {}, by, self._plugin_versions)

    def _of_plugins(self, field: str, factor: float = 1) -> Values:
        return {(name,): getattr(status, field) * factor for name, status in self._plugins.items()}

    def _plugin_states(self) -> Values:
        return {(name, state.value): status.state is state for name, status in self._plugins.items() for state in PluginState}

    def _plugin_versions(self) -> Values:
        return {(name, status.version, status.mode.value): 1 for name, status in self._plugins.items()}


class _Money:
    """Balances, positions and profit in quote currency, from the bot's own book."""

    def __init__(self, portfolio: Portfolio, exchanges: Mapping[str, ExchangeSettings]) -> None:
        self._portfolio = portfolio
        self._symbols = {name: frozenset(_spelled(settings)) for name, settings in exchanges.items()}
        self._books = [
            (name, settings.account, quote)
            for name, settings in exchanges.items()
            for quote in sorted({currencies(symbol)[1] for symbol in _spelled(settings)})
        ]
        self._peaks: dict[tuple[str, ...], float] = {}
        self._positions: list[Position] = []
        self._positions_s = 0.0

    def expose(self) -> None:
        by = ("exchange", "quote")
        expose_gauges("tradebot_equity", "Quote balance plus our positions at the mark", {}, by, self._equity)
        expose_gauges("tradebot_equity_peak", "Its highest since the start", {}, by, self._peak)
        expose_gauges("tradebot_drawdown_ratio", "How far equity is below its peak, 0..1", {}, by, self._drawdown)
        expose_gauges("tradebot_balance_free", "Free quote balance", {}, by, self._free)
        expose_gauges("tradebot_balance_reserved", "What orders on their way may still take", {}, by, self._reserved)
        expose_gauges("tradebot_exposure", "Positions at the mark, each counted positive", {}, by, self._exposure)
        by_position = ("exchange", "symbol", "strategy")
        for name, text, what in (
            ("tradebot_position_quantity", "What is held, in base currency", attrgetter("quantity")),
            ("tradebot_position_value", "What is held, at the mark", _value),
            ("tradebot_pnl_realised", "Profit of what was closed, before fees", attrgetter("realised")),
            ("tradebot_pnl_unrealised", "Profit of what is open, before fees", attrgetter("unrealised")),
            ("tradebot_fees", "Fees paid", attrgetter("fees")),
        ):
            expose_gauges(name, text, {}, by_position, partial(self._by_position, what))

    def _equity(self) -> Values:
        """By book; one whose balance was never told is left out."""
        found = {(name, quote): self._portfolio.equity(name, account, quote) for name, account, quote in self._books}
        return {book: float(equity) for book, equity in found.items() if equity is not None}

    def _peak(self) -> Values:
        for book, equity in self._equity().items():
            self._peaks[book] = max(equity, self._peaks.get(book, equity))
        return dict(self._peaks)

    def _drawdown(self) -> Values:
        peaks = self._peak()
        return {book: max(0.0, 1 - equity / peaks[book]) if peaks[book] > 0 else 0.0 for book, equity in self._equity().items()}

    def _free(self) -> Values:
        found = {(name, quote): self._portfolio.free(name, account, quote) for name, account, quote in self._books}
        return {book: float(free) for book, free in found.items() if free is not None}

    def _reserved(self) -> Values:
        return {(name, quote): float(self._portfolio.reserved(name, account, quote)) for name, account, quote in self._books}

    def _exposure(self) -> Values:
        totals: Values = {(name, quote): 0.0 for name, _, quote in self._books}
        for position in self._all_positions():
            book = (position.exchange, currencies(position.symbol)[1])
            if book in totals:
                totals[book] += abs(float(_value(position)))
        return totals

    def _by_position(self, what: Callable[[Position], Decimal]) -> Values:
        found: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for position in self._all_positions():
            known = position.symbol in self._symbols.get(position.exchange, ())
            found[position.exchange, position.symbol if known else OTHER, position.strategy] += float(what(position))
        return dict(found)

    def _all_positions(self) -> list[Position]:
        now_s = monotonic_s()
        if now_s - self._positions_s > REUSE_S:
            self._positions_s = now_s
            self._positions = [self._portfolio.position(key, 0) for key in self._portfolio.ledgers]
        return self._positions


def _expose_limits(parts: BotParts) -> None:
    expose_gauge("tradebot_risk_used", "What counts against a limit", {"limit": "open_trades"}, parts.open_trades)
    limit = {"limit": "open_trades"}
    expose_gauge("tradebot_risk_limit", "The limit", limit, lambda: parts.risk.max_concurrent_trades)


def _expose_exchange(exchange: str, account: str, parts: BotParts) -> None:
    portfolio, controls = parts.portfolio, parts.controls
    values: tuple[tuple[str, str, Read], ...] = (
        (
            "tradebot_bot_orders_in_flight",
            "Orders that are not over",
            lambda: sum(order.decided.command.exchange == exchange for order in portfolio.orders.values()),
        ),
        (
            "tradebot_bot_positions",
            "Positions that hold something, dust included",
            lambda: sum(key.exchange == exchange and bool(ledger.lots) for key, ledger in portfolio.ledgers.items()),
        ),
        (
            "tradebot_bot_entries_paused",
            "An operator's PAUSE forbids new entries",
            lambda: controls.paused_by(exchange, account) is not None,
        ),
        (
            "tradebot_bot_halted",
            "The emergency stop as the bot knows it",
            lambda: controls.halted_by(exchange, account) is not None,
        ),
    )
    for name, text, read in values:
        expose_gauge(name, text, {"exchange": exchange}, read)


def _spelled(settings: ExchangeSettings) -> list[str]:
    """The configured symbols as positions spell them."""
    return [str(Symbol.parse(symbol)) for symbol in settings.symbols]


def _value(position: Position) -> Decimal:
    return position.quantity * position.mark_price if position.mark_price is not None else ZERO
