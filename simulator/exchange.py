"""The simulated venue behind its wire: markets, accounts and the ledger around one matching core. Knows no venue's protocol.

Everything happens on one thread: a request or a market event is matched, written to the ledger, and only then told to anyone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import structlog

from common_models.base import Side
from common_models.decimals import ZERO
from common_models.instruments import Instrument
from runtime.clock import now_ns
from runtime.settings import SimulatorSettings
from simulator.accounts import Keyring, default_keyring, funding
from simulator.candles import Bar, Candles
from simulator.ledger import BalanceRecord, EntryKind, FillRecord, Ledger, OrderRecord, RequestIdentity, read_entries
from simulator.tape import PublicTrade, Tape
from trading.decimal_context import exact_arithmetic
from trading.matching import MatchingEngine, Result
from trading.matching_accounts import Holding
from trading.matching_book import Book
from trading.matching_orders import Happening, NewOrder, Order, OrderEvent, Refused
from trading.matching_rules import MarketRules, PriceBand
from trading.order_book import DepthBook

log = structlog.get_logger(__name__)

MAKERS, TAKERS = "makers", "takers"
"""Accounts of the synthetic market: unlimited, and told nothing."""
KEPT_ORDERS = 20_000
KEPT_FILLS = 50_000
PRICE_BAND = PriceBand(Decimal("0.2"), Decimal(5), Decimal("0.2"), Decimal(5))
MAX_OPEN_ORDERS = 200


@dataclass(slots=True)
class Market:
    """One symbol: its rules, book, last trades and bars. `top` is the best bid and offer that was last told.

    `followed` is the book as a recording tells it, without our own orders: what clients are shown when there is one.
    """

    instrument: Instrument
    book: Book
    tape: Tape
    candles: Candles
    top: tuple[object, ...] = ()
    followed: DepthBook | None = None

    @property
    def symbol(self) -> str:
        return self.instrument.symbol


@dataclass(slots=True)
class AccountChange:
    """What one entry of the ledger means for one account.

    `cancel_id` is the client's own id of a cancel request, `deposit` the amount of a deposit (negative: a withdrawal).
    """

    kind: EntryKind
    account: str
    ts_ns: int
    sequence: int
    events: list[OrderEvent]
    balances: list[BalanceRecord]
    cancel_id: str = ""
    deposit: Decimal = ZERO


@dataclass(slots=True)
class History:
    """Orders and fills of one account, bounded, by order id and in the order of the fills."""

    orders: dict[int, Order] = field(default_factory=dict)
    fills: deque[FillRecord] = field(default_factory=lambda: deque(maxlen=KEPT_FILLS))

    def remember(self, order: Order) -> None:
        self.orders[order.order_id] = order
        while len(self.orders) > KEPT_ORDERS:
            oldest = next((number for number, known in self.orders.items() if known.status.terminal), None)
            if oldest is None:
                return
            del self.orders[oldest]

    def by_client_id(self, client_order_id: str, symbol: str) -> Order | None:
        """The newest order with that client id: on this kind of venue an id may be used again."""
        for order in reversed(self.orders.values()):
            if order.client_order_id == client_order_id and order.symbol == symbol:
                return order
        return None


class SimulatedExchange:
    """One venue. Listeners are called in the order of the facts.

    `ledger_path` None keeps no ledger (unit tests); `market_dir` None gives the markets no memory (replays).
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        settings: SimulatorSettings,
        ledger_path: Path | None = None,
        market_dir: Path | None = None,
    ) -> None:
        self.settings = settings
        self.market_clock: Callable[[], int] = now_ns
        """The time of the markets, which a replay may set back; requests are always judged by the real one."""
        self.engine = MatchingEngine(
            maker_fee=settings.maker_fee_percent / 100, taker_fee=settings.taker_fee_percent / 100, track_changes=True
        )
        self.keyring: Keyring = default_keyring()
        self.markets: dict[str, Market] = {}
        self.histories: dict[str, History] = {}
        self.trade_listeners: list[Callable[[Market, list[PublicTrade]], None]] = []
        self.top_listeners: list[Callable[[Market], None]] = []
        self.bar_listeners: list[Callable[[Market, Bar], None]] = []
        self.account_listeners: list[Callable[[AccountChange], None]] = []
        for account in (MAKERS, TAKERS):
            self.engine.accounts.open(account, unlimited=True)
        for instrument in instruments:
            self._add_market(instrument, market_dir)
        last_sequence = self._recover(ledger_path) if ledger_path is not None else 0
        self.ledger = Ledger(ledger_path, last_sequence + 1)
        if not last_sequence:
            for account, asset, amount in funding(settings.balances):
                self.deposit(account, asset, amount)

    def close(self) -> None:
        self.ledger.close()
        for market in self.markets.values():
            market.candles.close()
            market.tape.close()

    def _add_market(self, instrument: Instrument, market_dir: Path | None) -> None:
        folder = market_dir / instrument.native_symbol if market_dir is not None else None
        book = self.engine.add_market(MarketRules(instrument, PRICE_BAND, MAX_OPEN_ORDERS))
        tape = Tape(folder / "tape.bin" if folder is not None else None)
        candles = Candles(folder / "candles.log" if folder is not None else None)
        book.next_trade_id, book.update_id = tape.next_trade_id, tape.update_id
        self.engine.next_order_id = max(self.engine.next_order_id, tape.next_order_id)
        last = tape.last(1)
        if last:
            book.last_price = last[0].price
        self.markets[instrument.symbol] = Market(instrument, book, tape, candles)

    # -- recovery -------------------------------------------------------------------------------------------------------

    def _recover(self, path: Path) -> int:
        """Read the ledger back: balances, open orders, history and counters. Returns the last sequence, 0 for a new ledger."""
        latest: dict[int, OrderRecord] = {}
        last_sequence = 0
        for entry in read_entries(path):
            last_sequence = entry.sequence
            for record in entry.orders:
                latest[record.order_id] = record
            for fill in entry.fills:
                self.history(fill.account).fills.append(fill)
                if (market := self.markets.get(fill.symbol)) is not None:
                    market.book.next_trade_id = max(market.book.next_trade_id, fill.trade_id + 1)
            for balance in entry.balances:
                holding = self._holding(balance.account, balance.asset)
                holding.free, holding.locked = balance.free, balance.locked
        for order_id in sorted(latest):
            self._restore(latest[order_id])
        if last_sequence:
            open_orders = sum(not record.status.terminal for record in latest.values())
            log.info("simulator.recovered", entries=last_sequence, orders=len(latest), open_orders=open_orders)
        return last_sequence

    def _restore(self, record: OrderRecord) -> None:
        order = record.order()
        self.history(record.account).remember(order)
        self.engine.next_order_id = max(self.engine.next_order_id, order.order_id + 1)
        if order.status.terminal:
            return
        if order.symbol in self.markets:
            self.engine.restore(order)
        else:
            log.warning("simulator.order_of_unlisted_symbol", order_id=order.order_id, symbol=order.symbol)

    # -- asking ---------------------------------------------------------------------------------------------------------

    def history(self, account: str) -> History:
        return self.histories.setdefault(account, History())

    def balances(self, account: str) -> list[BalanceRecord]:
        """All assets that an account ever held, by name."""
        self.engine.accounts.open(account)
        holdings = self.engine.accounts.holdings(account)
        return [BalanceRecord(account, asset, holding.free, holding.locked) for asset, holding in sorted(holdings.items())]

    # -- an account's requests --------------------------------------------------------------------------------------------

    def place(self, new: NewOrder, request: RequestIdentity) -> Result:
        """Match and record an account's order; raises Refused."""
        self.engine.accounts.open(new.account)
        result = self.engine.place(new, now_ns())
        self._commit(EntryKind.PLACE, result, request)
        return result

    def cancel(self, order: Order, request: RequestIdentity, cancel_id: str = "") -> Result:
        """End an account's open order and record it; raises Refused when it has already ended."""
        result = self.engine.cancel(order, now_ns())
        self._commit(EntryKind.CANCEL, result, request, cancel_id)
        return result

    def refuse(self, request: RequestIdentity, client_order_id: str, code: str, detail: str) -> None:
        """Record that a signed order request came and changed nothing."""
        self.ledger.write(EntryKind.REFUSED, now_ns(), request=request, client_order_id=client_order_id, code=code, detail=detail)

    def deposit(self, account: str, asset: str, amount: Decimal) -> None:
        """Money from outside (negative: a withdrawal), recorded and told."""
        holding = self._holding(account, asset)
        with exact_arithmetic():
            holding.free += amount
        record = BalanceRecord(account, asset, holding.free, holding.locked)
        moment = now_ns()
        sequence = self.ledger.write(EntryKind.DEPOSIT, moment, balances=(record,), detail=str(amount))
        for listener in self.account_listeners:
            listener(AccountChange(EntryKind.DEPOSIT, account, moment, sequence, [], [record], deposit=amount))

    # -- the market's own events ----------------------------------------------------------------------------------------

    def market_order(self, new: NewOrder) -> Order | None:
        """An order of the synthetic market; None when its rules refuse it (a price that left the band, say)."""
        try:
            result = self.engine.place(new, now_ns())
        except Refused as error:
            log.debug("market.refused", refusal=error.refusal.value, detail=error.detail)
            return None
        self._commit(EntryKind.MARKET, result, None)
        return result.order

    def market_cancel(self, order: Order) -> None:
        """Take back an order of the synthetic market; one that has just traded is left alone."""
        if not order.status.terminal:
            self._commit(EntryKind.MARKET, self.engine.cancel(order, now_ns()), None)

    def outside_level(self, symbol: str, side: Side, price: Decimal, size: Decimal) -> None:
        """A level of the followed market changed."""
        self._commit(EntryKind.MARKET, self.engine.set_level(symbol, side, price, size, now_ns()), None, public=False)

    def outside_trade(self, symbol: str, trade: PublicTrade) -> None:
        """A trade of the followed market: told as it is; our orders that would have taken part fill."""
        market = self.markets[symbol]
        result = self.engine.print_trade(symbol, trade.taker_side, trade.price, trade.size, now_ns())
        market.book.next_trade_id = max(market.book.next_trade_id, trade.trade_id + 1)
        self._commit(EntryKind.MARKET, result, None, public=False)
        self._publish(market, [trade])

    def turn(self) -> None:
        """Several times a second: close the bars that ended, and refresh what price bands refer to."""
        moment = self.market_clock()
        for market in self.markets.values():
            for bar in market.candles.turn(moment):
                for listener in self.bar_listeners:
                    listener(market, bar)
            market.book.reference_price = market.candles.average_price(5)

    # -- recording and telling ------------------------------------------------------------------------------------------

    def _commit(
        self, kind: EntryKind, result: Result, request: RequestIdentity | None, cancel_id: str = "", *, public: bool = True
    ) -> None:
        """Write down what happened to accounts, then tell everyone. Nothing leaves before the ledger has it."""
        changes = self._record(kind, result, request, cancel_id) if result.events or request is not None else []
        if public and result.executions:
            self._publish(self.markets[result.executions[0].symbol], self._public_trades(result))
        market = self.markets[result.order.symbol] if result.order is not None else None
        if market is not None:
            market.tape.mark(market.book.update_id, self.engine.next_order_id)
            self._tell_top(market)
        for change in changes:
            for listener in self.account_listeners:
                listener(change)

    def _record(self, kind: EntryKind, result: Result, request: RequestIdentity | None, cancel_id: str) -> list[AccountChange]:
        by_account: dict[str, list[OrderEvent]] = {}
        touched: dict[int, Order] = {}
        assets: dict[tuple[str, str], None] = {}
        fills: list[FillRecord] = []
        for event in result.events:
            order = event.order
            by_account.setdefault(order.account, []).append(event)
            touched[order.order_id] = order
            instrument = self.markets[order.symbol].instrument
            if event.happening is Happening.FILLED:
                fills.append(_fill_record(event, instrument))
            for asset in (instrument.base, instrument.quote):
                assets[(order.account, asset)] = None
        balances = [self._balance(account, asset) for account, asset in assets]
        sequence = self.ledger.write(
            kind,
            result.now_ns,
            request=request,
            orders=tuple(OrderRecord.of(order) for order in touched.values()),
            fills=tuple(fills),
            balances=tuple(balances),
            client_order_id=cancel_id,
        )
        for order in touched.values():
            self.history(order.account).remember(order)
        for fill in fills:
            self.history(fill.account).fills.append(fill)
        return [
            AccountChange(
                kind=kind,
                account=account,
                ts_ns=result.now_ns,
                sequence=sequence,
                events=events,
                balances=[row for row in balances if row.account == account],
                cancel_id=cancel_id,
            )
            for account, events in by_account.items()
        ]

    def _public_trades(self, result: Result) -> list[PublicTrade]:
        aggregate_id = self.markets[result.executions[0].symbol].tape.next_aggregate_id
        trades: list[PublicTrade] = []
        for execution in result.executions:
            if trades and (trades[-1].price != execution.price or trades[-1].taker_side is not execution.taker.side):
                aggregate_id += 1
            trades.append(
                PublicTrade(
                    execution.trade_id,
                    aggregate_id,
                    execution.price,
                    execution.quantity,
                    execution.ts_ns,
                    execution.taker.side,
                )
            )
        return trades

    def _publish(self, market: Market, trades: list[PublicTrade]) -> None:
        for trade in trades:
            market.tape.add(trade)
            for bar in market.candles.turn(trade.ts_ns):
                for listener in self.bar_listeners:
                    listener(market, bar)
            market.candles.add(trade)
        market.tape.mark(market.book.update_id, self.engine.next_order_id)
        for tell in self.trade_listeners:
            tell(market, trades)

    def _tell_top(self, market: Market) -> None:
        bids, asks = market.book.bids, market.book.asks
        bid, ask = bids.best(), asks.best()
        top = (bid, bids.size_at(bid) if bid is not None else None, ask, asks.size_at(ask) if ask is not None else None)
        if top != market.top:
            market.top = top
            for tell in self.top_listeners:
                tell(market)

    def _holding(self, account: str, asset: str) -> Holding:
        self.engine.accounts.open(account)
        return self.engine.accounts.holding(account, asset)

    def _balance(self, account: str, asset: str) -> BalanceRecord:
        holding = self.engine.accounts.holding(account, asset)
        return BalanceRecord(account, asset, holding.free, holding.locked)


def _fill_record(event: OrderEvent, instrument: Instrument) -> FillRecord:
    execution, order = event.execution, event.order
    assert execution is not None
    assert event.liquidity is not None
    return FillRecord(
        trade_id=execution.trade_id,
        account=order.account,
        symbol=order.symbol,
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        side=order.side,
        price=execution.price,
        quantity=execution.quantity,
        quote_quantity=execution.quote_quantity,
        fee=event.fee,
        fee_asset=instrument.base if order.side is Side.BUY else instrument.quote,
        liquidity=event.liquidity,
        ts_ns=execution.ts_ns,
    )
