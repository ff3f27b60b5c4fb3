"""Where decisions leave the bot: told on the bus, made durable, and then ordered, in this sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import msgspec
import structlog

from bot.denials import Denials
from bot.metrics import BotMetrics
from bot.order_planner import OrderPlanner
from bot.portfolio import Portfolio
from bot.records import CommandDecided, OrderState, PositionKey
from bot.storage import Storage
from bus.errors import BusError
from bus.interfaces import Publisher
from bus.streams import Stream, Streams
from common_models import (
    Alert,
    AlertLevel,
    Decision,
    Direction,
    MarketEvent,
    Message,
    PlaceOrder,
    PluginStatus,
    Side,
    Signal,
    Verdict,
)
from common_models.timestamps import NS_PER_S
from runtime.crash_points import crash_point
from trading.risk import Denied

log = structlog.get_logger(__name__)

ASK_AFTER_NS = 5 * NS_PER_S
"""How long after its expiry a command without an answer is sent again: the connector then says what became of it."""
ASK_EVERY_NS = 30 * NS_PER_S
"""The wait after that, twice as long each time, up to an hour."""
ASK_CAP_NS = 3600 * NS_PER_S
TELL_AFTER_ASKS = 5


@dataclass(frozen=True, slots=True)
class Motive:
    """Why something is decided: the event that moved us, the direction, and the opinions behind it.

    `since_ns` is the monotonic clock when the signals to the event began to be weighed, 0 when there were none.
    """

    key: PositionKey
    event: MarketEvent
    direction: Direction
    signals: tuple[Signal, ...] = ()
    since_ns: int = 0

    @property
    def made_by(self) -> tuple[str, ...]:
        """The plugins behind it with their versions, as `sma@1f0c22aa9b3e`."""
        return tuple([f"{signal.strategy}@{signal.version}" for signal in self.signals])


class OrderDesk:
    """Publishes what the bot thinks and orders. Nothing here waits.

    An order is written to the storage before it goes to the bus. If the bot dies in between, or the bus does not take it, the
    command is sent again from the storage (`ask_again`): it has the same id, and the connector acts on an id once.
    """

    def __init__(
        self,
        publisher: Publisher,
        streams: Streams,
        storage: Storage,
        portfolio: Portfolio,
        planner: OrderPlanner,
        metrics: BotMetrics,
        clock: Callable[[], int],
    ) -> None:
        self._publisher = publisher
        self._streams = streams
        self._signals_stream, self._decisions_stream = streams.signals, streams.decisions  # a name costs a microsecond
        self._storage = storage
        self._commands_streams: dict[tuple[str, str], Stream] = {}
        self._portfolio = portfolio
        self._planner = planner
        self._metrics = metrics
        self._clock = clock
        self._denials = Denials(self._put_decision)
        self._asked: dict[str, tuple[int, int]] = {}  # command id: (when, how often)
        self.signals = 0
        self.orders = 0
        self.unpublished = 0

    @property
    def denied(self) -> int:
        """Decisions that a gate stopped, those that were joined into one message included."""
        return self._denials.total

    def tell_signal(self, signal: Signal) -> None:
        """Publish a plugin's opinion."""
        self.signals += 1
        self._put(self._signals_stream, signal)

    def deny(self, motive: Motive, denial: Denied) -> None:
        """Tell, rate-limited, that nothing was ordered and why."""
        decision = self._decision(motive, Verdict.DENIED, denial.code, denial.reason, denial.numbers)
        self._metrics.decided(decision, motive.since_ns)
        self._denials.deny(decision, self._clock())

    def order(
        self, motive: Motive, side: Side, quantity: Decimal, price: Decimal, code: str, reason: str, *, exit_reason: str = ""
    ) -> str | None:
        """Decide and order; `price` is what a market order reckons with, `exit_reason` marks one that closes.

        Returns the command id, or None when this very decision was made before or could not be made durable.
        """
        key = motive.key
        made_by = motive.made_by or self._portfolio.wanted_by.get(key, ())
        command = self._planner.plan(
            key.account, key.strategy, motive.event, side, quantity, self._clock(), closes=bool(exit_reason), made_by=made_by
        )
        if self._portfolio.is_decided(command.command_id):
            return None
        try:
            self._storage.append(CommandDecided(command=command, expected_price=price, exit_reason=exit_reason))
        except OSError as error:
            log.error("orders.not_durable", symbol=key.symbol, reason=str(error))  # noqa: TRY400 expected when a disk is full
            self.deny(motive, Denied("STORAGE_UNWRITABLE", f"the decision could not be written down: {error}"))
            return None
        crash_point("bot-decision-stored")
        numbers = {"price": str(price)}
        decision = self._decision(motive, Verdict.TAKEN, code, reason, numbers, command.command_id, quantity, made_by)
        self._metrics.decided(decision, motive.since_ns)
        self._put_decision(decision)
        self._put(self._commands_stream(command), msgspec.structs.replace(command, causation_id=decision.message_id))
        self._metrics.commanded(command)
        self.orders += 1
        return command.command_id

    def ask_again(self, *, everything: bool = False) -> int:
        """Send commands without an answer again, at a start all of them; returns how many."""
        now_ns = self._clock()
        asked = 0
        for command_id, order in self._portfolio.orders.items():
            if everything or self._is_overdue(order, now_ns):
                command = order.decided.command
                asks = self._asked.get(command_id, (0, 0))[1] + 1
                self._asked[command_id] = (now_ns, asks)
                self._put(self._commands_stream(command), command)
                log.info("orders.asked_again", command_id=command_id, symbol=command.symbol, status=order.status)
                asked += 1
                if asks == TELL_AFTER_ASKS:
                    text = f"order {command_id[:12]} has no answer after {asks} questions; its exposure stays reserved until it has"
                    self.alert(
                        AlertLevel.CRITICAL, "ORDER_UNANSWERED", text, command.exchange, command.symbol, command_id=command_id
                    )
        self._asked = {command_id: when for command_id, when in self._asked.items() if command_id in self._portfolio.orders}
        return asked

    def flush_denials(self, *, everything: bool = False) -> None:
        """Tell the denials that were counted; to be called every second or so."""
        self._denials.flush(self._clock(), everything=everything)

    def alert(
        self,
        level: AlertLevel,
        code: str,
        text: str,
        exchange: str = "",
        symbol: str = "",
        category: str = "trading",
        *,
        resolves: bool = False,
        **numbers: str,
    ) -> None:
        """Tell a person; `resolves` says that what was told under this code, exchange and symbol is over."""
        log.log(_LEVELS[level], "alert", code=code, text=text, exchange=exchange, symbol=symbol, **numbers)
        self._put(
            self._streams.alerts,
            Alert(
                level=level,
                source="bot",
                code=code,
                text=text,
                ts_event_ns=self._clock(),
                exchange=exchange,
                symbol=symbol,
                numbers=numbers,
                category=category,
                resolves=resolves,
            ),
        )

    def tell_plugin(self, status: PluginStatus) -> None:
        """Publish how a plugin is."""
        self._put(self._streams.plugins, status)

    def _is_overdue(self, order: OrderState, now_ns: int) -> bool:
        if order.status is not None:
            return False
        command = order.decided.command
        last_ns, asks = self._asked.get(command.command_id, (0, 0))
        wait_ns = min(ASK_EVERY_NS << min(asks, 10), ASK_CAP_NS)
        return now_ns > command.expires_at_ns + ASK_AFTER_NS and now_ns - last_ns > wait_ns

    def _decision(
        self,
        motive: Motive,
        verdict: Verdict,
        code: str,
        reason: str,
        numbers: dict[str, str],
        command_id: str = "",
        quantity: Decimal = Decimal(0),
        made_by: tuple[str, ...] | None = None,
    ) -> Decision:
        event, key = motive.event, motive.key
        return Decision(
            causation_id=motive.signals[-1].message_id if motive.signals else event.message_id,
            correlation_id=event.correlation_id or event.message_id,
            strategy=key.strategy,
            exchange=key.exchange,
            account=key.account,
            symbol=key.symbol,
            direction=motive.direction,
            verdict=verdict,
            code=code,
            reason=reason,
            numbers=numbers,
            signals=tuple(signal.message_id for signal in motive.signals),
            ts_event_ns=event.ts_recv_ns if event.ts_event_ns is None else event.ts_event_ns,
            command_id=command_id,
            quantity=quantity,
            made_by=motive.made_by if made_by is None else made_by,
        )

    def _commands_stream(self, command: PlaceOrder) -> Stream:
        account = (command.exchange, command.account)
        stream = self._commands_streams.get(account)
        if stream is None:
            stream = self._commands_streams[account] = self._streams.commands(*account)
        return stream

    def _put_decision(self, decision: Decision) -> None:
        self._put(self._decisions_stream, decision)

    def _put(self, stream: Stream, message: Message) -> None:
        try:
            self._publisher.put(stream, message)
        except BusError as error:
            self.unpublished += 1
            log.error("bus.not_published", stream=stream.name, reason=str(error))  # noqa: TRY400 the bus is away and full


_LEVELS = {AlertLevel.INFO: 20, AlertLevel.WARNING: 30, AlertLevel.ERROR: 40, AlertLevel.CRITICAL: 50}
