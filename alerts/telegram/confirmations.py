"""One-time codes: what trades or loosens is done only when the same person says it twice in one chat (reference/faults.md T07).

Codes live in memory only, so a restart makes all of them void.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

from alerts.telegram.updates import Sender
from runtime.clock import monotonic_s

DIGITS = 6
MAX_WRONG = 3
LOCK_S = 300.0

A = TypeVar("A")


class NotConfirmed(Exception):
    """The code does nothing; the text says why, and is for the person who gave it."""


@dataclass(slots=True)
class _Pending(Generic[A]):
    """One question that waits. `message_id` is the message with its buttons, 0 until that was sent."""

    action: A
    code: str
    expires_s: float
    message_id: int = 0


class Confirmations(Generic[A]):
    """The open questions, at most one for each person and chat; a new one voids the one before."""

    def __init__(self, valid_s: float, clock: Callable[[], float] = monotonic_s) -> None:
        self.wrong = 0
        self._valid_s = valid_s
        self._clock = clock
        self._pending: dict[Sender, _Pending[A]] = {}
        self._wrong: dict[int, int] = {}
        self._locked: dict[int, float] = {}

    def ask(self, sender: Sender, action: A) -> str:
        """A fresh code for exactly this action; raises NotConfirmed while the person is locked out."""
        self._check_lock(sender)
        code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"
        self._pending[sender] = _Pending(action, code, self._clock() + self._valid_s)
        return code

    def shown(self, sender: Sender, code: str, message_id: int) -> None:
        """The message `message_id` bears the buttons of this question: a press below another one does nothing."""
        pending = self._pending.get(sender)
        if pending is not None and pending.code == code:
            pending.message_id = message_id

    def pending(self, sender: Sender) -> bool:
        """Whether a question waits for this person in this chat."""
        return sender in self._pending

    def redeem(self, sender: Sender, code: str, message_id: int = 0) -> A:
        """The action that this code confirms, once; raises NotConfirmed. `message_id` is the message whose button was pressed."""
        self._check_lock(sender)
        pending = self._pending.get(sender)
        if pending is None:
            raise NotConfirmed("there is nothing to confirm: send the command again")
        if self._clock() > pending.expires_s:
            del self._pending[sender]
            raise NotConfirmed(f"that code has expired after {self._valid_s:.0f} s: send the command again")
        if message_id and message_id != pending.message_id:
            raise NotConfirmed("that button belongs to an older question")
        if not hmac.compare_digest(code.encode(), pending.code.encode()):
            self._note_wrong(sender)
        del self._pending[sender]
        self._wrong.pop(sender.user_id, None)
        return pending.action

    def cancel(self, sender: Sender) -> bool:
        """Forget the open question; whether there was one."""
        return self._pending.pop(sender, None) is not None

    def _check_lock(self, sender: Sender) -> None:
        until_s = self._locked.get(sender.user_id, 0.0)
        if self._clock() < until_s:
            raise NotConfirmed(f"too many wrong codes: nothing can be confirmed for {until_s - self._clock():.0f} s")

    def _note_wrong(self, sender: Sender) -> NoReturn:
        self.wrong += 1
        wrong = self._wrong.get(sender.user_id, 0) + 1
        self._wrong[sender.user_id] = wrong
        if wrong < MAX_WRONG:
            raise NotConfirmed(f"wrong code; {MAX_WRONG - wrong} more and nothing can be confirmed for {LOCK_S:.0f} s")
        del self._wrong[sender.user_id]
        self._locked[sender.user_id] = self._clock() + LOCK_S
        for asked in [asked for asked in self._pending if asked.user_id == sender.user_id]:
            del self._pending[asked]
        raise NotConfirmed(f"{MAX_WRONG} wrong codes: nothing can be confirmed for {LOCK_S:.0f} s")
