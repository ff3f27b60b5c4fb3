"""What /status, /profit, /trades and the like answer: from the history, in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TypeVar

from alerts.telegram.answer import Answer, Reader
from alerts.telegram.commands import Call
from alerts.telegram.history import History, HistoryAway
from alerts.telegram.holdings import Holdings, read_holdings
from alerts.telegram.markup import Line, bold, plain, table
from alerts.telegram.wording import amount, at, exactly, lasting, percent, signed
from common_models import Control, ControlAction, Fill, OrderStatus, OrderUpdate, Position, RoundTrip, Signal
from postgres import queries, reports
from runtime import emergency_stop
from runtime.clock import now_ns
from runtime.emergency_stop import StopState
from runtime.settings import Settings

T = TypeVar("T")

DAY_NS = 86_400 * 1_000_000_000
DEFAULT_ROWS = 10
MAX_ROWS = 50
PERIODS: dict[str, tuple[reports.Period, int]] = {"daily": ("day", 7), "weekly": ("week", 8), "monthly": ("month", 6)}
MAX_PERIODS = 60


class TradingAnswers:
    """Answers from the history of one mode. Every method raises HistoryAway."""

    def __init__(self, settings: Settings, history: History) -> None:
        self._settings = settings
        self._history = history

    @property
    def readers(self) -> dict[str, Reader]:
        """What answers which command."""
        found: dict[str, Reader] = {
            "status": self.status,
            "profit": self.profit,
            "performance": self.performance,
            "trades": self.trades,
            "fills": self.fills,
            "orders": self.orders,
            "balance": self.balance,
            "count": self.count,
            "signals": self.signals,
        }
        return found | dict.fromkeys(PERIODS, self.by_period)

    async def status(self, call: Call) -> Answer:
        """Mode, emergency stop and open positions, one by one or as a table."""
        head = bold(f"tradebot, {self._settings.mode.value} mode")
        pressed = emergency_stop.read(self._settings.home)

        async def question(source: queries.Source) -> tuple[list[Control], Holdings]:
            return await reports.words_in_force(source), await read_holdings(source)

        try:
            words, holdings = await self._history.ask(question)
        except HistoryAway as error:
            return Answer([head, *_in_force([], pressed), Line(f"positions: {error}")])
        if not holdings.held:
            lines = plain("no open positions")
        elif call.arguments and call.arguments[0].lower() == "table":
            lines = _position_table(holdings.held)
        else:
            lines = [line for position in holdings.held for line in _position(position)]
        return Answer([head, *_in_force(words, pressed), *lines, *_dust(holdings.dust)])

    async def profit(self, call: Call) -> Answer:
        """Closed trades by currency, and what is open; of the last n days when n is given."""
        days = call.number(0, 3650)
        since_ns = now_ns() - days * DAY_NS if days else 0

        async def question(source: queries.Source) -> tuple[list[reports.ProfitSummary], Holdings]:
            return await reports.profit_summary(source, since_ns), await read_holdings(source)

        summaries, holdings = await self._history.ask(question)
        lines = [bold(f"Closed trades of the last {days} days" if days else "All closed trades")]
        for summary in summaries:
            lines += _summary(summary)
        if not summaries:
            lines += plain("none yet")
        if holdings.held:
            lines.append(bold("Open"))
        for quote in sorted({_quote(position.symbol) for position in holdings.held}):
            unrealised = sum((position.unrealised for position in holdings.held if _quote(position.symbol) == quote), Decimal(0))
            lines += plain(f"{signed(unrealised)} {quote} before fees, if closed now")
        return Answer(lines)

    async def by_period(self, call: Call) -> Answer:
        """Profit by day, week or month."""
        period, default = PERIODS[call.command.name]
        count = call.number(default, MAX_PERIODS)
        found = await self._history.ask(lambda source: reports.profit_by_period(source, period, count))
        rows = [(row.start, signed(row.profit), row.quote, str(row.trades)) for row in found]
        head = bold(f"Profit by {period}, UTC")
        return _listed(head, ("from", "profit", "", "trades"), rows, right=(1, 3), empty=f"no closed trade in {count} {period}s")

    async def performance(self, call: Call) -> Answer:
        """Profit by symbol and by strategy."""

        async def question(source: queries.Source) -> list[tuple[reports.Grouping, list[reports.Performance]]]:
            groupings: tuple[reports.Grouping, ...] = ("symbol", "strategy")
            return [(by, await reports.performance(source, by)) for by in groupings]

        lines: list[Line] = []
        for by, found in await self._history.ask(question):
            rows = [
                (row.name, signed(row.profit), row.quote, percent(row.profit, row.invested), f"{row.wins}/{row.trades}")
                for row in found[:MAX_ROWS]
            ]
            head = bold(f"Profit by {by}")
            lines += _listed(head, ("", "profit", "", "of entry", "won"), rows, right=(1, 3, 4), empty="no closed trade yet").lines
        return Answer(lines)

    async def trades(self, call: Call) -> Answer:
        """The positions that were closed last."""
        count = call.number(DEFAULT_ROWS, MAX_ROWS)
        found = await self._history.ask(lambda source: queries.recent_round_trips(source, count))
        return _each(f"The last {len(found)} closed trades", found, _round_trip, empty="no closed trade yet")

    async def fills(self, call: Call) -> Answer:
        """The newest executions."""
        count = call.number(DEFAULT_ROWS, MAX_ROWS)
        found = await self._history.ask(lambda source: queries.recent_fills(source, count))
        return _each(f"The last {len(found)} fills", found, _fill, empty="no fill yet")

    async def orders(self, call: Call) -> Answer:
        """Orders that may still fill."""
        found = await self._history.ask(queries.open_orders)
        return _each(f"{len(found)} open orders", found[:MAX_ROWS], _order, empty="no open orders")

    async def balance(self, call: Call) -> Answer:
        """What every account holds."""
        found = [item for item in await self._history.ask(queries.balances) if item.total]
        lines: list[Line] = []
        for account in sorted({(item.exchange, item.account) for item in found}):
            rows = [
                (item.asset, amount(item.total), amount(item.locked) if item.locked else "")
                for item in found
                if (item.exchange, item.account) == account
            ]
            lines += _listed(bold("/".join(account)), ("", "total", "in orders"), rows, right=(1, 2), empty="").lines
        return Answer(lines or plain("no balance known yet"))

    async def count(self, call: Call) -> Answer:
        """How much is going on."""

        async def question(source: queries.Source) -> tuple[Holdings, list[OrderUpdate]]:
            return await read_holdings(source), await queries.open_orders(source)

        holdings, orders = await self._history.ask(question)
        most = self._settings.bot.risk.max_concurrent_trades
        unknown = sum(order.status is OrderStatus.UNKNOWN for order in orders)
        doubt = f", {unknown} of them UNKNOWN" if unknown else ""
        return Answer(plain(f"{len(holdings.held)} positions open, {most} allowed", f"{len(orders)} orders open{doubt}"))

    async def signals(self, call: Call) -> Answer:
        """The newest opinions of plugins."""
        count = call.number(DEFAULT_ROWS, MAX_ROWS)
        found = await self._history.ask(lambda source: queries.recent_signals(source, count))
        return _each(f"The last {len(found)} signals", found, _signal, empty="no signal yet")


def _listed(head: Line, names: Sequence[str], rows: Sequence[tuple[str, ...]], *, right: tuple[int, ...], empty: str) -> Answer:
    return Answer([head, *(table([names, *rows], right=right) if rows else plain(empty))])


def _each(head: str, found: Sequence[T], words: Callable[[T], str], *, empty: str) -> Answer:
    return Answer([bold(head), *plain(*map(words, found))] if found else plain(empty))


def _position(position: Position) -> list[Line]:
    side, mean = _side_and_mean(position)
    profit = f"{signed(position.unrealised)} {_quote(position.symbol)} ({percent(position.unrealised, position.cost)})"
    return [
        bold(f"{position.symbol} on {position.exchange}/{position.account}"),
        Line(f"{side} {amount(abs(position.quantity))} at {amount(mean)}, now {amount(position.mark_price)}: {profit}"),
        Line(f"{position.strategy}, fees {amount(position.fees)}, closed {signed(position.realised)}"),
    ]


def _position_table(held: Sequence[Position]) -> list[Line]:
    rows = []
    for position in held:
        side, mean = _side_and_mean(position)
        change = percent(position.unrealised, position.cost)
        rows.append((position.symbol, side, amount(abs(position.quantity)), amount(mean), signed(position.unrealised), change))
    return table([("symbol", "", "quantity", "entry", "profit", ""), *rows], right=(2, 3, 4, 5))


def _side_and_mean(position: Position) -> tuple[str, Decimal]:
    return ("long" if position.quantity > 0 else "short"), abs(position.cost / position.quantity)


def _summary(summary: reports.ProfitSummary) -> list[Line]:
    won = f"{summary.wins} of {summary.trades} won ({Decimal(100 * summary.wins) / summary.trades:.0f} %)"
    factor = f", profit factor {summary.gross_win / summary.gross_loss:.2f}" if summary.gross_loss else ""
    return plain(
        f"{signed(summary.profit)} {summary.quote} after fees of {amount(summary.fees)}, "
        f"{percent(summary.profit, summary.invested)} of what was entered",
        f"{won}{factor}, best {signed(summary.best)}, worst {signed(summary.worst)}",
        f"held {lasting(summary.held_ns / 1e9)} in the mean, from {at(summary.first_ns)} to {at(summary.last_ns)} UTC",
    )


def _round_trip(trip: RoundTrip) -> str:
    held = lasting((trip.closed_ns - trip.opened_ns) / 1e9)
    mark = "🟢" if trip.profit > 0 else "🔴"
    profit = f"{signed(trip.profit)} {_quote(trip.symbol)} ({percent(trip.profit, trip.entry_cost)})"
    return f"{mark} {at(trip.closed_ns)} {trip.symbol} {trip.side} {amount(trip.quantity)}: {profit}, {held}, {trip.exit_reason}"


def _fill(fill: Fill) -> str:
    when, fee = exactly(fill.ts_event_ns or fill.ts_recv_ns), f"{amount(fill.fee)} {fill.fee_asset}"
    return f"{when} {fill.side} {amount(fill.quantity)} {fill.symbol} at {amount(fill.price)}, fee {fee}"


def _order(order: OrderUpdate) -> str:
    price = f" at {amount(order.price)}" if order.price is not None else ""
    filled = f", filled {amount(order.filled_quantity)}" if order.filled_quantity else ""
    review = ", needs an operator's review" if order.operator_review else ""
    return (
        f"{order.side} {amount(order.quantity)} {order.symbol}{price} ({order.order_type}) on {order.exchange}/{order.account}: "
        f"{order.status}{filled}{review}, since {at(order.ts_recv_ns)}"
    )


def _signal(signal: Signal) -> str:
    shadow = ", shadow" if signal.shadow else ""
    return (
        f"{exactly(signal.ts_event_ns)} {signal.strategy}: {signal.direction} {signal.symbol}, "
        f"confidence {signal.confidence:.2f}{shadow}. {signal.reason}"
    )


def _in_force(words: Sequence[Control], here: StopState) -> list[Line]:
    """Stops and pauses that hold. Of the stop of this home and the one that was said to all, the newer word counts."""
    lines = plain(f"🛑 emergency stop pressed by {here.actor or 'nobody known'}: {here.reason}") if here.pressed else []
    for word in words:
        what = word.target or "everything"
        if word.action is ControlAction.PAUSE:
            lines += plain(f"⏸ entries of {what} paused by {word.actor}: {word.reason}")
        elif word.target is not None or (not here.pressed and word.created_at_ns > here.at_ns):
            lines += plain(f"🛑 emergency stop of {what} pressed by {word.actor}: {word.reason}")
    return lines or plain("✅ no emergency stop, no pause")


def _dust(dust: Sequence[Position]) -> list[Line]:
    left = ", ".join(f"{amount(position.quantity)} {position.symbol}" for position in dust)
    return plain(f"too small to be sold: {left}") if left else []


def _quote(symbol: str) -> str:
    return symbol.partition("/")[2].partition(":")[0]
