"""What /chart answers: the course of the profit, or a market with our entries and exits, as a picture."""

from __future__ import annotations

from dataclasses import dataclass

from alerts.telegram.answer import Answer
from alerts.telegram.chart_data import ChartError, Drawer, candles, curve
from alerts.telegram.commands import Call
from alerts.telegram.history import History
from alerts.telegram.holdings import read_holdings
from alerts.telegram.markup import plain
from alerts.telegram.wording import amount, lasting, percent, signed
from common_models import Candle, Fill, Position, RoundTrip, Symbol, SymbolError
from postgres import queries, reports
from runtime.clock import now_ns
from runtime.settings import Settings

NS_PER_S = 1_000_000_000
CURVE_NS = 30 * 86_400 * NS_PER_S
POINTS = 240
BARS = 120
AROUND = 0.35
"""How much of a trade's own length is shown before and after it."""


@dataclass(frozen=True, slots=True)
class _Market:
    """What is known of one market for its chart."""

    exchange: str
    held: Position | None
    trip: RoundTrip | None
    found: list[Candle]
    fills: list[Fill]


class ChartAnswers:
    """Pictures from the history of one mode."""

    def __init__(self, settings: Settings, history: History, drawer: Drawer) -> None:
        self._settings = settings
        self._history = history
        self._drawer = drawer

    async def chart(self, call: Call) -> Answer:
        """A picture, or a word why there is none. Raises HistoryAway."""
        try:
            if not call.arguments:
                return await self._profit()
            return await self._of_market(str(Symbol.parse(call.arguments[0])))
        except (ChartError, SymbolError) as error:
            return Answer(plain(str(error)))

    async def _profit(self) -> Answer:
        to_ns = now_ns()

        async def question(source: queries.Source) -> list[reports.ProfitPoint]:
            first_ns = await reports.first_position_ns(source)
            return [] if first_ns is None else await reports.profit_curve(source, max(first_ns, to_ns - CURVE_NS), to_ns, POINTS)

        points = await self._history.ask(question)
        by_quote = {point.quote: abs(point.closed + point.open) for point in points}
        if not by_quote:
            return Answer(plain("no position yet, so no profit to draw"))
        quote = max(by_quote, key=by_quote.__getitem__)
        shown = curve(points, quote, f"Profit after fees, {self._settings.mode.value} mode")
        newest = [point for point in points if point.quote == quote][-1]
        text = f"{signed(newest.closed)} {quote} closed after fees, {signed(newest.open)} open"
        return Answer(plain(text), await self._drawer.draw(shown))

    async def _of_market(self, symbol: str) -> Answer:
        market = await self._history.ask(lambda source: self._look(source, symbol))
        if len(market.found) < 2:
            return Answer(plain(f"no candles of {symbol} in the history"))
        note, entry = "", None
        if market.held is not None:
            side = "long" if market.held.quantity > 0 else "short"
            entry = abs(market.held.cost / market.held.quantity)
            profit = f"{signed(market.held.unrealised)} ({percent(market.held.unrealised, market.held.cost)})"
            note = f"{side} {amount(abs(market.held.quantity))}, open {profit}"
        elif market.trip is not None:
            trip = market.trip
            held = lasting((trip.closed_ns - trip.opened_ns) / 1e9)
            note = f"closed {signed(trip.profit)} ({percent(trip.profit, trip.entry_cost)}) after {held}"
        title = f"{symbol} on {market.exchange}, {self._settings.bot.timeframe}"
        unit = symbol.partition("/")[2].partition(":")[0]
        shown = candles(title, unit, market.found, market.fills, entry, note)
        return Answer(plain(f"{symbol}: {note or 'no position and no closed trade'}"), await self._drawer.draw(shown))

    async def _look(self, source: queries.Source, symbol: str) -> _Market:
        """The open position of a symbol, else its last trade, else only its newest candles."""
        held = next((item for item in (await read_holdings(source)).held if item.symbol == symbol), None)
        trip = None if held else await reports.last_round_trip(source, symbol)
        exchange = held.exchange if held else trip.exchange if trip else self._exchange_of(symbol)
        timeframe = self._settings.bot.timeframe
        if trip is not None:
            around_ns = max(int((trip.closed_ns - trip.opened_ns) * AROUND), 20 * 60 * NS_PER_S)
            from_ns, to_ns = trip.opened_ns - around_ns, trip.closed_ns + around_ns
            found = await reports.candles_between(source, exchange, symbol, timeframe, from_ns, to_ns)
        else:
            found = await queries.recent_candles(source, exchange, symbol, timeframe, BARS)
        if not found:
            return _Market(exchange, held, trip, [], [])
        fills = await reports.fills_of_market(source, exchange, symbol, found[0].open_ns, now_ns() if held else found[-1].close_ns)
        return _Market(exchange, held, trip, found, fills)

    def _exchange_of(self, symbol: str) -> str:
        for name, exchange in self._settings.exchanges.items():
            if symbol in (str(Symbol.parse(text)) for text in exchange.symbols):
                return name
        return next(iter(self._settings.exchanges), "")
