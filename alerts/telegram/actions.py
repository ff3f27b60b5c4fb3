"""Commands that do something: the emergency stop, pauses, plugins, cancels. What is answered is what was seen to happen.

The emergency stop is written to disk first, as by `tradebot halt`, so that it holds while the bus is away; other words go over the
bus alone. What loosens is not even tried while the bus is away: it must not take effect when nobody expects it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from alerts.telegram import processes
from alerts.telegram.bus_words import BusWords
from alerts.telegram.commands import Call, Effect
from alerts.telegram.history import History, HistoryAway
from alerts.telegram.markup import Line, bold, plain
from alerts.telegram.plugin_list import plugin_statuses
from alerts.telegram.wording import amount
from bus.errors import BusError
from bus.interfaces import Publisher
from common_models import ControlAction, OrderUpdate, PluginMode, PluginState
from postgres import queries
from runtime import emergency_stop
from runtime.clock import monotonic_s, now_ns
from runtime.crash_points import crash_point
from runtime.settings import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

EVIDENCE_S = 8.0
LOOK_EVERY_S = 0.5
FRESH_NS = 30_000_000_000
"""A plugin that has not been told of for so long is told of by nobody any more: the bot speaks every ten seconds."""
RESTING_S = 2.0
"""How long the answer to /stop waits for the number of open orders."""

Evidence = Callable[[], Awaitable[list[Line]]]
"""Waits, bounded, for what can be seen of an effect, and tells it."""


class NotDone(Exception):
    """Nothing was changed; the text says why."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What to do, who wants it, and why, for the record."""

    call: Call
    actor: str
    reason: str


