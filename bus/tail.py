"""What happens to the entries of one stream on their way to a tail reader: decoded, copies dropped, losses told."""

from __future__ import annotations

import structlog

from bus.codec import decode, peek_message_id
from bus.delivery_times import DeliveryTimes
from bus.errors import CodecError
from bus.gaps import stream_gap
from bus.interfaces import TailHandler
from bus.sequences import COPY, JUMP, LATE, NEW, SequenceTracker
from common_models import Gap
from runtime.clock import now_ns

log = structlog.get_logger(__name__)

MISSED = "missed on the bus: trimmed before it was read, or lost with the server"


class Tail:
    """The position in one stream and the way from there into the handler.

    `position` is the id of the last entry handed over. Counts are totals since the start. `times`, where given, hears of the
    first message after each `begin_read`.
    """

    def __init__(self, name: str, position: str, times: DeliveryTimes | None = None) -> None:
        self.name = name
        self.position = position
        self.received = 0
        self.copies = 0
        self.missed = 0
        self.unreadable = 0
        self.handler_errors = 0
        self._tracker = SequenceTracker()
        self._last_pub_ns = 0
        self._times = times
        self._waiting_times: DeliveryTimes | None = None

    def begin_read(self) -> None:
        """What one read brought follows."""
        self._waiting_times = self._times

    def take(self, entry_id: str, body: bytes | None, handle: TailHandler) -> None:
        """Hand one entry over, preceded by a Gap when entries before it are missing."""
        self.position = entry_id
        self.received += 1
        try:
            message = decode(body if body is not None else b"")
        except CodecError as error:
            self._tell_unreadable(entry_id, body or b"", error, handle)
            return
        seen = self._tracker.observe(message.message_id)
        if seen != NEW:
            if seen == COPY or (seen == LATE and isinstance(message, Gap)):
                self.copies += 1
                return
            if seen == JUMP:
                self._tell_jump(message.ts_pub_ns, message if isinstance(message, Gap) else None, handle)
        self._last_pub_ns = message.ts_pub_ns
        if self._waiting_times is not None:
            self._waiting_times.note(self.name, message.ts_pub_ns)
            self._waiting_times = None
        try:
            handle(self.name, message)
        except Exception as error:  # noqa: BLE001 the boundary to code that is not ours
            self._note_handler_error(error)

    def restart(self, reason: str, handle: TailHandler) -> None:
        """The stream is not the one that we knew: read it from its start."""
        log.error("bus.stream_restarted", stream=self.name, position=self.position, reason=reason)
        self._tracker.forget()
        self.position = "0-0"
        self._tell(stream_gap(self.name, reason, from_ns=self._last_pub_ns, to_ns=now_ns()), handle)

    def _tell_jump(self, to_ns: int, own_gap: Gap | None, handle: TailHandler) -> None:
        """Messages are missing; when the producer's own gap message says just that, it is handed over instead of ours."""
        first, last, count = self._tracker.missing
        if own_gap is not None and own_gap.first_missing == first:
            self.missed += own_gap.count or count
            return
        self.missed += count
        log.warning("bus.entries_missed", stream=self.name, count=count, first=first, last=last)
        self._tell(
            stream_gap(self.name, MISSED, from_ns=self._last_pub_ns, to_ns=to_ns, first=first, last=last, count=count), handle
        )

    def _tell_unreadable(self, entry_id: str, body: bytes, error: CodecError, handle: TailHandler) -> None:
        self.unreadable += 1
        log.warning("bus.entry_unreadable", stream=self.name, entry_id=entry_id, error=str(error))
        message_id = peek_message_id(body)
        if message_id:
            self._tracker.observe(message_id)
        reason = f"an unreadable entry: {error}"
        self._tell(stream_gap(self.name, reason, from_ns=self._last_pub_ns, first=entry_id, last=entry_id, count=1), handle)

    def _tell(self, gap: Gap, handle: TailHandler) -> None:
        try:
            handle(self.name, gap)
        except Exception as error:  # noqa: BLE001 the boundary to code that is not ours
            self._note_handler_error(error)

    def _note_handler_error(self, error: Exception) -> None:
        """Count each; log the 1st, 10th, 100th ... with its trace, so that a handler that always fails cannot fill the disk."""
        self.handler_errors += 1
        if str(self.handler_errors).strip("0") == "1":
            log.error("bus.handler_failed", stream=self.name, entry_id=self.position, errors=self.handler_errors, exc_info=error)
