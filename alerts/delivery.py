"""From the outbox to one channel: in order of urgency, no faster than allowed, again and again until it is taken.

An attempt is durable before it begins and its success right after, so that a killed process repeats at most what was in flight.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from alerts.durable_tables import DurableTables
from alerts.notification import Channel, RetryLater, Undeliverable
from alerts.outbox import Message, Outbox
from alerts.report import Report
from common_models import AlertLevel
from runtime.backoff import Backoff
from runtime.clock import monotonic_s, now_ns
from runtime.crash_points import crash_point
from runtime.metrics import expose_counter, expose_gauge

log = structlog.get_logger(__name__)

DELIVER_S = 60.0
"""A channel that has not answered by then has failed."""
DOWN_AFTER_S = 120.0
"""Failing for so long is being down: others are told, and take over what is urgent."""
REFUSED_CRITICAL_S = 300.0
"""A CRITICAL message that a channel refuses, and no other has, is offered again this often."""
MAX_MISTAKES = 5
"""So many failures of the channel's own code at a message are a refusal."""
STOP_GRACE_S = 3.0
MINUTE_S = 60.0
MAX_WAIT_S = 3600.0


class Pace:
    """At most so many messages in any minute; the last quarter of them is for CRITICAL ones.

    Half of them go at once, the others evenly spread: so in a storm what is urgent waits for seconds, not for the minute's end, and
    goes together with what came meanwhile.
    """

    def __init__(self, per_minute: int) -> None:
        self._all = per_minute
        self._ordinary = max(1, per_minute * 3 // 4)
        self._at_once = max(1, per_minute // 2)
        self._spread_s = MINUTE_S / max(1, per_minute - self._at_once)
        self._sent_s: deque[float] = deque(maxlen=per_minute)

    def wait_s(self, now_s: float, *, critical: bool) -> float:
        """How long the next message has to wait."""
        sent = len(self._sent_s)
        allowed = self._all if critical else self._ordinary
        free_s = self._sent_s[-allowed] + MINUTE_S if sent >= allowed else now_s
        if sent >= self._at_once and self._sent_s[-self._at_once] + MINUTE_S > now_s:
            free_s = max(free_s, self._sent_s[-1] + self._spread_s)
        return max(0.0, free_s - now_s)

    def note(self, now_s: float) -> None:
        """One is sent."""
        self._sent_s.append(now_s)


class Delivery:
    """Carries the messages of one channel. Counts are totals since the start."""

    def __init__(
        self, channel: Channel, outbox: Outbox, tables: DurableTables, per_minute: int, tell: Callable[[Report], None]
    ) -> None:
        self.name = channel.name
        self.delivered = self.failed = self.refused = 0
        self.trouble = ""
        self._channel = channel
        self._outbox = outbox
        self._tables = tables
        self._pace = Pace(per_minute)
        self._tell = tell
        self._failing_since_s: float | None = None
        self._told_down = False
        self._held_until_s: dict[int, float] = {}  # CRITICAL messages that were refused, by number
        self._alone: set[int] = set()  # refused together with others
        self._backoff = Backoff(first_s=1.0, cap_s=60.0)
        self._expose_metrics()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop`; what is not delivered then stays for the next start."""
        changed = self._outbox.changed[self.name]
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                changed.clear()
                messages, wait_s = self._next(monotonic_s())
                if messages and wait_s == 0.0:
                    await asyncio.wait({stopping}, timeout=await self._attempt_until(stopping, messages))
                    continue
                news = asyncio.ensure_future(changed.wait())  # something more urgent may come while we wait
                try:
                    await asyncio.wait({stopping, news}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
        finally:
            stopping.cancel()

    @property
    def detail(self) -> str:
        """How the channel does, for health."""
        waiting = self._outbox.waiting(self.name)
        return f"{self.trouble}; {waiting} messages wait" if self.trouble else f"{waiting} messages wait" if waiting else ""

    def _next(self, now_s: float) -> tuple[list[Message], float | None]:
        """What goes next and how long it has to wait; how long nothing can go (None: until something comes)."""
        self._held_until_s = {number: until_s for number, until_s in self._held_until_s.items() if until_s > now_s}
        messages = self._outbox.next(self.name, self._held_until_s, self._alone)
        if messages:
            return messages, self._pace.wait_s(now_s, critical=messages[0].critical)
        return messages, min(self._held_until_s.values()) - now_s if self._held_until_s else None

    async def _attempt_until(self, stopping: asyncio.Future[Any], messages: Sequence[Message]) -> float:
        """Try once; a stop waits only a moment for what is in flight, which may then come twice."""
        attempt = asyncio.ensure_future(self._attempt(messages))
        both: set[asyncio.Future[Any]] = {attempt, stopping}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({attempt}, timeout=STOP_GRACE_S)
            return attempt.result() if attempt.done() else 0.0
        finally:
            if not attempt.done():
                attempt.cancel()
                await asyncio.wait({attempt})

    async def _attempt(self, messages: Sequence[Message]) -> float:
        """Try once; returns how long to wait before the next message."""
        notification = self._outbox.compose(self.name, messages)
        self._outbox.begin(self.name, messages)
        self._commit()
        self._pace.note(monotonic_s())
        crash_point("alerts-before-delivery")
        try:
            async with asyncio.timeout(DELIVER_S):
                await self._channel.deliver(notification)
        except RetryLater as error:
            return self._note_failure(error.reason, error.after_s)
        except Undeliverable as error:
            return self._note_refusal(messages, error.reason)
        except TimeoutError:
            return self._note_failure(f"no answer within {DELIVER_S:.0f} s", None)
        except Exception as error:  # the boundary to a channel: its mistake must not end the others
            log.exception("alerts.channel_failed", channel=self.name)
            if messages[0].attempts[self.name] >= MAX_MISTAKES:
                return self._note_refusal(messages, f"{type(error).__name__} in the channel")
            return self._note_failure(f"{type(error).__name__} in the channel; see the log", None)
        crash_point("alerts-after-delivery")
        self.delivered += len(messages)
        self._alone.difference_update(message.number for message in messages)
        self._outbox.done(self.name, messages, now_ns())
        self._note_success()
        self._commit()
        return 0.0

    def _note_failure(self, reason: str, after_s: float | None) -> float:
        self.failed += 1
        self.trouble = reason
        now_s = monotonic_s()
        wait_s = self._backoff.next_s() if after_s is None else min(max(after_s, 0.0), MAX_WAIT_S)
        log.warning("alerts.delivery_failed", channel=self.name, reason=reason, wait_s=round(wait_s, 1))
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if now_s - self._failing_since_s >= DOWN_AFTER_S:
            moved = self._outbox.redirect(self.name)
            if not self._told_down or moved:
                log.error("alerts.channel_down", channel=self.name, reason=reason, moved=moved)
            if not self._told_down:
                self._told_down = True
                self._tell(self._down(f"{self.name} takes no messages: {reason}"))
            self._commit()
        return wait_s

    def _note_refusal(self, messages: Sequence[Message], reason: str) -> float:
        """The far side will never take it as it is: what was sent together is sent one by one, and then given up.

        A CRITICAL message that nobody else has is offered again, slowly.
        """
        self.trouble = f"refused: {reason}"
        log.error("alerts.refused", channel=self.name, reason=reason, numbers=[message.number for message in messages])
        if len(messages) > 1:
            self._alone.update(message.number for message in messages)
            return 0.0
        self.refused += 1
        [message] = messages
        self._alone.discard(message.number)
        if message.critical and not self._outbox.reached_elsewhere(self.name, messages):
            self._outbox.redirect(self.name)
            self._held_until_s[message.number] = monotonic_s() + REFUSED_CRITICAL_S
        else:
            self._outbox.done(self.name, messages, now_ns(), failure=f"refused: {reason}")
        self._commit()
        return 0.0

    def _note_success(self) -> None:
        self.trouble = ""
        self._failing_since_s = None
        self._backoff.reset()
        if self._told_down:
            self._told_down = False
            self._tell(self._down(f"{self.name} takes messages again", resolves=True))

    def _down(self, title: str, *, resolves: bool = False) -> Report:
        return Report(
            key=f"CHANNEL_DOWN|{self.name}",
            level=AlertLevel.ERROR,
            code="CHANNEL_DOWN",
            event="channel_down",
            title=title,
            ts_ns=now_ns(),
            category="system",
            source="alerts",
            resolves=resolves,
        )

    def _commit(self) -> None:
        """On a full disk messages still go out; a crash then repeats them."""
        try:
            self._tables.commit()
        except OSError as error:
            log.error("alerts.not_durable", reason=str(error))  # noqa: TRY400 expected: no traceback

    def _expose_metrics(self) -> None:
        labels = {"channel": self.name}
        totals = {
            "delivered": ("Notifications that the channel took", lambda: self.delivered),
            "failed": ("Attempts that failed", lambda: self.failed),
            "refused": ("Notifications that the channel will never take", lambda: self.refused),
            "dropped": ("Notifications dropped because too many waited", lambda: self._outbox.dropped[self.name]),
        }
        for name, (help_text, read) in totals.items():
            expose_counter(f"tradebot_alerts_{name}_total", help_text, labels, read)
        expose_gauge("tradebot_alerts_waiting", "Notifications in the outbox", labels, lambda: self._outbox.waiting(self.name))
        expose_gauge("tradebot_alerts_waiting_age_seconds", "Age of the oldest of them", labels, self._oldest_s)

    def _oldest_s(self) -> float:
        oldest_ns = self._outbox.oldest_ns(self.name)
        return 0.0 if oldest_ns is None else max(0.0, (now_ns() - oldest_ns) / 1e9)
