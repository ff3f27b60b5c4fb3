"""From a file in the folder to a running plugin and back: new, changed, broken, mended, removed, quarantined, on and off."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Protocol

import structlog

from bot.isolation.protocol import Facts
from bot.isolation.source import read_source
from bot.isolation.workers import NurseryGone, PluginRefused, PluginSource, WorkerGone
from bot.plugin_feed import PluginFeed, Worker
from bot.plugin_folder import PluginFolder
from bot.plugin_handler import PluginHandler
from bot.plugin_registry import Known, PluginRegistry
from bot.plugin_slots import Host, PluginSlots, Slot
from common_models import AlertLevel, Control, ControlAction, PluginMode, PluginState
from runtime.clock import monotonic_s
from runtime.settings import BotSettings, PluginSettings
from strategy import Market

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.3
BEAT_EVERY_S = 2.0
TELL_EVERY_S = 10.0
PROBATION_S = 60.0
"""A version that misbehaves so soon after it took over gives the place back to the one before."""
NURSERY_PAUSE_S = 1.0
"""Between attempts to have a worker made while nobody makes any."""
AT_ONCE = 4
"""Files that are loaded at the same time."""

_NAME = re.compile(rb"^\s+name\b[^=\n]*=\s*[\"']([a-z][a-z0-9_]{0,31})[\"']", re.MULTILINE)


class Workers(Protocol):
    """Where workers come from; `bot.isolation.workers.Nursery` is the real one."""

    async def open(self, source: PluginSource, settings: Mapping[str, object], markets: tuple[Market, ...]) -> Worker:
        """A worker that has loaded the file; raises PluginRefused or WorkerGone."""


class PluginLifecycle:
    """Watches the folder and keeps a worker for every file that may run; whatever a file does, it costs that file only.

    Each file is worked on by one task at a time. A changed file is loaded and warmed up beside the running version, and takes over
    between two events; when anything fails on the way, the running version goes on and a person is told.
    """

    def __init__(
        self,
        settings: BotSettings,
        handler: PluginHandler,
        registry: PluginRegistry,
        workers: Workers,
        host: Host,
        clock: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._registry = registry
        self._workers = workers
        self._host = host
        self._clock = clock
        self._folder = PluginFolder(settings.plugins_dir)
        self._dirty: set[str] = set()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._tasks: asyncio.TaskGroup | None = None
        self._told_s = self._beat_s = 0.0
        self.slots = PluginSlots(handler.markets, host, clock)
        self.loaded = False
        self._stopping = False

    # -- running

    async def run(self, tasks: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        """Load what is in the folder, follow it and ask every plugin how it is, until `stop` is set; then end the workers."""
        await self.load(tasks)
        while not stop.is_set():
            await self._look()
            self._keep_in_touch()
            try:
                await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)
            except TimeoutError:
                continue
        self._stopping = True
        await self._idle()
        for slot in self.slots.by_path.values():
            await self._end(slot)

    async def load(self, tasks: asyncio.TaskGroup) -> None:
        """Take in what is in the folder now, and wait until each file runs or is known not to; later work is done by `tasks`."""
        self._tasks = tasks
        for path in tuple(self._dirty):
            self._want(path)
        await self._look()
        await self._idle()
        self._bury_the_missing()
        self.loaded = True

    def hear(self, control: Control) -> None:
        """Do what an operator says of a plugin, once, and remember it."""
        if control.target is None or not self._registry.hear(control):
            return
        for slot in self.slots.by_path.values():
            if slot.name == control.target:
                if slot.feed is not None and self._mode_of(slot.name) is not PluginMode.LIVE:
                    slot.feed.shadow = True  # at once; the rest takes a moment
                    self._host.opinions_void(slot.name, None)
                if control.action is not ControlAction.DISABLE and slot.source is not None:
                    self._registry.release(slot.source.version)
                self._want(slot.path)

    def workers_died(self) -> None:
        """All workers went with the process that made them, by no fault of a plugin: load every file again."""
        for slot in self.slots.by_path.values():
            if slot.feed is not None:
                self._detach(slot)
                self._want(slot.path)

    def _keep_in_touch(self) -> None:
        now_s = monotonic_s()
        if now_s - self._beat_s > BEAT_EVERY_S:
            self._beat_s = now_s
            for _, feed in self.slots.running():
                feed.worker.beat()
        if now_s - self._told_s > TELL_EVERY_S:
            self._told_s = now_s
            self.slots.tell_all()

    # -- the folder

    async def _look(self) -> None:
        changes = await asyncio.to_thread(self._folder.look)
        for path in (*changes.present, *changes.gone):
            self._want(path)

    async def _idle(self) -> None:
        """Wait until no file is being worked on."""
        while self._busy:
            await asyncio.wait(self._busy.values())

    def _want(self, path: str) -> None:
        """Bring one file's plugin up to date, soon; what is wanted while that goes on is done after it."""
        self._dirty.add(path)
        self.slots.by_path.setdefault(path, Slot(path, PurePosixPath(path).stem[:32]))
        if path not in self._busy and self._tasks is not None:
            self._busy[path] = self._tasks.create_task(self._work(path), name=f"plugin-{path}")

    async def _work(self, path: str) -> None:
        try:
            while path in self._dirty and not self._stopping:
                self._dirty.discard(path)
                try:
                    async with self._at_once:
                        await self._bring_up_to_date(path)
                except NurseryGone as error:
                    log.warning("plugin.no_worker", path=path, reason=str(error))
                    self._dirty.add(path)
                    await asyncio.sleep(NURSERY_PAUSE_S)
        except Exception:  # the boundary: a fault of ours in one file's life must not end the bot
            log.exception("plugin.lifecycle_failed", path=path)
        finally:
            del self._busy[path]

    async def _bring_up_to_date(self, path: str) -> None:
        slot = self.slots.by_path.get(path)
        if slot is None:
            return  # it went while it was wanted
        folder = self._settings.plugins_dir
        try:
            source = await asyncio.to_thread(read_source, folder / path, folder)
        except FileNotFoundError:
            if folder.is_dir():
                await self._remove(slot)
            return
        except PluginRefused as error:
            self._refuse(slot, str(error))
            return
        slot.source = source
        self._registry.keep(source.code)
        quarantined = self._registry.quarantined(source.version)
        if quarantined:
            self._refuse(slot, f"{quarantined}; change the file or enable it to try again", misbehaved=True, known=True)
        elif await self._start(slot, source):
            return
        await self._fall_back(slot)

    async def _fall_back(self, slot: Slot) -> None:
        """The file as it is now cannot run: the version that ran before it goes on, over a restart too."""
        version, reason = self._registry.version_of(slot.path), slot.reason
        if not version or version == slot.file_version or self._registry.quarantined(version):
            return
        code = await asyncio.to_thread(self._registry.read, version)
        if await self._start(slot, PluginSource(slot.path, code, version)):
            slot.reason = reason
            self.slots.tell(slot)

    # -- starting and taking over

    async def _start(self, slot: Slot, source: PluginSource) -> bool:
        """Run this version as the settings and operators say, in place of what runs now; False when it cannot."""
        if slot.feed is not None and (slot.version, slot.mode) == (source.version, self._mode_of(slot.name)):
            self.slots.become(slot, PluginState.RUNNING)
            return True
        try:
            worker, facts = await self._open(source)
        except NurseryGone:
            raise
        except (PluginRefused, WorkerGone) as error:
            if isinstance(error, WorkerGone):
                self._registry.quarantine(source.version, str(error))
            self._refuse(slot, str(error), misbehaved=isinstance(error, WorkerGone))
            return False
        taken_by, mode = self._taken_by(slot, facts.name), self._mode_of(facts.name)
        if taken_by or mode is PluginMode.OFF:
            await worker.stop()
            if taken_by:
                self._refuse(slot, f"{slot.path}: the name {facts.name!r} is taken by {taken_by}; choose another")
                return False
            await self._end(slot)
            slot.name = facts.name
            self.slots.become(slot, PluginState.DISABLED, self._why_off(facts.name))
            return True
        feed = PluginFeed(facts.name, worker, shadow=mode is PluginMode.SHADOW)
        worker.on_gone = lambda reason: self._gone(slot, feed, reason)
        self._host.plugin_wants(facts)
        if slot.feed is None:
            self._handler.add(feed)
        elif not await self._take_over(slot, slot.feed, feed):
            return False
        replaced = slot.feed is not None
        slot.name, slot.feed, slot.mode, slot.since_s = facts.name, feed, mode, monotonic_s()
        self._registry.note(facts.name, Known(slot.path, source.version, facts.when_gone))
        self.slots.started(slot, replaced=replaced, tell_people=self.loaded)
        return True

    async def _open(self, source: PluginSource) -> tuple[Worker, Facts]:
        """A worker with the settings of the plugin that is in the file; its name is known only once it is loaded."""
        found = _NAME.search(source.code)
        guess = found.group(1).decode() if found else ""
        worker = await self._workers.open(source, self._settings_of(guess).settings, self._handler.markets)
        name = worker.facts.name
        if name != guess and name in self._settings.plugins:
            await worker.stop()
            worker = await self._workers.open(source, self._settings_of(name).settings, self._handler.markets)
        return worker, worker.facts

    async def _take_over(self, slot: Slot, old: PluginFeed, new: PluginFeed) -> bool:
        """Warm the new version up beside the old one, hand the state over between two events, and end the old one.

        False, and the old one goes on without having missed an event, when the new one cannot.
        """
        new.muted = True
        self._handler.add(new)
        try:
            await new.worker.save()  # answered once it has read the past
            self._handler.hold(old, new)
            await new.worker.load(await old.worker.save())
        except NurseryGone:
            self._handler.remove(new)
            raise
        except (PluginRefused, WorkerGone) as error:
            self._handler.remove(new)
            await new.worker.stop()
            if slot.feed is old:
                self._handler.release(old)
            self._registry.quarantine(new.worker.version, str(error))
            self._refuse(slot, f"version {new.worker.version} could not take over: {error}", misbehaved=True)
            return False
        self._handler.replace(old, new)
        self._host.opinions_void(old.name, None)
        slot.previous = old.worker.version
        slot.feed = None
        await old.worker.stop()
        slot.feed = new
        return True

    def _taken_by(self, slot: Slot, name: str) -> str:
        """The other file that has this name, if there is one: one that runs, or that had it first, in an earlier life too."""
        first = self._registry.known_path(name)
        if first != slot.path and first in self.slots.by_path:
            return first
        other = self.slots.named(name)
        return other.path if other is not None and other is not slot and other.feed is not None else ""

    def _mode_of(self, name: str) -> PluginMode:
        """An operator's word, or the configuration's."""
        word = self._registry.word(name)
        return word.mode if word is not None else PluginMode(self._settings_of(name).mode)

    def _why_off(self, name: str) -> str:
        word = self._registry.word(name)
        return f"by {word.actor}: {word.reason}" if word is not None else "by the configuration"

    def _settings_of(self, name: str) -> PluginSettings:
        return self._settings.plugins.get(name, PluginSettings())

    def _refuse(self, slot: Slot, reason: str, *, misbehaved: bool = False, known: bool = False) -> None:
        """The file as it is now cannot run: a person is told, unless it is `known`. What runs goes on."""
        if slot.feed is not None:
            code, text = (
                "PLUGIN_ROLLED_BACK",
                f"plugin {slot.name}: version {slot.version} goes on, as the changed file cannot run: {reason}",
            )
            slot.reason = reason
            self.slots.tell(slot)
        else:
            code, text = ("PLUGIN_QUARANTINED" if misbehaved else "PLUGIN_BROKEN"), reason
            self.slots.become(slot, PluginState.QUARANTINED if misbehaved else PluginState.BROKEN, reason)
        if not known:
            self._host.plugin_alert(AlertLevel.ERROR, code, text, slot.name)

    # -- ending

    def _gone(self, slot: Slot, feed: PluginFeed, reason: str) -> None:
        """A worker was ended for what it did, or ended itself."""
        self._handler.remove(feed)
        if slot.feed is not feed:
            return  # it was about to take over: who waits for it hears of it there
        version = feed.worker.version
        self._registry.quarantine(version, reason)
        slot.feed = None
        self._host.opinions_void(feed.name, None)
        previous, slot.previous = slot.previous, ""
        if previous and previous != version and monotonic_s() - slot.since_s < PROBATION_S:
            self._registry.note(feed.name, Known(slot.path, previous, feed.worker.facts.when_gone))
            text = f"plugin {feed.name}: version {version} {reason}; version {previous} goes on"
            self._host.plugin_alert(AlertLevel.ERROR, "PLUGIN_ROLLED_BACK", text, feed.name)
            self._want(slot.path)
            return
        self.slots.become(slot, PluginState.QUARANTINED, reason)
        text = f"plugin {feed.name} ({slot.path}, version {version}) was ended: {reason}"
        self._host.plugin_alert(AlertLevel.ERROR, "PLUGIN_QUARANTINED", text, feed.name)
        self._settle_positions(feed.name, feed.worker.facts.when_gone)

    async def _remove(self, slot: Slot) -> None:
        """The file is gone: so is the plugin, and its positions are kept or closed as it said."""
        self.slots.by_path.pop(slot.path, None)
        feed, when_gone = slot.feed, "keep"
        if feed is not None:
            when_gone = feed.worker.facts.when_gone
            await self._end(slot)
        self.slots.become(slot, PluginState.REMOVED, "its file was removed")
        self._host.plugin_alert(AlertLevel.INFO, "PLUGIN_REMOVED", f"plugin {slot.name}: {slot.path} was removed", slot.name)
        self._settle_positions(slot.name, when_gone)
        self._registry.forget(slot.name)
        for other in self.slots.by_path.values():
            if other.state is PluginState.BROKEN and slot.path in other.reason:  # the name is free again
                self._want(other.path)

    def _bury_the_missing(self) -> None:
        """Plugins whose file went while no bot ran, and those that are configured and have none."""
        if self._folder.trouble:
            text = f"the plugin folder cannot be read, so no plugin runs: {self._folder.trouble}"
            self._host.plugin_alert(AlertLevel.ERROR, "PLUGIN_FOLDER_UNREADABLE", text, "")
            return
        folder, names = self._settings.plugins_dir, {slot.name for slot in self.slots.by_path.values()}
        for name, known in self._registry.known():
            if known.path not in self.slots.by_path:
                self._settle_positions(name, known.when_gone)
                self._registry.forget(name)
                text = f"plugin {name}: {folder / known.path} is not there any more"
                self._host.plugin_alert(AlertLevel.WARNING, "PLUGIN_REMOVED", text, name)
        for name, given in self._settings.plugins.items():
            if name not in names and given.mode != "off":
                text = f"bot.plugins.{name} is configured, but no file in {folder} has a plugin of this name"
                self._host.plugin_alert(AlertLevel.ERROR, "PLUGIN_MISSING", text, name)

    def _settle_positions(self, name: str, when_gone: str) -> None:
        if when_gone == "close" and (symbols := self._host.close_positions_of(name)):
            text = f"plugin {name} is gone and said to close then: closing {', '.join(symbols)}"
            self._host.plugin_alert(AlertLevel.WARNING, "PLUGIN_POSITIONS_CLOSED", text, name)

    async def _end(self, slot: Slot) -> None:
        """End what runs, orderly."""
        feed = self._detach(slot)
        if feed is not None:
            await feed.worker.stop()

    def _detach(self, slot: Slot) -> PluginFeed | None:
        feed, slot.feed = slot.feed, None
        if feed is not None:
            self._handler.remove(feed)
            self._host.opinions_void(feed.name, None)
        return feed
