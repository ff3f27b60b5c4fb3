"""Which updates were taken, on disk before anything is done about them: no command is carried out twice (reference/faults.md T02).

A process that dies in between leaves an entry without an end: the next one does not carry it out, and tells the sender.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import msgspec
import structlog

from runtime.append_log import AppendLog, read_records
from runtime.crash_points import crash_point

log = structlog.get_logger(__name__)

REMEMBERED = 2_000
REWRITE_AT = 6_000
"""Records after which the file is written anew with what is remembered."""

KEPT_BY_TELEGRAM_NS = 24 * 3600 * 1_000_000_000
"""How long Telegram keeps an update that nobody confirmed. After a week without any, ids begin anew at a random number."""

MAX_TEXT = 64


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """One command that was taken up: who said what, and when (our clock, UTC nanoseconds)."""

    update_id: int
    at_ns: int
    user_id: int
    chat_id: int
    text: str
    done: bool = False


class UpdateLog:
    """The updates taken so far, the newest REMEMBERED of them. Raises AppendLogError and OSError as AppendLog does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken: OrderedDict[int, Taken] = OrderedDict()
        self._newest_ns = 0
        self._records = 0
        for payload in read_records(path):
            self._remember(msgspec.json.decode(payload, type=Taken))
            self._records += 1
        self._log = AppendLog(path)

    @property
    def unfinished(self) -> list[Taken]:
        """Taken up and not ended."""
        return [taken for taken in self._taken.values() if not taken.done]

    def next_offset(self, now_ns: int) -> int:
        """Where to begin asking for updates: behind the last one taken, or at the start when ids may have begun anew."""
        if not self._taken or now_ns - self._newest_ns > KEPT_BY_TELEGRAM_NS:
            return 0
        return next(reversed(self._taken)) + 1

    def is_new(self, update_id: int, now_ns: int) -> bool:
        """Whether the update was not taken before. A lower id than the last one is a repeat, unless ids may have begun anew."""
        if update_id in self._taken:
            return False
        if not self._taken or update_id > next(reversed(self._taken)):
            return True
        return now_ns - self._newest_ns > KEPT_BY_TELEGRAM_NS

    def take(self, taken: Taken, *, durable: bool) -> None:
        """Write that this update is taken up now; `durable` also waits for the disk. Raises OSError, and then it is not taken."""
        self._append(msgspec.structs.replace(taken, text=taken.text[:MAX_TEXT]))
        if durable:
            self._log.sync()
        crash_point("telegram-taken")

    def end(self, update_id: int) -> None:
        """Write that what the update asked for was done, or refused."""
        crash_point("telegram-done")
        taken = self._taken.get(update_id)
        if taken is not None and not taken.done:
            self._append(msgspec.structs.replace(taken, done=True))
        crash_point("telegram-ended")

    def close(self) -> None:
        self._log.close()

    def _append(self, taken: Taken) -> None:
        self._log.append(msgspec.json.encode(taken))
        self._remember(taken)
        self._records += 1
        if self._records > REWRITE_AT:
            try:
                self._rewrite()
            except OSError as error:
                self._records = REWRITE_AT // 2  # the record is there; the next try comes later
                log.warning("telegram.update_log_grows", reason=str(error))

    def _remember(self, taken: Taken) -> None:
        known = taken.update_id in self._taken
        self._taken[taken.update_id] = taken
        self._newest_ns = max(self._newest_ns, taken.at_ns)
        if not known and len(self._taken) > REMEMBERED:
            self._taken.popitem(last=False)

    def _rewrite(self) -> None:
        """Keep the file small: a new one in its place, in one step."""
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with AppendLog(fresh, sync=True) as log:
            log.append_many([msgspec.json.encode(taken) for taken in self._taken.values()])
        fresh.replace(self._path)
        before, self._log = self._log, AppendLog(self._path)
        before.close()
        self._records = len(self._taken)
