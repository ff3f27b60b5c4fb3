"""What still has to be delivered: one queue per channel over durable messages, the most urgent first."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from itertools import accumulate, islice

import msgspec

from alerts.durable_tables import DurableTables
from alerts.figures import shortened
from alerts.notification import Notification
from alerts.report import WEIGHT
from common_models import AlertLevel

MAX_WAITING = 500
"""Messages below CRITICAL that wait for one channel; beyond, the oldest are dropped, counted and told."""
MAX_CRITICAL = 5_000
"""CRITICAL messages that wait for one channel; beyond, a further one is told by its number only. All are listed as open alerts."""
JOIN_FROM = 4
"""So many messages that wait are sent as one."""
JOIN_AT_MOST = 25
LINE_CHARACTERS = 130
JOINED_CHARACTERS = 2400
"""What each channel takes in one message for certain, its own marks included."""
MAX_RECEIPTS = 5_000


class Message(msgspec.Struct, kw_only=True):
    """One message on its way. `weight` is the level that decides which channels want it (a resolution goes where the alert went).

    `waiting` are the channels that have not taken it, `reached` those that have; `attempts` counts by channel.
    """

    number: int
    level: AlertLevel
    weight: AlertLevel
    event: str
    title: str
    text: str = ""
    silent: bool = False
    key: str = ""
    alert_id: str = ""
    created_ns: int
    waiting: list[str]
    reached: list[str] = []
    attempts: dict[str, int] = {}

    @property
    def critical(self) -> bool:
        return self.weight is AlertLevel.CRITICAL


class Receipt(msgspec.Struct, kw_only=True):
    """What became of one message at one channel: `outcome` is delivered, or why it never will be."""

    number: int
    channel: str
    level: AlertLevel
    event: str
    title: str
    alert_id: str
    created_ns: int
    done_ns: int
    attempts: int
    outcome: str


class Outbox:
    """Messages and receipts of all channels. Changes are durable with the next `tables.commit()`.

    `channels` gives the lowest level that each channel wants, in the order in which they stand in for each other.
    """

    def __init__(self, tables: DurableTables, channels: Mapping[str, AlertLevel]) -> None:
        self.channels = channels
        self.changed = {name: asyncio.Event() for name in channels}
        self.dropped: Counter[str] = Counter()
        self._messages = tables.table("messages", Message)
        self._receipts = tables.table("receipts", Receipt)
        self._numbers = tables.table("numbers", int)
        self._untold = tables.table("dropped", int)  # dropped by channel and not told yet
        self._telling: dict[str, int] = {}
        self._queues: dict[str, dict[bool, dict[int, None]]] = {name: {True: {}, False: {}} for name in channels}

    def start(self) -> None:
        """Take up what was there at the last end; CRITICAL messages of a channel that is gone go to the others."""
        for message in list(self._messages.rows.values()):
            gone = [name for name in message.waiting if name not in self.channels]
            if gone:
                message.waiting = [name for name in message.waiting if name in self.channels]
                if message.critical and not message.waiting and not message.reached:
                    message.waiting = list(self.channels)
                self._keep(message)
            for name in message.waiting:
                self._queue(name, message)

    def put(self, message: Message, *, everywhere: bool = False) -> None:
        """Queue a message for the channels that want its weight (`everywhere`: for all); `number` is given here."""
        wanted = WEIGHT[message.weight]
        message.waiting = [name for name, least in self.channels.items() if everywhere or wanted >= WEIGHT[least]]
        if not message.waiting:
            return
        message.number = (self._numbers.get("message") or 0) + 1
        self._numbers.put("message", message.number)
        self._keep(message)
        for name in list(message.waiting):
            self._queue(name, message)
            self._bound(name)

    def next(self, channel: str, held: Container[int] = (), alone: Container[int] = ()) -> list[Message]:
        """What to send next: nothing, one message, or several that are sent as one because many wait.

        Numbers in `held` are left out for now, those in `alone` are sent by themselves.
        """
        for critical in (True, False):
            queue = self._queues[channel][critical]
            ready = [self._message(number) for number in islice((each for each in queue if each not in held), JOIN_AT_MOST)]
            if ready:
                return ready[:1] if len(ready) < JOIN_FROM or ready[0].number in alone else _fitting(ready)
        return []

    def begin(self, channel: str, messages: Sequence[Message]) -> None:
        """An attempt starts."""
        for message in messages:
            message.attempts = {**message.attempts, channel: message.attempts.get(channel, 0) + 1}
            self._keep(message)

    def done(self, channel: str, messages: Sequence[Message], now_ns: int, failure: str = "") -> None:
        """The channel has taken the messages, or (`failure`) never will."""
        for message in messages:
            self._unqueue(channel, message)
            if not failure:
                message.reached = [*message.reached, channel]
            self._receipt(channel, message, now_ns, failure or "delivered")
            self._keep(message)
        if not failure and (untold := self._untold.get(channel)):
            self._untold.put(channel, untold - self._telling.pop(channel, 0))

    def redirect(self, channel: str) -> int:
        """ERROR and CRITICAL messages that wait for a channel which is down go to the others as well; returns how many."""
        moved = 0
        for queue in self._queues[channel].values():
            for message in [self._message(number) for number in queue]:
                others = [name for name in self.channels if name not in message.waiting and name not in message.reached]
                if others and WEIGHT[message.weight] >= WEIGHT[AlertLevel.ERROR]:
                    message.waiting = [*message.waiting, *others]
                    self._keep(message)
                    moved += 1
                    for name in others:
                        self._queue(name, message)
        return moved

    def reached_elsewhere(self, channel: str, messages: Sequence[Message]) -> bool:
        """Whether each of them has reached somebody, or will by another channel."""
        return all(message.reached or any(name != channel for name in message.waiting) for message in messages)

    def compose(self, channel: str, messages: Sequence[Message]) -> Notification:
        """The notification of one message, or of several in one; says how many were dropped before."""
        head = messages[0]
        untold = self._telling[channel] = self._untold.get(channel) or 0
        notes = [f"({untold} older messages were dropped: too many waited for {channel})"] if untold else []
        if len(messages) == 1:
            title, body, event, key, alert_id = head.title, head.text, head.event, head.key, head.alert_id
        else:
            left = len(self._queues[channel][head.critical]) - len(messages)
            title = f"{len(messages)} messages" if not head.critical else f"{len(messages)} CRITICAL alerts"
            notes += [f"... and {left} more to come"] if left > 0 else []
            body, event, key, alert_id = "\n".join(map(_line, messages)), "several", "several", ""
        return Notification(
            number=head.number,
            level=max((message.level for message in messages), key=WEIGHT.__getitem__),
            event=event,
            title=title,
            text="\n".join(filter(None, (body, *notes))),
            silent=all(message.silent for message in messages),
            key=key,
            alert_id=alert_id,
            created_ns=head.created_ns,
        )

    def waiting(self, channel: str) -> int:
        return sum(map(len, self._queues[channel].values()))

    def oldest_ns(self, channel: str) -> int | None:
        """When the message was made that waits longest; None when none waits."""
        heads = [next(iter(queue)) for queue in self._queues[channel].values() if queue]
        return min((self._message(number).created_ns for number in heads), default=None)

    @property
    def receipts(self) -> Mapping[str, Receipt]:
        """What became of messages, until `forget_receipts`."""
        return self._receipts.rows

    def forget_receipts(self, keys: Sequence[str]) -> None:
        """They are stored elsewhere."""
        for key in keys:
            self._receipts.drop(key)

    def _message(self, number: int) -> Message:
        return self._messages.rows[str(number)]

    def _keep(self, message: Message) -> None:
        if message.waiting:
            self._messages.put(str(message.number), message)
        else:
            self._messages.drop(str(message.number))

    def _queue(self, channel: str, message: Message) -> None:
        self._queues[channel][message.critical][message.number] = None
        self.changed[channel].set()

    def _unqueue(self, channel: str, message: Message) -> None:
        self._queues[channel][message.critical].pop(message.number, None)
        message.waiting = [name for name in message.waiting if name != channel]

    def _bound(self, channel: str) -> None:
        for critical, most in ((True, MAX_CRITICAL), (False, MAX_WAITING)):
            queue = self._queues[channel][critical]
            if len(queue) > most:  # the newest CRITICAL is counted in the others' stead, of the rest the oldest goes
                message = self._message(next(reversed(queue)) if critical else next(iter(queue)))
                self._unqueue(channel, message)
                self._keep(message)
                self.dropped[channel] += 1
                self._untold.put(channel, (self._untold.get(channel) or 0) + 1)

    def _receipt(self, channel: str, message: Message, now_ns: int, outcome: str) -> None:
        receipt = Receipt(
            number=message.number,
            channel=channel,
            level=message.level,
            event=message.event,
            title=message.title,
            alert_id=message.alert_id,
            created_ns=message.created_ns,
            done_ns=now_ns,
            attempts=message.attempts.get(channel, 0),
            outcome=outcome,
        )
        self._receipts.put(f"{message.number}/{channel}", receipt)
        if len(self._receipts.rows) > MAX_RECEIPTS:  # the database has been away for long: the oldest are given up
            self._receipts.drop(next(iter(self._receipts.rows)))


def _fitting(messages: Sequence[Message]) -> list[Message]:
    """As many of the first ones as one message may hold."""
    sizes = accumulate(len(_line(message)) + 1 for message in messages)
    return [message for message, size in zip(messages, sizes, strict=True) if size <= JOINED_CHARACTERS]


def _line(message: Message) -> str:
    """One message as a line among others."""
    text = f"{message.level.upper()} {shortened(message.title, LINE_CHARACTERS)}"
    return f"{text} [{message.alert_id}]" if message.alert_id else text
