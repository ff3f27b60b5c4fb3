"""What can be written in config/alerts.yaml: one frozen model per kind of rule, every default stated here.

`text` is a template: `{symbol}` stands for a value, and VALUES says which there are for each kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from alerts.report import Switch
from common_models import AlertLevel, ControlAction, OrderStatus
from runtime.settings import Amount, Percent, Seconds, Section, SymbolText

Level = Literal["info", "warning", "error", "critical"]
Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,47}$")]
Code = Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]{0,63}$")]
Wait = Annotated[float, Field(ge=0, le=86_400)]
MAX_RULES = 500

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class Rule(Section):
    """What all rules have.

    `event` is the name in `alerts.notify` (the rule's own name when empty), `notify` what applies when that does not mention it.
    `cooldown_s` takes the place of `alerts.dedupe_s` for this rule.
    """

    VALUES: ClassVar[frozenset[str]] = frozenset()

    enabled: bool = True
    level: Level | None = "warning"
    category: str = "trading"
    event: str = Field("", pattern="^([a-z][a-z0-9_]{0,47})?$")
    notify: Switch = "on"
    cooldown_s: Wait | None = None
    text: str = Field("", max_length=500)

    @property
    def alert_level(self) -> AlertLevel:
        return AlertLevel(self.level or "warning")

    @field_validator("text")
    @classmethod
    def _known_values(cls, text: str) -> str:
        for name in _PLACEHOLDER.findall(text):
            if name not in cls.VALUES:
                raise ValueError(f"no value {{{name}}} in this kind of rule; there are: {', '.join(sorted(cls.VALUES))}")
        return text


def rendered(template: str, values: Mapping[str, str]) -> str:
    """The template with its placeholders filled; nothing but plain names is looked up."""
    return _PLACEHOLDER.sub(lambda found: values.get(found.group(1), ""), template)


class PriceRule(Rule):
    """The mid price crosses a line. It is told again after the price was `rearm_percent` on the other side."""

    VALUES = frozenset({"exchange", "symbol", "price", "direction", "limit"})
    kind: Literal["price"]
    category: str = "market_data"
    symbol: SymbolText
    exchange: str = ""  # empty: each that has the symbol
    above: Amount | None = None
    below: Amount | None = None
    rearm_percent: Percent = Decimal("0.5")
    text: str = "{symbol} is {direction} {limit}: {price} on {exchange}"

    @model_validator(mode="after")
    def _has_a_line(self) -> PriceRule:
        if self.above is None and self.below is None:
            raise ValueError("a price rule needs `above`, `below` or both")
        return self


class LastingRule(Rule):
    """A trouble that lasts: told when it has been there for `for_s`, and again when it is over."""

    for_s: Wait = 0.0


class DrawdownRule(LastingRule):
    """The equity in one quote currency (its balance and our positions at the mark) is `percent` below its highest ever seen."""

    VALUES = frozenset({"quote", "equity", "peak", "percent"})
    kind: Literal["drawdown"]
    level: Level = "error"
    category: str = "risk"
    quote: str = "USDT"
    percent: Percent = Decimal(5)
    for_s: Wait = 30.0
    text: str = "{quote} equity {equity} is {percent} % below its peak of {peak}"


class LimitRule(LastingRule):
    """A limit is used up to `at_percent`.

    `limit` is a count for open_trades (when absent, the bot's max_concurrent_trades), percent of the equity for exposure, and an
    amount of quote currency lost since midnight UTC for daily_loss.
    """

    VALUES = frozenset({"what", "quote", "value", "limit", "percent"})
    kind: Literal["limit"]
    category: str = "risk"
    of: Literal["open_trades", "exposure", "daily_loss"]
    quote: str = "USDT"
    limit: Amount | None = None
    at_percent: Percent = Decimal(80)
    for_s: Wait = 5.0
    text: str = "{what} at {percent} % of its limit: {value} of {limit}"

    @model_validator(mode="after")
    def _has_a_limit(self) -> LimitRule:
        if self.of != "open_trades" and not self.limit:
            raise ValueError(f"a limit of {self.of} needs `limit`")
        return self


class FeedRule(LastingRule):
    """A leg of a connector is not connected, or one of its subscriptions is silent."""

    VALUES = frozenset({"exchange", "account", "leg", "subject", "state", "reason", "age"})
    kind: Literal["stale_feed"]
    level: Level = "error"
    category: str = "market_data"
    for_s: Wait = 30.0
    text: str = "{exchange} {leg} {subject} is {state} for {age}: {reason}"


class GapRule(Rule):
    """Market data of one of the `streams` was missed and could not be fetched later."""

    VALUES = frozenset({"exchange", "symbol", "stream", "count", "reason"})
    kind: Literal["gap"]
    category: str = "market_data"
    streams: tuple[Literal["tickers", "daystats", "books", "candles", "trades"], ...] = ("trades", "candles")
    symbols: tuple[SymbolText, ...] = ()  # empty: all
    healed: bool = False  # whether gaps that were healed count too
    text: str = "{exchange} {symbol} {stream}: {count} missing: {reason}"


class OrderRule(Rule):
    """An order of ours came into one of these states."""

    VALUES = frozenset({"exchange", "symbol", "side", "quantity", "price", "status", "code", "reason", "order_id"})
    kind: Literal["order"]
    category: str = "orders"
    status: tuple[OrderStatus, ...] = (OrderStatus.REJECTED,)
    except_codes: tuple[str, ...] = ()
    text: str = "{side} {quantity} {symbol} on {exchange} {status}: {code} {reason}"


class UnknownOrderRule(LastingRule):
    """Nobody can say yet what became of an order."""

    VALUES = frozenset({"exchange", "symbol", "side", "quantity", "age", "order_id"})
    kind: Literal["unknown_order"]
    level: Level = "error"
    category: str = "orders"
    for_s: Wait = 30.0
    text: str = "{side} {quantity} {symbol} on {exchange} is UNKNOWN for {age}"


class DecisionRule(Rule):
    """The bot decided so (or denied it) with one of these codes, such as STORAGE_UNWRITABLE."""

    VALUES = frozenset({"exchange", "symbol", "direction", "verdict", "code", "reason", "strategy"})
    kind: Literal["decision"]
    codes: tuple[Code, ...] = Field(min_length=1)
    text: str = "{direction} {symbol} on {exchange} {verdict}: {code} {reason}"


class FillRule(Rule):
    """An order of the account was filled, wholly or in part."""

    VALUES = frozenset(
        {"exchange", "symbol", "side", "price", "quantity", "quote_quantity", "fee", "fee_asset", "strategy", "order_id"}
    )
    kind: Literal["fill"]
    level: Level = "info"
    external: bool = True  # whether fills of orders that are not ours count too
    text: str = "{side} {quantity} {symbol} at {price} on {exchange}, fee {fee} {fee_asset}"


class OpenedRule(Rule):
    """A strategy holds something that it did not hold before."""

    VALUES = frozenset({"exchange", "symbol", "quantity", "cost", "quote", "strategy"})
    kind: Literal["position_opened"]
    level: Level = "info"
    text: str = "opened {quantity} {symbol} on {exchange} for {cost} {quote}"


class ClosedRule(Rule):
    """A round trip ended; `min_loss` tells losses of that size only."""

    VALUES = frozenset({"exchange", "symbol", "quantity", "quote", "profit", "percent", "fees", "reason", "duration", "strategy"})
    kind: Literal["position_closed"]
    level: Level = "info"
    min_loss: Amount | None = None
    text: str = "closed {quantity} {symbol} on {exchange}: profit {profit} {quote} ({percent} %) after {duration}, {reason}"


class ControlRule(Rule):
    """A person or a guard said something to all processes."""

    VALUES = frozenset({"action", "actor", "reason", "target"})
    kind: Literal["control"]
    category: str = "risk"
    actions: tuple[ControlAction, ...] = (ControlAction.HALT, ControlAction.RESUME, ControlAction.PAUSE, ControlAction.CONTINUE)
    cooldown_s: Wait | None = 0.0
    text: str = "{action} {target} by {actor}: {reason}"


class AlertRule(Rule):
    """How alerts of these codes, which other processes raise, are told; without a `level` they keep theirs.

    `resolves` are the codes of troubles that they put an end to.
    """

    VALUES = frozenset({"text", "code", "source", "exchange", "symbol"})
    kind: Literal["alert"]
    codes: tuple[Code, ...] = Field(min_length=1)
    level: Level | None = None
    category: str = ""
    resolves: tuple[str, ...] = ()
    text: str = "{text}"


class RestartRule(Rule):
    """The supervisor brought a process back."""

    VALUES = frozenset({"process", "restarts", "reason"})
    kind: Literal["process_restarted"]
    category: str = "system"
    text: str = "{process} was started again (restart {restarts}): {reason}"


class DownRule(LastingRule):
    """A process of the stack is not ready."""

    VALUES = frozenset({"process", "state", "reason", "age"})
    kind: Literal["process_down"]
    level: Level = "error"
    category: str = "system"
    for_s: Wait = 20.0
    text: str = "{process} is {state} for {age}: {reason}"


class LagRule(LastingRule):
    """A consumer group is behind by so many entries."""

    VALUES = frozenset({"group", "stream", "entries"})
    kind: Literal["lag"]
    category: str = "system"
    entries: int = Field(5000, ge=1)
    groups: tuple[str, ...] = ()  # empty: all
    for_s: Wait = 15.0
    text: str = "{group} is {entries} entries behind on {stream}"


class DiskRule(LastingRule):
    """The disk of the home directory has less than `free_mb` left (when absent, twice supervisor.min_free_disk_mb)."""

    VALUES = frozenset({"path", "free_mb", "limit_mb"})
    kind: Literal["disk"]
    level: Level = "error"
    category: str = "system"
    free_mb: int | None = Field(None, ge=1)
    text: str = "{path} has {free_mb} MB free, less than {limit_mb}"


class DeadLetterRule(Rule):
    """A consumer gave up on a message."""

    VALUES = frozenset({"stream", "group", "error", "letter_id"})
    kind: Literal["dead_letter"]
    level: Level = "error"
    category: str = "system"
    text: str = "{group} gave up on a message of {stream}: {error}"


class MetricRule(LastingRule):
    """A figure of a local process' /metrics; series whose labels include `labels` are looked at one by one."""

    VALUES = frozenset({"process", "metric", "labels", "value", "comparison", "limit"})
    kind: Literal["metric"]
    category: str = "monitoring"
    process: str = Field(pattern="^[a-z0-9_*-]{1,64}$")  # * stands for anything
    metric: str = Field(pattern="^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    labels: dict[str, str] = Field(default_factory=dict)
    above: float | None = None
    below: float | None = None
    every_s: Seconds = 15.0
    text: str = "{process}: {metric} {labels} is {value}, {comparison} {limit}"

    @model_validator(mode="after")
    def _has_a_line(self) -> MetricRule:
        if (self.above is None) == (self.below is None):
            raise ValueError("a metric rule needs either `above` or `below`")
        return self


AnyRule = Annotated[
    PriceRule | DrawdownRule | LimitRule | FeedRule | GapRule | OrderRule | UnknownOrderRule | DecisionRule | FillRule | OpenedRule
    | ClosedRule | ControlRule | AlertRule | RestartRule | DownRule | LagRule | DiskRule | DeadLetterRule | MetricRule,
    Field(discriminator="kind"),
]  # fmt: skip


class RuleFile(Section):
    """The whole file: rules by name."""

    rules: dict[Name, AnyRule] = Field(default_factory=dict, max_length=MAX_RULES)

    @property
    def enabled(self) -> dict[str, Any]:
        """The rules that apply."""
        return {name: rule for name, rule in self.rules.items() if rule.enabled}
