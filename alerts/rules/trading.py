"""Watchers of orders, fills, positions and what people say to the processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from alerts.figures import duration, number
from alerts.report import Report, report_of
from alerts.rules.models import (
    AlertRule,
    ClosedRule,
    ControlRule,
    DecisionRule,
    FillRule,
    OpenedRule,
    OrderRule,
    UnknownOrderRule,
    rendered,
)
from alerts.rules.voice import Lasting, Memory, Voice, Watcher, quote_of
from common_models import (
    Alert,
    AlertLevel,
    AnyMessage,
    Control,
    ControlAction,
    Decision,
    Fill,
    OrderStatus,
    OrderUpdate,
    Position,
    RoundTrip,
    Side,
)

JUST_NOW_NS = 120 * 1_000_000_000


class OrderWatcher(Watcher):
    sees = (OrderUpdate,)

    def __init__(self, voice: Voice, rule: OrderRule) -> None:
        self._voice = voice
        self._statuses = frozenset(rule.status)
        self._except_codes = frozenset(rule.except_codes)

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        assert isinstance(message, OrderUpdate)
        if message.status in self._statuses and message.code not in self._except_codes:
            values = {
                **_order_values(message),
                "price": number(message.price) if message.price is not None else "market",
                "status": message.status.value,
                "code": message.code,
                "reason": message.reason,
            }
            subject = f"{message.exchange}|{message.symbol}|{message.client_order_id}|{message.status}"
            yield self._voice.say(subject, values, message.ts_recv_ns, details={"order": message.client_order_id})


class UnknownOrderWatcher(Watcher):
    sees = (OrderUpdate,)

    def __init__(self, voice: Voice, rule: UnknownOrderRule, memory: Memory) -> None:
        self._lasting = Lasting(voice, rule, memory)

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        assert isinstance(message, OrderUpdate)
        order = message
        subject = f"{order.exchange}|{order.client_order_id}"
        if order.status is OrderStatus.UNKNOWN:
            return self._lasting.wrong(subject, now_ns, lambda age_ns: {**_order_values(order), "age": duration(age_ns)})
        return self._lasting.right(subject, now_ns, {**_order_values(order), "age": ""})

    def tick(self, now_ns: int) -> Iterator[Report]:
        return self._lasting.tick(now_ns)


class DecisionWatcher(Watcher):
    sees = (Decision,)

    def __init__(self, voice: Voice, rule: DecisionRule) -> None:
        self._voice = voice
        self._codes = frozenset(rule.codes)

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        assert isinstance(message, Decision)
        if message.code in self._codes:
            values = {
                "exchange": message.exchange,
                "symbol": message.symbol,
                "direction": message.direction.value,
                "verdict": message.verdict.value,
                "code": message.code,
                "reason": message.reason,
                "strategy": message.strategy,
            }
            subject = f"{message.exchange}|{message.symbol}|{message.code}"
            yield self._voice.say(subject, values, message.ts_event_ns, details=message.numbers)


class FillWatcher(Watcher):
    sees = (Fill,)

    def __init__(self, voice: Voice, rule: FillRule) -> None:
        self._voice = voice
        self._external = rule.external

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        assert isinstance(message, Fill)
        if message.external and not self._external:
            return
        values = {
            "exchange": message.exchange,
            "symbol": message.symbol,
            "side": {Side.BUY: "bought", Side.SELL: "sold"}[message.side],
            "price": number(message.price),
            "quantity": number(message.quantity),
            "quote_quantity": number(message.quote_quantity, 8),
            "fee": number(message.fee),
            "fee_asset": message.fee_asset,
            "strategy": message.strategy or "external",
        }
        subject = f"{message.exchange}|{message.account}|{message.symbol}|{message.trade_id}"
        yield self._voice.say(subject, values, message.ts_recv_ns)


class OpenedWatcher(Watcher):
    """Positions are told again and again at the mark: only the step from nothing to something counts.

    Of one that was never heard of before, a fill of this moment says that it is new and not just new to us.
    """

    sees = (Position, Fill)

    def __init__(self, voice: Voice, _: OpenedRule, memory: Memory) -> None:
        self._voice = voice
        self._memory = memory
        self._filled_ns: dict[tuple[str, str, str], int] = {}

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        if isinstance(message, Fill):
            self._filled_ns[message.exchange, message.account, message.symbol] = now_ns
            return
        assert isinstance(message, Position)
        held = message.quantity != 0
        subject = f"{message.exchange}|{message.account}|{message.strategy}|{message.symbol}"
        key = f"{self._voice.name}/{subject}"
        before = self._memory.get(key)
        if before == str(held):
            return
        self._memory.put(key, str(held))
        filled_ns = self._filled_ns.get((message.exchange, message.account, message.symbol), 0)
        if held and (before is not None or now_ns - filled_ns < JUST_NOW_NS):
            values = {
                "exchange": message.exchange,
                "symbol": message.symbol,
                "quantity": number(message.quantity),
                "cost": number(message.cost, 2),
                "quote": quote_of(message.symbol),
                "strategy": message.strategy,
            }
            yield self._voice.say(f"{subject}|{message.ts_recv_ns}", values, message.ts_recv_ns)


class ClosedWatcher(Watcher):
    sees = (RoundTrip,)

    def __init__(self, voice: Voice, rule: ClosedRule) -> None:
        self._voice = voice
        self._min_loss = rule.min_loss

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        assert isinstance(message, RoundTrip)
        if self._min_loss is not None and -message.profit < self._min_loss:
            return
        percent = message.profit / message.entry_cost * 100 if message.entry_cost else Decimal(0)
        values = {
            "exchange": message.exchange,
            "symbol": message.symbol,
            "quantity": number(message.quantity),
            "quote": quote_of(message.symbol),
            "profit": number(message.profit, 4),
            "percent": number(percent, 2),
            "fees": number(message.fees, 4),
            "reason": message.exit_reason,
            "duration": duration(message.closed_ns - message.opened_ns),
            "strategy": message.strategy,
        }
        last = message.trade_ids[-1] if message.trade_ids else str(message.closed_ns)
        subject = f"{message.exchange}|{message.account}|{message.symbol}|{last}"
        yield self._voice.say(subject, values, message.closed_ns)


RELEASES = {ControlAction.RESUME: ControlAction.HALT, ControlAction.CONTINUE: ControlAction.PAUSE}
"""What a word puts an end to: of the same target, or of all when it has none."""


class ControlWatcher(Watcher):
    sees = (Control,)

    def __init__(self, voice: Voice, rule: ControlRule) -> None:
        self._voice = voice
        self._actions = frozenset(rule.actions)

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        assert isinstance(message, Control)
        if message.action not in self._actions:
            return
        target = message.target or "everything"
        values = {"action": message.action.value, "actor": message.actor, "reason": message.reason, "target": target}
        said = self._voice.say(f"{message.action}|{target}", values, message.created_at_ns)
        released = RELEASES.get(message.action)
        if released is not None:  # told as what it is, and open for nobody; what it releases is over without further words
            subject = f"{released}|{message.target}" if message.target else released.value
            yield replace(self._voice.say(subject, values, message.created_at_ns, resolves=True), notify="off")
            said = replace(said, one_off=True)
        yield said


class AlertWatcher:
    """Changes how alerts of other processes are told; `reports` makes the reports of one."""

    def __init__(self, name: str, rule: AlertRule) -> None:
        self.codes = frozenset(rule.codes)
        self._name = name
        self._rule = rule

    def reports(self, alert: Alert) -> Iterator[Report]:
        """The alert as this rule tells it; for one that puts an end to others, their ends."""
        plain, rule = report_of(alert), self._rule
        for code in rule.resolves:
            key = "|".join((code, alert.exchange, alert.symbol))
            yield replace(plain, key=key, code=code, resolves=True, notify=rule.notify)
        if rule.resolves:
            return
        values = {
            "text": plain.title,
            "code": alert.code,
            "source": alert.source,
            "exchange": alert.exchange,
            "symbol": alert.symbol,
        }
        level = rule.alert_level if rule.level else plain.level
        yield replace(
            plain,
            level=level,
            event=rule.event or self._name,
            title=" ".join(rendered(rule.text, values).split()) or plain.title,
            category=rule.category or plain.category,
            one_off=level is AlertLevel.INFO,
            notify=rule.notify,
            cooldown_s=rule.cooldown_s,
        )


def _order_values(order: OrderUpdate) -> dict[str, str]:
    return {
        "exchange": order.exchange,
        "symbol": order.symbol,
        "side": order.side.value,
        "quantity": number(order.quantity),
        "order_id": order.client_order_id,
    }
