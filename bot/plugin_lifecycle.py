"""From a file in the folder to a running plugin and back: new, changed, broken, mended, removed, quarantined, on and off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import PurePosixPath

import structlog

from bot.isolation.source import read_source
from bot.isolation.workers import NurseryGone, PluginRefused
from bot.plugin_folder import PluginFolder
from bot.plugin_handler import PluginHandler
from bot.plugin_registry import PluginRegistry
from bot.plugin_slots import Host, PluginSlots, Slot
from bot.plugin_starter import PluginStarter, Workers
from common_models import AlertLevel, Control, ControlAction, PluginMode, PluginState
from runtime.clock import monotonic_s
from runtime.settings import BotSettings

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.3
BEAT_EVERY_S = 2.0
TELL_EVERY_S = 10.0
NURSERY_PAUSE_S = 1.0
"""Between attempts to have a worker made while nobody makes any."""
AT_ONCE = 4
"""Files that are loaded at the same time."""


class PluginLifecycle:
    """Watches the folder and keeps a worker for every file that may run; whatever a file does, it costs that file only.

    Each file is worked on by one task at a time (`PluginStarter` does the work); what is wanted meanwhile is done after it.
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
        self._registry = registry
        self._host = host
        self._folder = PluginFolder(settings.plugins_dir)
        self._dirty: set[str] = set()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._tasks: asyncio.TaskGroup | None = None
        self._told_s = self._beat_s = 0.0
        self.slots = PluginSlots(handler.markets, host, clock)
        self._starter = PluginStarter(settings.plugins, self.slots, handler, registry, workers, host, self._want)
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
            await self._starter.end(slot)

    async def load(self, tasks: asyncio.TaskGroup) -> None:
        """Take in what is in the folder now, and wait until each file runs or is known not to; later work is done by `tasks`."""
        self._tasks = tasks
        for path in tuple(self._dirty):
            self._want(path)
        await self._look()
        await self._idle()
        self._bury_the_missing()
        self.loaded = self._starter.tell_people = True

    def hear(self, control: Control) -> None:
        """Do what an operator says of a plugin, once, and remember it."""
        if control.target is None or not self._registry.hear(control):
            return
        for slot in self.slots.by_path.values():
            if slot.name == control.target:
                if slot.feed is not None and self._starter.mode_of(slot.name) is not PluginMode.LIVE:
                    slot.feed.shadow = True  # at once; the rest takes a moment
                    self._host.opinions_void(slot.name, None)
                if control.action is not ControlAction.DISABLE and slot.source is not None:
                    self._registry.release(slot.source.version)
                self._want(slot.path)

    def workers_died(self) -> None:
        """All workers went with the process that made them, by no fault of a plugin: load every file again."""
        for slot in self.slots.by_path.values():
            if slot.feed is not None:
                self._starter.detach(slot)
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
        trouble = self._folder.trouble
        changes = await asyncio.to_thread(self._folder.look)
        if bool(self._folder.trouble) is not bool(trouble):
            self._tell_trouble(self._folder.trouble)
        for path in (*changes.present, *changes.gone):
            self._want(path)

    def _tell_trouble(self, trouble: str) -> None:
        """The folder cannot be read: what runs goes on, and nothing new is seen. Or it can be read again."""
        text = f"the plugin folder cannot be read, changes are not seen: {trouble}" if trouble else "the plugin folder can be read"
        level = AlertLevel.ERROR if trouble else AlertLevel.INFO
        self._host.plugin_alert(level, "PLUGIN_FOLDER_UNREADABLE", text, "", resolves=not trouble)

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
            self._starter.refuse(slot, str(error))
            return
        await self._starter.run(slot, source)

    async def _remove(self, slot: Slot) -> None:
        """The file is gone: so is the plugin, and its positions are kept or closed as it said."""
        self.slots.by_path.pop(slot.path, None)
        when_gone = self._registry.when_gone(slot.name)
        await self._starter.end(slot)
        self._starter.end_troubles(slot)
        self.slots.become(slot, PluginState.REMOVED, "its file was removed")
        self._host.plugin_alert(AlertLevel.INFO, "PLUGIN_REMOVED", f"plugin {slot.name}: {slot.path} was removed", slot.name)
        if self._starter.settle_positions(slot.name, when_gone):
            self._registry.forget(slot.name)
        for other in self.slots.by_path.values():
            if other.state is PluginState.BROKEN and slot.path in other.reason:  # the name is free again
                self._want(other.path)

    def _bury_the_missing(self) -> None:
        """Plugins whose file went while no bot ran, and those that are configured and have none."""
        if self._folder.trouble:
            return
        folder, names = self._settings.plugins_dir, {slot.name for slot in self.slots.by_path.values()}
        for name, known in self._registry.known():
            if known.path not in self.slots.by_path:
                if self._starter.settle_positions(name, known.when_gone):
                    self._registry.forget(name)
                text = f"plugin {name}: {folder / known.path} is not there any more"
                self._host.plugin_alert(AlertLevel.WARNING, "PLUGIN_REMOVED", text, name)
        for name, given in self._settings.plugins.items():
            if name not in names and given.mode != "off":
                text = f"bot.plugins.{name} is configured, but no file in {folder} has a plugin of this name"
                self._host.plugin_alert(AlertLevel.ERROR, "PLUGIN_MISSING", text, name)