class Actions:
    """Carries out what may change something. `carry_out` returns when the effect is on its way; the evidence comes later."""

    def __init__(self, settings: Settings, publisher: Publisher, history: History) -> None:
        self._settings = settings
        self._bus = BusWords(settings, publisher)
        self._history = history
        self._doing: dict[str, Callable[[_Request], Awaitable[Evidence]]] = {
            "stop": self._halt,
            "kill": self._kill,
            "resume_trading": self._release,
            "pause": partial(self._pause, ControlAction.PAUSE),
            "resume": partial(self._pause, ControlAction.CONTINUE),
            "disable": partial(self._switch, ControlAction.DISABLE),
            "shadow": partial(self._switch, ControlAction.SHADOW),
            "enable": self._enable,
        }

    async def check(self, call: Call) -> None:
        """Whether a call makes sense at all, before anybody is asked for a code; raises NotDone."""
        if call.command.name != "enable":
            return
        name = _plugin_of(call)
        try:
            known = await plugin_statuses(self._settings)
        except BusError as error:
            raise NotDone(str(error)) from error
        if name not in known:
            raise NotDone(f"there is no plugin {name}; there are {', '.join(known) or 'none'}")

    async def carry_out(self, call: Call, actor: str) -> Evidence:
        """Do it, and return what tells of the effect; raises NotDone."""
        if call.command.effect is Effect.LOOSENS and not await self._bus.reachable():
            raise NotDone("the bus is not reachable, so nothing was changed: send it again later")
        return await self._doing[call.command.name](_Request(call, actor, f"{call} by Telegram"))

    async def _halt(self, request: _Request) -> Evidence:
        halted = await self._press(request)

        async def evidence() -> list[Line]:
            return [*halted(), *plain(*(await self._resting()), "/kill cancels what rests, /resume_trading releases the stop.")]

        return evidence

    async def _press(self, request: _Request) -> Callable[[], list[Line]]:
        """Press the stop on the disk and by the bus, each whatever becomes of the other; returns what tells of it."""
        trouble = ""
        try:
            await asyncio.to_thread(emergency_stop.press, self._settings.home, request.reason, request.actor)
        except OSError as error:
            trouble = error.strerror or type(error).__name__
            log.exception("telegram.stop_not_written")
        crash_point("telegram-pressed")
        told = await self._bus.tell(ControlAction.HALT, request.actor, request.reason)

        def halted() -> list[Line]:
            here = processes.on_this_home(self._settings, "connector-")
            if here and emergency_stop.read(self._settings.home).pressed:
                bus = "All processes were told." if told else "The bus is away, so nobody else was told."
                return [bold("🛑 The emergency stop is pressed."), *plain(_PASSES, bus)]
            if told:
                seen = trouble or "no connector works on this home"
                return [bold("🛑 All processes were told to stop."), *plain(_PASSES, f"That they did is not seen: {seen}.")]
            words = ("The bus is away.", trouble, "Run `tradebot halt` where the connectors are.")
            return [bold("❌ Nobody was told to stop."), *plain(*filter(None, words))]

        return halted

    async def _kill(self, request: _Request) -> Evidence:
        halted = await self._press(request)
        asked, taken = await self._bus.cancel_everything(request.actor)

        async def evidence() -> list[Line]:
            if not asked:
                return [*halted(), *plain("No exchange is enabled, so there is nothing to cancel.")]
            if not taken:
                return [*halted(), *plain("❌ The bus is away: nothing was cancelled yet. What was asked expires in a minute.")]
            return [*halted(), *plain(f"{', '.join(asked)}: asked to cancel every open order.", *(await self._left_open()))]

        return evidence

    async def _release(self, request: _Request) -> Evidence:
        try:
            await asyncio.to_thread(emergency_stop.release, self._settings.home, request.actor)
        except OSError as error:
            raise NotDone(f"the stop could not be released: {error.strerror or error}") from error
        crash_point("telegram-released")
        told = await self._bus.tell(ControlAction.RESUME, request.actor, request.reason)

        async def evidence() -> list[Line]:
            state = emergency_stop.read(self._settings.home)
            if state.pressed:
                return plain(f"🛑 It is pressed again, by {state.actor}: {state.reason}")
            return [bold("▶️ The emergency stop is released."), *plain("All processes were told." if told else _UNTOLD)]

        return evidence

    async def _pause(self, action: ControlAction, request: _Request) -> Evidence:
        told = await self._bus.tell(action, request.actor, request.reason)
        pauses = action is ControlAction.PAUSE

        async def seen() -> bool:
            bot = await processes.ask(self._settings, "bot")
            return bot.answers and ("entries paused" in (bot.details or {}).get("trading", "")) is pauses

        async def evidence() -> list[Line]:
            if not told:
                return plain(_UNTOLD)
            if not await self._eventually(seen):
                return plain(f"Asked; the bot has not confirmed it within {EVIDENCE_S:.0f} s: /health")
            if pauses:
                return [bold("⏸ The bot enters nothing new."), *plain("Exits go on. /resume lets it enter again.")]
            return [bold("▶️ The bot enters again."), *plain(*self._still_pressed())]

        return evidence

    async def _enable(self, request: _Request) -> Evidence:
        live = len(request.call.arguments) > 1 and request.call.arguments[1].lower() == "live"
        return await self._switch(ControlAction.PROMOTE if live else ControlAction.ENABLE, request)

    async def _switch(self, action: ControlAction, request: _Request) -> Evidence:
        name = _plugin_of(request.call)
        told = await self._bus.tell(action, request.actor, request.reason, name)

        async def seen() -> str:
            status = (await plugin_statuses(self._settings)).get(name)
            told_lately = status is not None and now_ns() - status.ts_event_ns < FRESH_NS
            if status is None or not told_lately or not _shows(action, status.state, status.mode):
                return ""
            why = f" ({status.reason})" if status.reason else ""
            return f"{name} is {status.state}, {status.mode}{why}"

        async def evidence() -> list[Line]:
            if not told:
                return plain(_UNTOLD)
            words = await self._eventually(seen)
            return plain(f"✅ {words}" if words else f"Asked; no plugin {name} has followed within {EVIDENCE_S:.0f} s: /plugins")

        return evidence

    def _still_pressed(self) -> list[str]:
        pressed = emergency_stop.read(self._settings.home).pressed
        return ["The emergency stop is pressed all the same: /resume_trading releases it."] if pressed else []

    async def _resting(self) -> list[str]:
        try:
            async with asyncio.timeout(RESTING_S):
                orders = await self._history.ask(queries.open_orders)
        except (HistoryAway, TimeoutError):
            return ["Whether orders rest cannot be seen: the history is not reachable."]
        return [f"{len(orders)} orders are open."]

    async def _left_open(self) -> list[str]:
        """Which orders are open after a while, in words."""
        found: list[OrderUpdate] | None = None

        async def none_open() -> bool:
            nonlocal found
            await asyncio.sleep(LOOK_EVERY_S)  # for what is on its way to the history
            found = await self._history.ask(queries.open_orders)
            return not found

        await self._eventually(none_open)
        recorder = await processes.ask(self._settings, "recorder")
        if found is None:
            return ["What is left cannot be seen: the history is not reachable. /orders tries again."]
        if not recorder.ready:
            return ["⚠️ What is left cannot be told: the recorder is not ready, so the history may be old. /health, then /orders."]
        if not found:
            return ["✅ No order is open any more."]
        return [f"⚠️ {len(found)} orders still open after {EVIDENCE_S:.0f} s: /orders", *map(_words, found[:10])]

    async def _eventually(self, look: Callable[[], Awaitable[T]]) -> T | None:
        """The first result that is true, within EVIDENCE_S; looks that fail show nothing."""
        deadline_s = monotonic_s() + EVIDENCE_S
        while True:
            try:
                if result := await look():
                    return result
            except (HistoryAway, BusError) as error:
                log.debug("telegram.no_evidence", reason=str(error))
            if monotonic_s() > deadline_s:
                return None
            await asyncio.sleep(LOOK_EVERY_S)


_PASSES = "Nothing that adds risk is sent; cancels and exits pass."
_UNTOLD = "❌ The bus has not taken it yet: it is told when the bus is back. /health shows how the processes do."


def _plugin_of(call: Call) -> str:
    if not call.arguments:
        raise NotDone(f"which plugin? /{call.command.name} {call.command.usage}")
    return call.arguments[0]


def _shows(action: ControlAction, state: PluginState, mode: PluginMode) -> bool:
    """Whether a plugin is where the word wanted it."""
    match action:
        case ControlAction.DISABLE:
            return state is PluginState.DISABLED
        case ControlAction.SHADOW:
            return mode is PluginMode.SHADOW and state in (PluginState.RUNNING, PluginState.WARMING)
        case ControlAction.PROMOTE:
            return mode is PluginMode.LIVE and state in (PluginState.RUNNING, PluginState.WARMING)
        case _:
            return state in (PluginState.RUNNING, PluginState.WARMING)


def _words(order: OrderUpdate) -> str:
    return f"{order.side} {amount(order.quantity)} {order.symbol} on {order.exchange}: {order.status}"
