"""Watchers of what is at stake: equity against its peak, and how much of a limit is used."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from alerts.durable_tables import Table
from alerts.figures import number
from alerts.report import Report
from alerts.rules.models import DrawdownRule, LimitRule
from alerts.rules.voice import Lasting, Memory, Voice, Watcher, higher, quote_of
from common_models import AnyMessage, Balance, Position, RoundTrip
from common_models.decimals import ZERO

DAY_NS = 86_400 * 1_000_000_000
DUST = Decimal(1)
"""A position worth less than this much quote currency is what rounding left, and no open trade."""


class HeldPosition(msgspec.Struct, kw_only=True):
    """What a strategy holds; `value` at the mark, in quote currency."""

    quote: str
    value: Decimal


class Holdings:
    """Balances and positions as they were told last, kept over restarts, since balances are told only when they change."""

    def __init__(self, balances: Table[Decimal], positions: Table[HeldPosition]) -> None:
        self._balances = balances
        self._positions = positions

    def apply(self, message: AnyMessage) -> None:
        """Take note of a balance or a position; other messages are none of our business."""
        if isinstance(message, Balance):
            self._balances.put(f"{message.exchange}|{message.account}|{message.asset}", message.total)
        elif isinstance(message, Position):
            key = f"{message.exchange}|{message.account}|{message.strategy}|{message.symbol}"
            if message.quantity == 0:
                self._positions.drop(key)
            else:
                value = message.cost if message.mark_price is None else message.quantity * message.mark_price
                self._positions.put(key, HeldPosition(quote=quote_of(message.symbol), value=value))

    def equity(self, quote: str) -> Decimal | None:
        """What we have of `quote` and what our positions are worth in it; None while no balance of it is known."""
        cash = [total for key, total in self._balances.rows.items() if key.rpartition("|")[2] == quote]
        return sum(cash, ZERO) + sum(self._values(quote), ZERO) if cash else None

    def exposure(self, quote: str) -> Decimal:
        """The worth of all positions in `quote`, long and short added up."""
        return sum(map(abs, self._values(quote)), ZERO)

    @property
    def open_positions(self) -> int:
        return sum(abs(position.value) >= DUST for position in self._positions.rows.values())

    def _values(self, quote: str) -> list[Decimal]:
        return [position.value for position in self._positions.rows.values() if position.quote == quote]


class DrawdownWatcher(Watcher):
    """The peak is kept over restarts, to a ten-thousandth of itself."""

    def __init__(self, voice: Voice, rule: DrawdownRule, memory: Memory, holdings: Holdings) -> None:
        self._lasting = Lasting(voice, rule, memory)
        self._rule = rule
        self._holdings = holdings
        self._memory = memory
        self._key = f"{voice.name}/peak"

    def tick(self, now_ns: int) -> Iterator[Report]:
        equity = self._holdings.equity(self._rule.quote)
        if equity is None:
            return
        kept = self._memory.get(self._key)
        peak = Decimal(kept) if kept else equity
        if kept is None or equity > peak * Decimal("1.0001"):
            peak = equity
            self._memory.put(self._key, str(peak))
        percent = (peak - equity) / peak * 100 if peak > 0 else ZERO
        values = {
            "quote": self._rule.quote,
            "equity": number(equity, 2),
            "peak": number(peak, 2),
            "percent": number(percent, 2),
        }
        if percent >= self._rule.percent:
            yield from self._lasting.wrong(self._rule.quote, now_ns, lambda _: values)
        else:
            yield from self._lasting.right(self._rule.quote, now_ns, values)


class LimitWatcher(Watcher):
    """At `at_percent` of a limit with the rule's level, beyond the limit itself with a higher one."""

    sees = (RoundTrip,)

    def __init__(self, voice: Voice, rule: LimitRule, memory: Memory, holdings: Holdings, limit: Decimal) -> None:
        self._lasting = Lasting(voice, rule, memory)
        self._rule = rule
        self._memory = memory
        self._holdings = holdings
        self._limit = limit
        self._day_key = f"{voice.name}/day"

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        assert isinstance(message, RoundTrip)
        if quote_of(message.symbol) == self._rule.quote and self._rule.of == "daily_loss":
            day, profit = self._today(now_ns)
            if message.closed_ns // DAY_NS == day:
                self._memory.put(self._day_key, f"{day} {profit + message.profit}")
        yield from ()

    def tick(self, now_ns: int) -> Iterator[Report]:
        value = self._value(now_ns)
        if value is None or self._limit <= 0:
            return
        percent = value / self._limit * 100
        values = {
            "what": self._rule.of.replace("_", " "),
            "quote": self._rule.quote,
            "value": number(value, 2),
            "limit": number(self._limit),
            "percent": number(percent, 0),
        }
        if percent >= self._rule.at_percent:
            level = higher(self._rule.alert_level) if percent > 100 else None
            yield from self._lasting.wrong(self._rule.of, now_ns, lambda _: values, level)
        else:
            yield from self._lasting.right(self._rule.of, now_ns, values)

    def _value(self, now_ns: int) -> Decimal | None:
        match self._rule.of:
            case "open_trades":
                return Decimal(self._holdings.open_positions)
            case "daily_loss":
                return max(ZERO, -self._today(now_ns)[1])
            case _:
                equity = self._holdings.equity(self._rule.quote)
                return self._holdings.exposure(self._rule.quote) / equity * 100 if equity and equity > 0 else None

    def _today(self, ts_ns: int) -> tuple[int, Decimal]:
        """The day (UTC, days since 1970) of a time, and the profit of what was closed on it."""
        day = ts_ns // DAY_NS
        kept_day, _, profit = (self._memory.get(self._day_key) or "").partition(" ")
        return (day, Decimal(profit)) if kept_day == str(day) else (day, ZERO)
