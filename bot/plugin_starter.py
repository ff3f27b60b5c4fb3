"""One version of a plugin file into a running worker and out again: start, take over, fall back, be ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from bot.isolation.protocol import Facts
from bot.isolation.workers import NurseryGone, PluginRefused, PluginSource, WorkerGone
from bot.plugin_feed import PluginFeed, Worker
from bot.plugin_handler import PluginHandler
from bot.plugin_registry import Known, PluginRegistry
from bot.plugin_slots import Host, PluginSlots, Slot
from common_models import AlertLevel, PluginMode, PluginState
from runtime.clock import monotonic_s
from runtime.settings import PluginSettings
from strategy import Market

log = structlog.get_logger(__name__)

PROBATION_S = 60.0
"""A version that misbehaves so soon after it took over gives the place back to the one before."""

_NAME = re.compile(rb"^\s+name\b[^=\n]*=\s*[\"']([a-z][a-z0-9_]{0,31})[\"']", re.MULTILINE)


class Workers(Protocol):
    """Where workers come from; `bot.isolation.workers.Nursery` is the real one.

    `on_lost` is called when all workers are gone at once, by no fault of a plugin.
    """

    on_lost: Callable[[], None] | None

    async def open(self, source: PluginSource, settings: Mapping[str, object], markets: tuple[Market, ...]) -> Worker:
        """A worker that has loaded the file; raises PluginRefused, WorkerGone, or NurseryGone when no plugin is to blame."""


class PluginStarter:
    """Starts and ends the plugins of slots. `want` asks for a file to be brought up to date, soon.

    Whatever a version does costs that version only: what ran before it goes on, and a person is told why.
    """

    def __init__(
        self,
        settings: Mapping[str, PluginSettings],
        slots: PluginSlots,
        handler: PluginHandler,
        registry: PluginRegistry,
        workers: Workers,
        host: Host,
        want: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._handler = handler
        self._registry = registry
        self._workers = workers
        self._host = host
        self._want = want
        self.tell_people = False
        """Whether starts are news: those of the first look at the folder are none."""

    # -- starting

    async def run(self, slot: Slot, source: PluginSource) -> None:
        """Run the file as it is now; when that cannot be, the version before it goes on. Raises NurseryGone."""
        slot.source = source
        self._registry.keep(source.code)
        quarantined = self._registry.quarantined(source.version)
        if quarantined:
            self.refuse(slot, f"{quarantined}; change the file or enable it to try again", misbehaved=True, known=True)
        elif await self._start(slot, source):
            return
        await self._fall_back(slot)
        if quarantined and slot.feed is None:  # the bot may have ended before it could close what was to be closed
            name = self._registry.name_of(slot.path)
            self.settle_positions(name, self._registry.when_gone(name))

    async def _fall_back(self, slot: Slot) -> None:
        """The file as it is now cannot run: the version that ran before it goes on, over a restart too."""
        version, reason = self._registry.version_of(slot.path), slot.reason
        if not version or version == slot.file_version or self._registry.quarantined(version):
            return
        code = await asyncio.to_thread(self._registry.read, version)
        if await self._start(slot, PluginSource(slot.path, code, version)):
            slot.reason = reason
            self._slots.tell(slot)

    async def _start(self, slot: Slot, source: PluginSource) -> bool:
        """Run this version as the settings and operators say, in place of what runs now; False when it cannot."""
        if slot.feed is not None and (slot.version, slot.mode) == (source.version, self.mode_of(slot.name)):
            self._slots.become(slot, PluginState.RUNNING)
            return True
        try:
            worker, facts = await self._open(source)
        except NurseryGone:
            raise
        except (PluginRefused, WorkerGone) as error:
            misbehaved = isinstance(error, WorkerGone)
            if misbehaved:
                self._registry.quarantine(source.version, str(error))
            self.refuse(slot, str(error), misbehaved=misbehaved)
            return False
        taken_by, mode = self._taken_by(slot, facts.name), self.mode_of(facts.name)
        if taken_by:
            await worker.stop()
            self.refuse(slot, f"{slot.path}: the name {facts.name!r} is taken by {taken_by}; choose another")
            return False
        if mode is PluginMode.OFF:
            await worker.stop()
            await self.end(slot)
            slot.name = facts.name
            self.end_troubles(slot)
            self._slots.become(slot, PluginState.DISABLED, self._why_off(facts.name))
            return True
        feed = PluginFeed(facts.name, worker, shadow=mode is PluginMode.SHADOW)
        worker.on_gone = lambda reason: self._gone(slot, feed, reason)
        self._host.plugin_wants(facts)
        if slot.feed is not None:
            return await self._take_over(slot, slot.feed, feed)
        self._handler.add(feed)
        self._adopt(slot, feed)
        self._slots.started(slot, replaced=False, tell_people=self.tell_people)
        return True

    async def _open(self, source: PluginSource) -> tuple[Worker, Facts]:
        """A worker with the settings of the plugin that is in the file; its name is known only once it is loaded."""
        found = _NAME.search(source.code)
        guess = found.group(1).decode() if found else ""
        worker = await self._workers.open(source, self._settings_of(guess).settings, self._handler.markets)
        name = worker.facts.name
        if name != guess and name in self._settings:
            await worker.stop()
            worker = await self._workers.open(source, self._settings_of(name).settings, self._handler.markets)
        return worker, worker.facts

    def _adopt(self, slot: Slot, feed: PluginFeed) -> None:
        """From now on this worker is the slot's plugin."""
        facts = feed.worker.facts
        slot.name, slot.feed, slot.since_s = facts.name, feed, monotonic_s()
        slot.mode = PluginMode.SHADOW if feed.shadow else PluginMode.LIVE
        if feed.worker.version == slot.file_version:
            self.end_troubles(slot)
        self._registry.note(facts.name, Known(slot.path, feed.worker.version, facts.when_gone))

    # -- taking over

    async def _take_over(self, slot: Slot, old: PluginFeed, new: PluginFeed) -> bool:
        """Warm the new version up beside the old one, hand the state over between two events, and end the old one.

        False, and the old one goes on without having missed an event, when the new one cannot.
        """
        new.muted = True
        self._handler.add(new)
        try:
            await new.worker.save()  # answered once it has read the past
            self._handler.hold(old, new)
            states = await self._state_of(slot, old)
            if states is not None:
                await new.worker.load(states)
        except NurseryGone:
            self._handler.remove(new)
            raise
        except (PluginRefused, WorkerGone) as error:
            self._handler.remove(new)
            await new.worker.stop()
            if slot.feed is old:
                self._handler.release(old)
            if new.worker.version != old.worker.version:
                self._registry.quarantine(new.worker.version, str(error))
            self.refuse(slot, f"version {new.worker.version} could not take over: {error}", misbehaved=True)
            return False
        self._handler.replace(old, new)
        self._host.opinions_void(old.name, None)
        slot.previous = old.worker.version
        self._adopt(slot, new)
        await old.worker.stop()
        if slot.feed is new:
            self._slots.started(slot, replaced=True, tell_people=self.tell_people)
        return True

    async def _state_of(self, slot: Slot, old: PluginFeed) -> bytes | None:
        """What the version before wants to be known; None when it has ended meanwhile or cannot say, which is told."""
        try:
            return await old.worker.save()
        except NurseryGone:
            raise
        except (PluginRefused, WorkerGone) as error:
            text = f"plugin {slot.name}: the changed file starts without the state of version {old.worker.version}: {error}"
            self._host.plugin_alert(AlertLevel.WARNING, "PLUGIN_STATE_LOST", text, slot.name)
            return None

    def _taken_by(self, slot: Slot, name: str) -> str:
        """The other file that has this name, if there is one: one that runs, or that had it first, in an earlier life too."""
        first = self._registry.known_path(name)
        if first != slot.path and first in self._slots.by_path:
            return first
        other = self._slots.named(name)
        return other.path if other is not None and other is not slot and other.feed is not None else ""

    # -- what is said of a plugin

    def mode_of(self, name: str) -> PluginMode:
        """What becomes of its signals: an operator's word, or the configuration's."""
        word = self._registry.word(name)
        return word.mode if word is not None else PluginMode(self._settings_of(name).mode)

    def _why_off(self, name: str) -> str:
        word = self._registry.word(name)
        return f"by {word.actor}: {word.reason}" if word is not None else "by the configuration"

    def _settings_of(self, name: str) -> PluginSettings:
        return self._settings.get(name, PluginSettings())

    # -- ending

    def refuse(self, slot: Slot, reason: str, *, misbehaved: bool = False, known: bool = False) -> None:
        """The file as it is now cannot run: a person is told, unless it is `known`. What runs goes on."""
        if slot.feed is not None:
            slot.reason = reason
            self._slots.tell(slot)
            text = f"plugin {slot.name}: version {slot.version} goes on, as the changed file cannot run: {reason}"
            code = "PLUGIN_ROLLED_BACK"
        else:
            self._slots.become(slot, PluginState.QUARANTINED if misbehaved else PluginState.BROKEN, reason)
            text, code = reason, "PLUGIN_QUARANTINED" if misbehaved else "PLUGIN_BROKEN"
        if not known:
            self._tell_trouble(slot, code, text)

    def _tell_trouble(self, slot: Slot, code: str, text: str) -> None:
        """Tell a person; that it is over is told as well, in a later life if need be."""
        self._host.plugin_alert(AlertLevel.ERROR, code, text, slot.name)
        try:
            self._registry.note_trouble(slot.path, code, slot.name)
        except OSError as error:
            log.error("plugin.trouble_not_durable", plugin=slot.name, code=code, reason=str(error))  # noqa: TRY400 a full disk

    def end_troubles(self, slot: Slot) -> None:
        """The file runs as it is, or shall not run, or is gone: what was told about it is over."""
        for code, name in self._registry.end_troubles(slot.path):
            self._host.plugin_alert(AlertLevel.INFO, code, f"plugin {name} ({slot.path}): over", name, resolves=True)

    async def end(self, slot: Slot) -> None:
        """End what runs, orderly."""
        feed = self.detach(slot)
        if feed is not None:
            await feed.worker.stop()

    def detach(self, slot: Slot) -> PluginFeed | None:
        """Let what runs take part no more, at once; returns it."""
        feed, slot.feed = slot.feed, None
        if feed is not None:
            self._handler.remove(feed)
            self._host.opinions_void(feed.name, None)
        return feed

    def settle_positions(self, name: str, when_gone: str) -> bool:
        """A plugin is gone: close what it wanted, if it said so. False while there is something to close: say it again then."""
        symbols = self._host.close_positions_of(name) if when_gone == "close" else []
        if symbols:
            text = f"plugin {name} is gone and said to close then: closing {', '.join(symbols)}"
            self._host.plugin_alert(AlertLevel.WARNING, "PLUGIN_POSITIONS_CLOSED", text, name)
        return not symbols

    def _gone(self, slot: Slot, feed: PluginFeed, reason: str) -> None:
        """A worker was ended for what it did, or ended itself."""
        self._handler.remove(feed)
        if slot.feed is not feed:
            return  # it was about to take over: who waits for it hears of it there
        self.detach(slot)
        version, facts = feed.worker.version, feed.worker.facts
        try:
            self._registry.quarantine(version, reason)
        except OSError as error:
            log.error("plugin.quarantine_not_durable", plugin=feed.name, version=version, reason=str(error))  # noqa: TRY400 a full disk
        previous, slot.previous = slot.previous, ""
        if previous and previous != version and monotonic_s() - slot.since_s < PROBATION_S:
            self._registry.note(feed.name, Known(slot.path, previous, facts.when_gone))
            text = f"plugin {feed.name}: version {version} {reason}; version {previous} goes on"
            self._tell_trouble(slot, "PLUGIN_ROLLED_BACK", text)
            self._want(slot.path)
            return
        self._slots.become(slot, PluginState.QUARANTINED, reason)
        text = f"plugin {feed.name} ({slot.path}, version {version}) was ended: {reason}"
        self._tell_trouble(slot, "PLUGIN_QUARANTINED", text)
        self.settle_positions(feed.name, facts.when_gone)
