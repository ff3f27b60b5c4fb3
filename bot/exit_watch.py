"""Stop-loss, take-profit and turned opinions: looked at on every best bid and offer of a market in which something is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from bot.consensus import Consensus
from bot.data_provider import DataProvider
from bot.order_desk import Motive, OrderDesk
from bot.portfolio import Portfolio
from bot.records import PositionKey
from common_models import AlertLevel, Direction, Side, Ticker
from common_models.decimals import plain
from common_models.timestamps import NS_PER_S
from runtime.settings import RiskSettings
from strategy import Market
from trading.decimal_context import exact_arithmetic
from trading.risk import Denied, first_denial, instrument_open, quote_usable, venue_ready
from trading.sizing import HUNDRED, closable_quantity

STOP_LOSS, TAKE_PROFIT, EXIT_SIGNAL, PLUGIN_GONE = "stop_loss", "take_profit", "exit_signal", "plugin_gone"

CODES = {
    STOP_LOSS: "EXIT_STOP_LOSS",
    TAKE_PROFIT: "EXIT_TAKE_PROFIT",
    EXIT_SIGNAL: "EXIT_SIGNAL",
    PLUGIN_GONE: "EXIT_PLUGIN_GONE",
}

RETRY_FIRST_NS = NS_PER_S // 2
RETRY_CAP_NS = 30 * NS_PER_S
TELL_AFTER_ATTEMPTS = 3


@dataclass(slots=True)
class Watch:
    """One position and the values, in quote currency, at which it is closed; None is no such level."""

    key: PositionKey
    quantity: Decimal
    stop_value: Decimal | None
    take_value: Decimal | None
    attempts: int = 0
    next_attempt_ns: int = 0
    told_to_close: bool = False

    def reached(self, bid: Decimal, ask: Decimal) -> str:
        """Which level the market has reached, if any; a long position is worth the bid, a short one the offer."""
        value = (bid if self.quantity > 0 else ask) * self.quantity
        if self.stop_value is not None and value <= self.stop_value:
            return STOP_LOSS
        if self.take_value is not None and value >= self.take_value:
            return TAKE_PROFIT
        return ""


class ExitWatch:
    """Closes positions of one strategy, one order at a time for each, until nothing but dust is left.

    An exit that was begun is finished, whatever the market does meanwhile. It passes a pressed emergency stop: it only reduces.
    """

    def __init__(
        self,
        strategy: str,
        risk: RiskSettings,
        portfolio: Portfolio,
        consensus: Consensus,
        provider: DataProvider,
        desk: OrderDesk,
        clock: Callable[[], int],
    ) -> None:
        self._strategy = strategy
        self._risk = risk
        self._portfolio = portfolio
        self._consensus = consensus
        self._provider = provider
        self._desk = desk
        self._clock = clock
        self._max_age_ns = int(risk.max_event_age_s * NS_PER_S)
        self._watches: dict[Market, Watch] = {}

    def restore(self) -> None:
        """Watch all positions that the portfolio holds."""
        for key in list(self._portfolio.positions(self._strategy)):
            self.position_changed(key)

    def position_changed(self, key: PositionKey) -> None:
        """Compute the levels anew; the next attempt to close is made at once when the quantity is another."""
        if key.strategy != self._strategy:
            return
        market = Market(key.exchange, key.symbol)
        quantity = self._portfolio.quantity(key)
        known = self._watches.get(market)
        if not quantity:
            self._watches.pop(market, None)
        elif known is None or known.quantity != quantity:
            fresh = self._watches[market] = self._watch(key, quantity)
            fresh.told_to_close = known is not None and known.told_to_close

    def close_positions_of(self, plugin: str) -> list[str]:
        """Close what this plugin wanted, with the next best bids and offers; returns the symbols."""
        symbols = []
        for watch in self._watches.values():
            makers = self._portfolio.wanted_by.get(watch.key, ())
            if any(maker.partition("@")[0] == plugin for maker in makers):
                watch.told_to_close = True
                symbols.append(watch.key.symbol)
        return symbols

    def update(self, ticker: Ticker) -> None:
        """Look at the position in this market, if there is one, and close it when it is time."""
        watch = self._watches.get(Market(ticker.exchange, ticker.symbol))
        if watch is None or ticker.crossed:
            return
        reason = (
            self._portfolio.exit_reasons.get(watch.key)
            or (PLUGIN_GONE if watch.told_to_close else "")
            or watch.reached(ticker.bid_price, ticker.ask_price)
            or self._turned(watch)
        )
        if reason and self._clock() >= watch.next_attempt_ns and not any(self._portfolio.orders_of(watch.key, exits=True)):
            self._close(watch, ticker, reason)

    def _watch(self, key: PositionKey, quantity: Decimal) -> Watch:
        cost = self._portfolio.ledgers[key].cost
        stop, take = self._risk.stop_loss_percentage, self._risk.take_profit_percentage
        with exact_arithmetic():
            percent = abs(cost) * Decimal("0.01")
            return Watch(
                key,
                quantity,
                stop_value=cost - percent * stop if 0 < stop < HUNDRED else None,
                take_value=cost + percent * take if take > 0 else None,
            )

    def _turned(self, watch: Watch) -> str:
        """Whether the plugins now want the opposite."""
        score = self._consensus.score(Market(watch.key.exchange, watch.key.symbol))
        against = -score if watch.quantity > 0 else score
        return EXIT_SIGNAL if against > 0 and against >= self._risk.consensus_threshold else ""

    def _close(self, watch: Watch, ticker: Ticker, reason: str) -> None:
        key = watch.key
        side = Side.SELL if watch.quantity > 0 else Side.BUY
        price = ticker.bid_price if side is Side.SELL else ticker.ask_price
        instrument = self._provider.instrument(key.exchange, key.symbol)
        quantity = closable_quantity(abs(watch.quantity), price, instrument) if instrument else Decimal(0)
        if instrument and not quantity:
            return  # dust: it waits for the next trade in this market
        market = Market(key.exchange, key.symbol)
        signals = tuple(self._consensus.voters(market)) if reason == EXIT_SIGNAL else ()
        motive = Motive(key, ticker, Direction.SELL if side is Side.SELL else Direction.BUY, signals)
        now_ns = self._clock()
        denial = first_denial(
            (
                quote_usable(ticker, now_ns - ticker.ts_recv_ns, self._max_age_ns),
                instrument_open(instrument),
                venue_ready(*self._provider.order_entry_state(key.exchange, key.account)),
            )
        )
        if denial is not None:
            self._desk.deny(motive, Denied(denial.code, f"{reason}: {denial.reason}", denial.numbers))
            return
        watch.attempts += 1
        watch.next_attempt_ns = now_ns + min(RETRY_FIRST_NS << min(watch.attempts - 1, 10), RETRY_CAP_NS)
        self._desk.order(motive, side, quantity, price, CODES[reason], self._words(watch, reason), exit_reason=reason)
        if watch.attempts == TELL_AFTER_ATTEMPTS:
            self._desk.alert(
                AlertLevel.ERROR,
                "EXIT_REPEATED",
                f"{reason} of {plain(abs(watch.quantity))} {key.symbol} did not fill {TELL_AFTER_ATTEMPTS - 1} times; trying on",
                key.exchange,
                key.symbol,
                attempts=str(watch.attempts),
            )

    def _words(self, watch: Watch, reason: str) -> str:
        if reason == STOP_LOSS:
            return f"loss of {self._risk.stop_loss_percentage} % reached"
        if reason == TAKE_PROFIT:
            return f"profit of {self._risk.take_profit_percentage} % reached"
        if reason == PLUGIN_GONE:
            return "a plugin that wanted it is gone, and its file said to close then"
        return f"the plugins turned, score {self._consensus.score(Market(watch.key.exchange, watch.key.symbol)):+.2f}"
