"""What every watcher of a rule uses: making reports of it, remembering over restarts, and troubles that last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from alerts.durable_tables import Table
from alerts.report import LEVELS, MAX_TITLE, WEIGHT, Report
from alerts.rules.models import LastingRule, Rule, rendered
from common_models import AlertLevel, AnyMessage, Message

Values = Mapping[str, str]
Memory = Table[str]
"""What rules must not forget at a restart, as text by `rule/subject`."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Speaks for one rule."""

    name: str
    rule: Rule

    @property
    def code(self) -> str:
        return self.name.upper()

    def say(
        self,
        subject: str,
        values: Values,
        ts_ns: int,
        *,
        resolves: bool = False,
        level: AlertLevel | None = None,
        details: Values | None = None,
    ) -> Report:
        """A report about `subject`, which tells the troubles of one rule apart; an INFO one is told and never open."""
        rule = self.rule
        text = " ".join(rendered(rule.text, values).split())
        level = level or rule.alert_level
        return Report(
            key=f"{self.code}|{subject}",
            level=level,
            code=self.code,
            event=rule.event or self.name,
            title=text,
            text=text[MAX_TITLE:],
            ts_ns=ts_ns,
            category=rule.category,
            source="rule",
            exchange=values.get("exchange", ""),
            symbol=values.get("symbol", ""),
            details=details or {},
            resolves=resolves,
            one_off=level is AlertLevel.INFO,
            notify=rule.notify,
            cooldown_s=rule.cooldown_s,
        )


@dataclass(slots=True)
class _Wrong:
    """One subject that is in trouble now."""

    since_ns: int
    values: Callable[[int], Values]  # by the age in nanoseconds
    level: AlertLevel


@dataclass(slots=True)
class Lasting:
    """Troubles of one rule that count when they last for `for_s`, by subject. What was told is remembered over restarts."""

    voice: Voice
    rule: LastingRule
    memory: Memory
    _wrong: dict[str, _Wrong] = field(default_factory=dict)

    def wrong(
        self, subject: str, now_ns: int, values: Callable[[int], Values], level: AlertLevel | None = None
    ) -> Iterator[Report]:
        """It is in trouble (still)."""
        known = self._wrong.get(subject)
        since_ns = known.since_ns if known else now_ns
        self._wrong[subject] = _Wrong(since_ns, values, level or self.rule.alert_level)
        yield from self._told_when_due(subject, now_ns)

    def right(self, subject: str, now_ns: int, values: Values) -> Iterator[Report]:
        """It is not in trouble (any more)."""
        self._wrong.pop(subject, None)
        key = f"{self.voice.name}/{subject}"
        if self.memory.get(key) is not None:
            self.memory.drop(key)
            yield self.voice.say(subject, values, now_ns, resolves=True)

    def tick(self, now_ns: int) -> Iterator[Report]:
        """What has become due by waiting."""
        for subject in list(self._wrong):
            yield from self._told_when_due(subject, now_ns)

    def told(self) -> list[str]:
        """The subjects that were told and are not over."""
        prefix = f"{self.voice.name}/"
        return [key.removeprefix(prefix) for key in self.memory.rows if key.startswith(prefix)]

    def _told_when_due(self, subject: str, now_ns: int) -> Iterator[Report]:
        wrong = self._wrong[subject]
        age_ns = now_ns - wrong.since_ns
        key = f"{self.voice.name}/{subject}"
        told = self.memory.get(key)
        if age_ns < self.rule.for_s * 1e9 or (told is not None and WEIGHT[AlertLevel(told)] >= WEIGHT[wrong.level]):
            return
        self.memory.put(key, wrong.level.value)
        yield self.voice.say(subject, wrong.values(age_ns), now_ns, level=wrong.level)


class Watcher:
    """Looks at messages for one rule; `sees` are the kinds that it wants. Overrides what it needs."""

    sees: tuple[type[Message], ...] = ()

    def see(self, message: AnyMessage, now_ns: int) -> Iterator[Report]:
        """Look at one message."""
        yield from ()

    def tick(self, now_ns: int) -> Iterator[Report]:
        """Look at the clock, about once a second."""
        yield from ()


def higher(level: AlertLevel) -> AlertLevel:
    """The next level, ERROR at most: what a rule says when its limit is not near but passed."""
    return LEVELS[min(WEIGHT[level] + 1, WEIGHT[AlertLevel.ERROR])] if level is not AlertLevel.CRITICAL else level


def quote_of(symbol: str) -> str:
    """USDT of BTC/USDT and of BTC/USDT:USDT."""
    return symbol.partition("/")[2].partition(":")[0]


def spelled(symbol: str) -> str:
    """The symbol of a rule as messages spell it."""
    return symbol.replace("_", "/").replace("-", "/").upper()
