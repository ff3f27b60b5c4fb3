"""Signals to decisions: consensus, gates, size. Everything happens in the turn of the loop in which the event came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from bot.consensus import Consensus
from bot.controls import Controls
from bot.data_provider import DataProvider
from bot.order_desk import Motive, OrderDesk
from bot.portfolio import Portfolio
from bot.records import STRATEGY, PositionKey
from common_models import Direction, Instrument, MarketEvent, Side, Signal, Ticker
from common_models.timestamps import NS_PER_S
from runtime.clock import monotonic_ns
from runtime.settings import RiskSettings
from strategy import Market
from trading import risk as gates
from trading.decimal_context import exact_arithmetic
from trading.risk import Answer, Denied, first_denial
from trading.sizing import affordable_quantity, budget, closable_quantity

SLIPPAGE = Decimal("1.01")
"""How much more than the best offer a market buy may cost: so much must be free."""


PATIENCE_NS = 30 * NS_PER_S
"""How long an entry that a gate stopped is tried again while the plugins still want it: many gates open by themselves."""
RETRY_NS = NS_PER_S // 4
FINAL = frozenset({"TRADING_HALTED", "ENTRIES_PAUSED", "POSITION_OPEN"})
"""Denials after which an entry is not tried again: the next signal has to ask for it."""


@dataclass(slots=True)
class Wish:
    """An entry that was denied lately. Times are UTC nanoseconds."""

    until_ns: int
    next_ns: int


class DecisionMaker:
    """Enters the market when the plugins' consensus reaches the threshold and every gate is open; `exit_watch` leaves it.

    Plugins say when their opinion turns, once. So a denied entry stays a wish for a while, or a balance that is told a moment
    after the first signal would cost the trade.
    """

    def __init__(
        self,
        risk: RiskSettings,
        accounts: Mapping[str, str],
        portfolio: Portfolio,
        consensus: Consensus,
        controls: Controls,
        provider: DataProvider,
        desk: OrderDesk,
        clock: Callable[[], int],
    ) -> None:
        self._risk = risk
        self._accounts = accounts
        self._portfolio = portfolio
        self._consensus = consensus
        self._controls = controls
        self._provider = provider
        self._desk = desk
        self._clock = clock
        self._max_age_ns = int(risk.max_event_age_s * NS_PER_S)
        self._cooldown_ns = int(risk.cooldown_s * NS_PER_S)
        self._wishes: dict[Market, Wish] = {}

    def decide(self, event: MarketEvent, signals: Sequence[Signal]) -> None:
        """Take in what the plugins that have a say said to one event, and order or say why not."""
        since_ns = monotonic_ns()
        for signal in signals:
            self._desk.tell_signal(signal)
            self._consensus.give(signal)
        market = Market(event.exchange, event.symbol)
        score, threshold = self._consensus.score(market), self._risk.consensus_threshold
        key = PositionKey(event.exchange, self._accounts[event.exchange], STRATEGY, event.symbol)
        motive = Motive(key, event, _direction(score), tuple(self._consensus.voters(market)) or tuple(signals), since_ns)
        if not score or abs(score) < threshold:
            numbers = {"score": f"{score:+.3f}", "threshold": f"{threshold:g}"}
            self._desk.deny(motive, Denied("CONSENSUS_WEAK", "the plugins do not agree enough", numbers))
        elif score > 0:
            self._enter_or_wish(market, motive, score)
        elif not self._portfolio.quantity(key):
            self._desk.deny(motive, Denied("POSITION_NONE", "nothing is held that could be sold", {"score": f"{score:+.3f}"}))
        # a held position is closed by the exit watch, with the next best bid and offer

    def reconsider(self, ticker: Ticker) -> None:
        """Try a denied entry again with this best bid and offer, if the plugins still want it."""
        if not self._wishes:
            return
        market = Market(ticker.exchange, ticker.symbol)
        wish, now_ns = self._wishes.get(market), self._clock()
        if wish is None or now_ns < wish.next_ns:
            return
        score = self._consensus.score(market)
        if now_ns > wish.until_ns or score < self._risk.consensus_threshold or score <= 0:
            del self._wishes[market]
            return
        key = PositionKey(ticker.exchange, self._accounts[ticker.exchange], STRATEGY, ticker.symbol)
        self._enter_or_wish(market, Motive(key, ticker, Direction.BUY, tuple(self._consensus.voters(market))), score)

    def _enter_or_wish(self, market: Market, motive: Motive, score: float) -> None:
        denial = self._enter(motive, score)
        if denial is None:
            self._wishes.pop(market, None)
            return
        self._desk.deny(motive, denial)
        now_ns = self._clock()
        if denial.code in FINAL:
            self._wishes.pop(market, None)
        elif market in self._wishes:
            self._wishes[market].next_ns = now_ns + RETRY_NS
        else:
            self._wishes[market] = Wish(now_ns + PATIENCE_NS, now_ns + RETRY_NS)

    def _enter(self, motive: Motive, score: float) -> Denied | None:
        """Order an entry, or return what stopped it."""
        key = motive.key
        denial = first_denial(self._market_gates(motive))
        if denial is not None:
            return denial
        ticker = self._provider.ticker(key.exchange, key.symbol)
        instrument = self._provider.instrument(key.exchange, key.symbol)
        assert ticker is not None  # the gates saw both
        assert instrument is not None
        price = ticker.ask_price
        equity = self._portfolio.equity(key.exchange, key.account, instrument.quote)
        money = budget(equity or Decimal(0), self._risk.position_size_percentage)
        quantity = affordable_quantity(money, price, instrument)
        denial = first_denial(self._size_gates(key, quantity, price, instrument, known=equity is not None))
        if denial is not None:
            return denial
        self._desk.order(motive, Side.BUY, quantity, price, "ENTRY_CONSENSUS", f"score {score:+.2f}: {_reasons(motive.signals)}")
        return None

    def _market_gates(self, motive: Motive) -> Iterator[Answer]:
        """The gates that need no size, the cheapest and most telling first."""
        key, event, now_ns = motive.key, motive.event, self._clock()
        ticker = self._provider.ticker(key.exchange, key.symbol)
        instrument = self._provider.instrument(key.exchange, key.symbol)
        yield gates.not_halted(self._controls.halted_by(key.exchange, key.account))
        yield gates.not_paused(self._controls.paused_by(key.exchange, key.account))
        yield gates.event_fresh(now_ns - event.ts_recv_ns, self._max_age_ns)
        yield gates.quote_usable(ticker, now_ns - ticker.ts_recv_ns if ticker else 0, self._max_age_ns)
        yield gates.book_usable(self._provider.book(key.exchange, key.symbol))
        yield gates.instrument_open(instrument)
        yield gates.venue_ready(*self._provider.order_entry_state(key.exchange, key.account))
        yield gates.nothing_in_flight(order.decided.command.command_id for order in self._portfolio.orders_of(key))
        yield gates.position_flat(self._portfolio.quantity(key), holds=self._holds(key))
        last_ns = self._portfolio.last_order_ns.get(key)
        yield gates.cooled_down(None if last_ns is None else now_ns - last_ns, self._cooldown_ns)
        yield gates.below_max_trades(self.open_trades(), self._risk.max_concurrent_trades)

    def _size_gates(
        self, key: PositionKey, quantity: Decimal, price: Decimal, instrument: Instrument, *, known: bool
    ) -> Iterator[Answer]:
        """The gates that need the size; a balance that was never told comes before a size of nothing."""
        free = self._portfolio.free(key.exchange, key.account, instrument.quote)
        if not known:
            yield gates.balance_suffices(None, Decimal(0), Decimal(0))
        yield gates.order_large_enough(quantity, price, instrument)
        with exact_arithmetic():
            needed = quantity * price * SLIPPAGE
        yield gates.balance_suffices(free, self._portfolio.reserved(key.exchange, key.account, instrument.quote), needed)

    def _holds(self, key: PositionKey) -> bool:
        """Whether more than dust is held; without rules or a price, anything counts."""
        quantity = abs(self._portfolio.quantity(key))
        instrument = self._provider.instrument(key.exchange, key.symbol)
        mark = self._provider.mark(key.exchange, key.symbol)
        if not quantity or instrument is None or mark is None:
            return bool(quantity)
        return bool(closable_quantity(quantity, mark, instrument))

    def open_trades(self) -> int:
        """Positions that hold more than dust, and entries on their way to one."""
        held = {key for key in self._portfolio.positions(STRATEGY) if self._holds(key)}
        for order in self._portfolio.orders.values():
            command = order.decided.command
            if command.strategy == STRATEGY and not order.decided.exit_reason:
                held.add(PositionKey(command.exchange, command.account, command.strategy, command.symbol))
        return len(held)


def _direction(score: float) -> Direction:
    if not score:
        return Direction.HOLD
    return Direction.BUY if score > 0 else Direction.SELL


def _reasons(signals: Sequence[Signal]) -> str:
    return "; ".join(f"{signal.strategy} {signal.direction.value}, {signal.reason}" for signal in signals)
