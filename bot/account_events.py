"""What connectors say of our accounts: made durable first, then taken in, then told on, and only then acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal

import structlog

from bot.data_provider import DataProvider
from bot.metrics import BotMetrics
from bot.portfolio import Portfolio
from bot.records import BalanceTold, CommandEnded, FillApplied, PositionKey
from bot.storage import Storage
from bus.errors import BufferFull
from bus.interfaces import Delivery, Publisher, Retry, Unacceptable
from bus.streams import Streams
from common_models import Balance, ConnectorStatus, Fill, OrderUpdate, Symbol, SymbolError
from common_models.decimals import NumberError, bounded
from trading.ledger import position_change
from trading.sizing import closable_quantity

log = structlog.get_logger(__name__)

FLUSH_TIMEOUT_S = 5.0


class AccountEvents:
    """The handler of the consumer group `bot`. Deliveries may repeat: every effect is the same the second time.

    Fills that another hand made in the account (`external`) are not ours and change no position; nor does what the account held
    before our first fill.
    """

    def __init__(
        self,
        portfolio: Portfolio,
        storage: Storage,
        provider: DataProvider,
        publisher: Publisher,
        streams: Streams,
        metrics: BotMetrics,
        clock: Callable[[], int],
    ) -> None:
        self._portfolio = portfolio
        self._storage = storage
        self._provider = provider
        self._publisher = publisher
        self._streams = streams
        self._metrics = metrics
        self._clock = clock
        self.fills = 0

    async def handle(self, deliveries: Sequence[Delivery]) -> None:
        """Take in a batch; raises Retry, so that nothing is acknowledged, while the disk or the bus does not take what follows."""
        try:
            self._take(deliveries)
        except OSError as error:
            log.error("storage.unwritable", reason=str(error))  # noqa: TRY400 expected when a disk is full
            raise Retry from error
        except BufferFull as error:
            raise Retry from error
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self._publisher.flushed()
        except TimeoutError as error:
            raise Retry from error  # the bus is away; what comes again is told again
        self._storage.compact_when_large()

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        changed: dict[PositionKey, None] = {}
        for delivery in deliveries:
            match delivery.message:
                case Fill() as fill:
                    self._take_fill(fill, changed)
                case OrderUpdate() as update:
                    self._take_update(update)
                case Balance() as balance:
                    _check_numbers(balance.free, balance.locked)
                    self._storage.append(BalanceTold(balance=balance))
                case ConnectorStatus() as status:
                    self._provider.note_status(status)
                case _:
                    pass  # gaps and kinds that matter to others
        for key in changed:
            self.tell_position(key)

    def tell_position(self, key: PositionKey) -> None:
        """Publish a position as it is now."""
        stream = self._streams.account(key.exchange, key.account, "positions")
        self._publisher.put(stream, self._portfolio.position(key, self._clock()))

    def _take_fill(self, fill: Fill, changed: dict[PositionKey, None]) -> None:
        strategy = self._portfolio.strategy_of(fill)
        if not strategy:
            return
        _check(fill)
        key = PositionKey(fill.exchange, fill.account, strategy, fill.symbol)
        ledger = self._portfolio.ledgers.get(key)
        fresh = ledger is None or not ledger.has(fill.trade_id)
        if fresh:
            self._storage.append(FillApplied(fill=fill, strategy=strategy, ends_trip=self._ends_trip(key, fill)))
            self.fills += 1
        changed[key] = None
        round_trip = self._portfolio.round_trip_ended_by(key, fill.trade_id)
        if round_trip is not None and fresh:
            self._metrics.closed(round_trip)
        if round_trip is not None:  # told again with a fill that comes again: its first telling may have died with us
            self._publisher.put(self._streams.round_trips, round_trip)

    def _take_update(self, update: OrderUpdate) -> None:
        order = self._portfolio.order_of(update)
        if order is None:
            return
        if update.status.terminal:
            self._storage.append(
                CommandEnded(
                    command_id=order.decided.command.command_id,
                    status=update.status,
                    filled_quantity=update.filled_quantity,
                    at_ns=update.ts_recv_ns,
                )
            )
            if not update.filled_quantity:
                log.info("order.ended_empty", symbol=update.symbol, status=update.status, code=update.code, reason=update.reason)
        else:
            self._portfolio.note_status(update)

    def _ends_trip(self, key: PositionKey, fill: Fill) -> bool:
        """Whether a fill reduces the position to nothing, or to dust that no order could sell."""
        ledger = self._portfolio.ledgers.get(key)
        before = ledger.quantity if ledger else None
        if ledger is None or not before or (position_change(fill) > 0) is (before > 0):
            return False
        after = ledger.after(fill)
        if not after or (after > 0) is not (before > 0):
            return True
        instrument = self._provider.instrument(key.exchange, key.symbol)
        return instrument is not None and not closable_quantity(abs(after), fill.price, instrument)


def _check(fill: Fill) -> None:
    """Raise Unacceptable for a fill that cannot be booked, before it is written: as a record it would fail at every start."""
    try:
        Symbol.parse(fill.symbol)
    except SymbolError as error:
        raise Unacceptable(str(error)) from error
    _check_numbers(fill.price, fill.quantity, fill.quote_quantity, fill.fee)
    if fill.price <= 0 or fill.quantity <= 0:
        raise Unacceptable(f"trade {fill.trade_id} of {fill.quantity} at {fill.price} is no trade")


def _check_numbers(*numbers: Decimal) -> None:
    """Raise Unacceptable for numbers that are not those of a venue, with which exact arithmetic would run out of digits."""
    try:
        for number in numbers:
            bounded(number)
    except NumberError as error:
        raise Unacceptable(str(error)) from error
