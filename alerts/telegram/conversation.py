"""From an update to what is done about it: who asks, whether it is new and fresh enough, what guards it, and the answer.

What changes something is done in the order in which it was said. Reading, asking and answering run in tasks of their own, so that a
slow history delays no /stop.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

from alerts.interfaces import AlertDesk, NoSuchAlert
from alerts.telegram.access import Access
from alerts.telegram.actions import Actions, Evidence, NotDone
from alerts.telegram.answer import Answer, Reader
from alerts.telegram.api import BotApi, BotUser, TelegramError
from alerts.telegram.commands import BY_NAME, Call, Effect, NotUnderstood, parse
from alerts.telegram.confirmations import DIGITS, Confirmations, NotConfirmed
from alerts.telegram.history import HistoryAway
from alerts.telegram.markup import plain
from alerts.telegram.replies import Replies
from alerts.telegram.task_pool import TaskPool
from alerts.telegram.update_log import Taken, UpdateLog
from alerts.telegram.updates import ButtonPress, Ignored, Sender, TextMessage, read_update
from alerts.telegram.wording import clock as clock_of
from alerts.telegram.wording import lasting
from bus.errors import BusError
from runtime.clock import now_ns
from runtime.settings import TelegramSettings

log = structlog.get_logger(__name__)

CONFIRM, CANCEL = BY_NAME["confirm"], BY_NAME["cancel"]
_CODE = re.compile(rf"\d{{{DIGITS}}}")
OUTCOMES = ("done", "asked", "denied", "refused", "stale", "replayed", "ignored", "unknown", "failed")


class Conversation:
    """Handles one update after the other. `outcomes` counts what became of them; nothing that comes in makes it raise."""

    def __init__(
        self,
        settings: TelegramSettings,
        api: BotApi,
        updates: UpdateLog,
        actions: Actions,
        readers: Mapping[str, Reader],
        desk: AlertDesk,
        pool: TaskPool,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self.replies = Replies(api)
        self._settings = settings
        self._api = api
        self._updates = updates
        self._actions = actions
        self._readers = readers
        self._desk = desk
        self._pool = pool
        self._clock = clock
        self._access = Access(settings)
        self._confirmations: Confirmations[Call] = Confirmations(settings.confirm_s)

    async def handle(self, raw: Any, me: BotUser) -> None:
        """Do what one element of getUpdates asks for, if anything."""
        incoming = read_update(raw, me.id)
        if isinstance(incoming, Ignored):
            self.outcomes["ignored"] += 1
            log.debug(
                "telegram.ignored", update_id=incoming.update_id, reason=incoming.reason
            )  # anybody can cause as many as they like
            return
        if self._access.role_of(incoming.sender) is None:
            self.outcomes["denied"] += 1
            return
        if not self._updates.is_new(incoming.update_id, self._clock()):
            self._count("replayed", incoming.update_id, "taken before")
            return
        try:
            if isinstance(incoming, TextMessage):
                await self._text(incoming, me)
            else:
                await self._press(incoming)
        except Exception:  # the boundary: one update must not end the conversation
            self.outcomes["failed"] += 1
            log.exception("telegram.update_failed", update_id=incoming.update_id)
            self._say(incoming.sender, "That failed; the log of the alerts process says why.")

    def tell_unfinished(self) -> None:
        """Name the commands that a process before us took up and did not end, to those who gave them."""
        by_chat: dict[Sender, list[Taken]] = {}
        for taken in self._updates.unfinished:
            by_chat.setdefault(Sender(taken.user_id, taken.chat_id, taken.chat_id == taken.user_id), []).append(taken)
        for sender, unfinished in by_chat.items():
            self._in_background(self._tell_unfinished(sender, unfinished))

    async def _tell_unfinished(self, sender: Sender, unfinished: list[Taken]) -> None:
        if self._access.role_of(sender) is not None:
            words = [f"{taken.text} ({clock_of(taken.at_ns)} UTC)" for taken in unfinished]
            lines = plain(
                "⚠️ Received before a restart, and not carried out to its end:",
                *words,
                "It is not repeated by itself: look at /status, then send again what you still want.",
            )
            if not await self.replies.send(sender.chat_id, Answer(lines)):
                return  # the next start tells it
        for taken in unfinished:
            self._end(taken.update_id)

    async def _text(self, message: TextMessage, me: BotUser) -> None:
        sender = message.sender
        try:
            call = parse(message.text, me.username)
        except NotUnderstood as error:
            self._count("unknown", message.update_id, str(error))
            self._say(sender, f"I do not know {error}. /help names what I know.")
            return
        if call is None and _CODE.fullmatch(message.text.strip()) and self._confirmations.pending(sender):
            call = Call(CONFIRM, (message.text.strip(),))
        if call is None:
            self._count("unknown", message.update_id, "no command")
            if sender.private:
                self._say(sender, "I understand commands only: /help names them.")
            return
        if self._allowed(sender, call, message.update_id):
            await self._obey(message, call)

    async def _obey(self, message: TextMessage, call: Call) -> None:
        sender, update_id = message.sender, message.update_id
        if call.command is CONFIRM:
            if not self._is_stale(message):
                await self._confirmed(sender, update_id, call.arguments[0] if call.arguments else "")
        elif call.command is CANCEL:
            self._say(sender, "Forgotten." if self._confirmations.cancel(sender) else "There was no question.")
        elif call.command.effect is Effect.STOPS:
            await self._do(sender, update_id, call)
        elif call.command.effect is Effect.LOOSENS:
            if not self._is_stale(message):
                self._in_background(self._ask(sender, call))
        elif call.command.effect is Effect.NOTES:
            self._note(sender, update_id, call)
        else:
            self._take(sender, update_id, call)
            if not self._pool.start(self._read(sender, update_id, call), spare=True):
                self._count("failed", update_id, "too many questions at once")
                self._end(update_id)

    async def _press(self, press: ButtonPress) -> None:
        """A button below a question of ours: yes or no."""
        answer, _, code = press.data.partition(":")
        self._in_background(self._acknowledge(press.query_id))
        if answer == "yes":
            await self._confirmed(press.sender, press.update_id, code, press.message_id)
        elif answer == "no":
            self._say(press.sender, "Forgotten." if self._confirmations.cancel(press.sender) else "There was no question.")
        else:
            self._count("unknown", press.update_id, "a button that is not ours")

    def _allowed(self, sender: Sender, call: Call, update_id: int) -> bool:
        role = self._access.role_of(sender)
        if role is not None and role >= call.command.role:
            return True
        self._count("refused", update_id, f"{call.command.name} takes role {call.command.role.label}")
        mine = role.label if role is not None else "nobody"
        self._say(sender, f"/{call.command.name} is for {call.command.role.label}s; you are {mine} here.")
        return False

    def _is_stale(self, message: TextMessage) -> bool:
        """Whether a message is too old for something that trades or loosens; the sender is told."""
        age_s = self._clock() / 1e9 - message.date_s
        if age_s <= self._settings.max_command_age_s:
            return False
        self._count("stale", message.update_id, f"{age_s:.0f} s old")
        self._say(message.sender, f"That message is {lasting(age_s)} old, so nothing was done: send it again if you still want it.")
        return True

    async def _ask(self, sender: Sender, call: Call) -> None:
        """Ask for the code of something that loosens."""
        try:
            await self._actions.check(call)
            code = self._confirmations.ask(sender, call)
        except (NotDone, NotConfirmed) as error:
            self.outcomes["refused"] += 1
            self._say(sender, str(error))
            return
        self.outcomes["asked"] += 1
        typed = code if sender.private else f"/confirm {code}"  # in a group a bot sees commands only
        lines = plain(f"{call}: {call.command.summary}.", f"Do it? Press, or send {typed} within {self._settings.confirm_s:.0f} s.")
        buttons = (("✅ yes", f"yes:{code}"), ("✖️ no", f"no:{code}"))
        message_id = await self.replies.send(sender.chat_id, Answer(lines), buttons)
        self._confirmations.shown(sender, code, message_id)

    async def _confirmed(self, sender: Sender, update_id: int, code: str, message_id: int = 0) -> None:
        try:
            call = self._confirmations.redeem(sender, code, message_id)
        except NotConfirmed as error:
            self._count("refused", update_id, "not confirmed")
            self._say(sender, f"Not done: {error}.")
            return
        if self._allowed(sender, call, update_id):
            await self._do(sender, update_id, call)

    async def _do(self, sender: Sender, update_id: int, call: Call) -> None:
        """Carry out what changes something, at most once: it is on disk before."""
        taken = self._take(sender, update_id, call, durable=True)
        if not taken and call.command.effect is not Effect.STOPS:  # stopping twice is stopping; loosening twice is not
            self._say(sender, "Not done: the disk does not take the record of it. `tradebot doctor` says more.")
            return
        try:
            evidence = await self._actions.carry_out(call, f"telegram:{sender.user_id}")
        except NotDone as error:
            self._count("refused", update_id, str(error))
            self._say(sender, f"Not done: {error}.")
        else:
            self.outcomes["done"] += 1
            log.warning("telegram.carried_out", command=str(call), user_id=sender.user_id, chat_id=sender.chat_id)
            self._in_background(self._tell_evidence(sender, evidence))
        self._end(update_id)

    async def _tell_evidence(self, sender: Sender, evidence: Evidence) -> None:
        await self.replies.send(sender.chat_id, Answer(await evidence()))

    def _note(self, sender: Sender, update_id: int, call: Call) -> None:
        """Acknowledge or resolve an alert."""
        if not call.arguments:
            self._say(sender, f"Which alert? /{call.command.name} {call.command.usage}, or /alerts.")
            return
        self._take(sender, update_id, call)
        note = self._desk.acknowledge if call.command.name == "ack" else self._desk.resolve
        try:
            state = note(call.arguments[0], f"telegram:{sender.user_id}")
        except NoSuchAlert:
            self._say(sender, f"There is no open alert {call.arguments[0]}: /alerts lists them.")
        else:
            self.outcomes["done"] += 1
            self._say(sender, f"{state.title}: {state.phase}.")
        self._end(update_id)

    async def _read(self, sender: Sender, update_id: int, call: Call) -> None:
        """Answer a question; one that cannot be answered is told so."""
        outcome = "done"
        try:
            answer = await self._readers[call.command.name](call)
        except (HistoryAway, BusError) as error:
            answer = Answer(plain(f"{call}: {error}."))
        except Exception:  # the boundary to many sources: the sender hears of it, the log has the trace
            outcome = "failed"
            log.exception("telegram.answer_failed", command=str(call))
            answer = Answer(plain(f"{call} failed; the log of the alerts process says why."))
        await self.replies.send(sender.chat_id, answer)
        self.outcomes[outcome] += 1
        self._end(update_id)

    def _take(self, sender: Sender, update_id: int, call: Call, *, durable: bool = False) -> bool:
        """Record that this is taken up; False when the disk refuses."""
        taken = Taken(update_id=update_id, at_ns=self._clock(), user_id=sender.user_id, chat_id=sender.chat_id, text=str(call))
        return self._written(lambda: self._updates.take(taken, durable=durable))

    def _end(self, update_id: int) -> None:
        """Record the end. Where the disk refuses, the command is told after the next restart, and not repeated."""
        self._written(lambda: self._updates.end(update_id))

    @staticmethod
    def _written(write: Callable[[], None]) -> bool:
        try:
            write()
        except OSError as error:
            log.error("telegram.unwritable", reason=str(error))  # noqa: TRY400 expected when a disk is full
            return False
        return True

    async def _acknowledge(self, query_id: str) -> None:
        try:
            await self._api.answer_callback_query(query_id)
        except TelegramError as error:
            log.info("telegram.button_not_answered", reason=str(error))

    def _say(self, sender: Sender, text: str) -> None:
        self._in_background(self._send(sender, text))

    async def _send(self, sender: Sender, text: str) -> None:
        await self.replies.send(sender.chat_id, Answer(plain(text)))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        if not self._pool.start(work):
            log.warning("telegram.reply_dropped", reason="too many at once")

    def _count(self, outcome: str, update_id: int, reason: str) -> None:
        self.outcomes[outcome] += 1
        log.info("telegram.no_effect", outcome=outcome, update_id=update_id, reason=reason)
