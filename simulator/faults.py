"""What can be made to go wrong on purpose, at named points, counted and repeatable.

A rule names a point and an action; it applies to the requests that match, after skipping some, a number of times, with a
probability drawn from its own seeded generator. Rules are added by tests or over the control address `/simulator/faults`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


class FaultPoint(StrEnum):
    BEFORE_ENGINE = "before_engine"  # the request passed its first checks; nothing has happened yet
    BEFORE_REPLY = "before_reply"  # it has happened and is in the ledger; the answer has not left
    STREAM = "stream"  # a frame is about to be sent to a subscriber


class FaultAction(StrEnum):
    DELAY = "delay"  # for `delay_s`, then go on
    HANG = "hang"  # never answer, keep the connection
    DROP = "drop"  # leave out the answer or frame
    CLOSE = "close"  # close the connection without an answer
    ERROR = "error"  # answer with `status` and `body` instead


class FaultRule(msgspec.Struct, forbid_unknown_fields=True):
    """`operation` and `match` limit a rule to one operation (or stream) name and to requests whose text contains `match`."""

    point: FaultPoint
    action: FaultAction
    operation: str = ""
    match: str = ""
    skip: int = 0
    times: int = 1  # 0: without end
    probability: float = 1.0
    delay_s: float = 0.0
    status: int = 503
    body: str = ""


class ConnectionFault(Exception):
    """The connection is to be closed without an answer."""


class ReplyDropped(Exception):
    """The answer is not to be sent; the connection stays."""


class InjectedError(Exception):
    """Answer with this status and body instead of the real answer."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"injected status {status}")
        self.status = status
        self.body = body


@dataclass(slots=True)
class _Armed:
    rule: FaultRule
    random: random.Random
    seen: int = 0
    applied: int = 0


@dataclass(slots=True)
class Faults:
    """The fault programme of one simulator. Without rules it costs one truth test a request."""

    seed: int = 0
    _armed: list[_Armed] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._armed)

    def add(self, rule: FaultRule) -> None:
        self._armed.append(_Armed(rule, random.Random(f"{self.seed}:{len(self._armed)}")))  # noqa: S311 repeatable on purpose

    def clear(self) -> None:
        self._armed.clear()

    def report(self) -> list[dict[str, object]]:
        """Each rule with how many requests it saw and how many it changed."""
        return [{**msgspec.to_builtins(armed.rule), "seen": armed.seen, "applied": armed.applied} for armed in self._armed]

    def draw(self, point: FaultPoint, operation: str, text: str) -> FaultRule | None:
        """The rule that applies to this passage, if any."""
        for armed in self._armed:
            rule = armed.rule
            if rule.point is not point or (rule.operation and rule.operation != operation) or rule.match not in text:
                continue
            armed.seen += 1
            if armed.seen <= rule.skip or (rule.times and armed.applied >= rule.times):
                continue
            if armed.random.random() < rule.probability:
                armed.applied += 1
                return rule
        return None

    async def pass_point(self, point: FaultPoint, operation: str, text: str) -> None:
        """Go through a point of a request: returns, late or at once, or raises what shall happen instead."""
        rule = self.draw(point, operation, text) if self._armed else None
        if rule is None:
            return
        match rule.action:
            case FaultAction.DELAY:
                await asyncio.sleep(rule.delay_s)
            case FaultAction.HANG:
                await asyncio.Event().wait()
            case FaultAction.DROP:
                raise ReplyDropped
            case FaultAction.CLOSE:
                raise ConnectionFault
            case FaultAction.ERROR:
                raise InjectedError(rule.status, rule.body)
