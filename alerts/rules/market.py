"""Watchers of market data and of the connections that bring it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from alerts.figures import duration, number
from alerts.report import Report
from alerts.rules.models import FeedRule, GapRule, PriceRule
from alerts.rules.voice import Lasting, Memory, Voice, Watcher, spelled
from common_models import AnyMessage, ConnectionState, ConnectorStatus, Gap, Ticker

ABOVE, BELOW = "above", "below"
ARMED, TOLD = "armed", "told"
TROUBLED = frozenset({ConnectionState.RECONNECTING, ConnectionState.STALE})
TWO = Decimal(2)


class PriceWatcher(Watcher):
    """A line is armed once the price was seen on its other side, told when it is crossed, and armed again by `rearm_percent`."""

    sees = (Ticker,)

    def __init__(self, voice: Voice, rule: PriceRule, memory: Memory) -> None:
        self._voice = voice
        self._memory = memory
        self._symbol = spelled(rule.symbol)
        self._exchange = rule.exchange
        share = rule.rearm_percent / 100
        self._lines: list[tuple[str, Decimal, Decimal]] = []  # direction, the line, where it is armed again
        if rule.above is not None:
            self._lines.append((ABOVE, rule.above, rule.above * (1 - share)))
        if rule.below is not None:
            self._lines.append((BELOW, rule.below, rule.below * (1 + share)))

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        assert isinstance(message, Ticker)
        if message.symbol != self._symbol or (self._exchange and message.exchange != self._exchange) or message.crossed:
            return
        price = (message.bid_price + message.ask_price) / TWO
        for direction, line, again in self._lines:
            subject = f"{message.exchange}|{message.symbol}|{direction}"
            key = f"{self._voice.name}/{subject}"
            state = self._memory.get(key)
            crossed = price >= line if direction == ABOVE else price <= line
            if crossed and state == ARMED:
                self._memory.put(key, TOLD)
                values = {
                    "exchange": message.exchange,
                    "symbol": message.symbol,
                    "price": number(price),
                    "direction": direction,
                    "limit": number(line),
                }
                yield self._voice.say(subject, values, message.ts_recv_ns)
            elif state != ARMED and not crossed and (state is None or (price <= again if direction == ABOVE else price >= again)):
                self._memory.put(key, ARMED)


class FeedWatcher(Watcher):
    sees = (ConnectorStatus,)

    def __init__(self, voice: Voice, rule: FeedRule, memory: Memory) -> None:
        self._lasting = Lasting(voice, rule, memory)

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        assert isinstance(message, ConnectorStatus)
        status = message
        subject = "|".join((status.exchange, status.account, status.leg, status.subject))

        def values(age_ns: int) -> dict[str, str]:
            return {
                "exchange": status.exchange,
                "account": status.account,
                "leg": status.leg,
                "subject": status.subject,
                "state": status.state.value,
                "reason": status.reason,
                "age": duration(age_ns),
            }

        if status.state in TROUBLED:
            yield from self._lasting.wrong(subject, now_ns, values)
            return
        yield from self._lasting.right(subject, now_ns, values(0))
        if status.state is ConnectionState.CONNECTED and not status.subject:  # the whole leg is back, with its subscriptions
            for other in [told for told in self._lasting.told() if told.startswith(subject)]:
                yield from self._lasting.right(other, now_ns, values(0))

    def tick(self, now_ns: int) -> Iterator[Report]:
        return self._lasting.tick(now_ns)


class GapWatcher(Watcher):
    sees = (Gap,)

    def __init__(self, voice: Voice, rule: GapRule) -> None:
        self._voice = voice
        self._kinds = frozenset(rule.streams)
        self._symbols = frozenset(map(spelled, rule.symbols))
        self._healed = rule.healed

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        assert isinstance(message, Gap)
        kind = message.stream.rpartition(":")[2]
        wanted = not self._symbols or not message.symbol or message.symbol in self._symbols
        if kind not in self._kinds or not wanted or (message.healed and not self._healed):
            return
        values = {
            "exchange": message.exchange,
            "symbol": message.symbol or "all symbols",
            "stream": kind,
            "count": "an unknown number" if message.count is None else str(message.count),
            "reason": message.reason,
        }
        yield self._voice.say(f"{message.exchange}|{message.symbol}|{kind}", values, message.ts_recv_ns)
