"""Every plugin file with what runs of it, and how that is told: on the bus whenever it changes, and now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog

from bot.isolation.import_doubts import doubt_about
from bot.isolation.protocol import Facts
from bot.isolation.workers import PluginSource
from bot.plugin_feed import PluginFeed
from common_models import AlertLevel, PluginMode, PluginState, PluginStatus
from strategy import Market

log = structlog.get_logger(__name__)


class Host(Protocol):
    """What the rest of the bot does for plugins; `bot.plugin_host.PluginHost`."""

    def plugin_alert(self, level: AlertLevel, code: str, text: str, plugin: str, *, resolves: bool = False) -> None:
        """Tell a person."""

    def plugin_status(self, status: PluginStatus) -> None:
        """Publish how a plugin is."""

    def plugin_wants(self, facts: Facts) -> None:
        """Follow the streams and keep the candles that a plugin needs."""

    def close_positions_of(self, plugin: str) -> list[str]:
        """Close what a plugin wanted; returns the symbols."""

    def opinions_void(self, name: str, market: Market | None) -> None:
        """What a plugin said holds no more."""

    def run_length(self, market: Market) -> int:
        """How many candles without a hole there are of a market."""


@dataclass(slots=True, eq=False)
class Slot:
    """One file. `name` is the plugin's own, or the file's as long as that is not known.

    `source` is the file as it is now. `since_s` is when the version that runs took over, and `previous` the one it took over from.
    """

    path: str
    name: str
    state: PluginState = PluginState.CHECKING
    mode: PluginMode = PluginMode.OFF
    reason: str = ""
    source: PluginSource | None = None
    feed: PluginFeed | None = None
    previous: str = ""
    since_s: float = 0.0

    @property
    def version(self) -> str:
        """The version that runs, or the one that would."""
        if self.feed is not None:
            return self.feed.worker.version
        return self.file_version

    @property
    def file_version(self) -> str:
        """The version that is in the file."""
        return self.source.version if self.source else ""


class PluginSlots:
    """The slots by path. Whatever becomes of one is logged and told through here."""

    def __init__(self, markets: tuple[Market, ...], host: Host, clock: Callable[[], int]) -> None:
        self._markets = markets
        self._host = host
        self._clock = clock
        self.by_path: dict[str, Slot] = {}

    def named(self, name: str) -> Slot | None:
        """The slot whose plugin has this name."""
        return next((slot for slot in self.by_path.values() if slot.name == name), None)

    def running(self) -> Iterator[tuple[Slot, PluginFeed]]:
        """The slots whose worker takes part."""
        return ((slot, slot.feed) for slot in self.by_path.values() if slot.feed is not None)

    def cold_markets(self) -> set[Market]:
        """Markets that have fewer candles than some plugin needs."""
        return {market for _, feed in self.running() for market in self._cold(feed)}

    def become(self, slot: Slot, state: PluginState, reason: str = "") -> None:
        """A slot is in another state now."""
        slot.state, slot.reason = state, reason
        if state is not PluginState.RUNNING:
            slot.mode = PluginMode.OFF
        log.info("plugin.state", plugin=slot.name, path=slot.path, state=state, version=slot.version, reason=reason)
        self.tell(slot)

    def started(self, slot: Slot, *, replaced: bool, tell_people: bool) -> None:
        """A version runs."""
        self.become(slot, PluginState.RUNNING)
        if not tell_people:
            return
        how = "trades" if slot.mode is PluginMode.LIVE else "runs in shadow: its signals are recorded and not traded"
        text = f"plugin {slot.name} ({slot.path}, version {slot.version}) {'took over and ' if replaced else ''}{how}"
        doubts = [words for one in slot.feed.worker.facts.imports if (words := doubt_about(one))] if slot.feed else []
        self._host.plugin_alert(AlertLevel.INFO, "PLUGIN_STARTED", "; it ".join((text, *doubts)), slot.name)

    def tell_all(self) -> None:
        """Publish how every plugin is."""
        for slot in self.by_path.values():
            self.tell(slot)

    def tell(self, slot: Slot) -> None:
        """Publish how a plugin is."""
        status = PluginStatus(
            name=slot.name,
            path=slot.path,
            state=slot.state,
            ts_event_ns=self._clock(),
            mode=slot.mode,
            version=slot.version,
            reason=slot.reason,
        )
        self._host.plugin_status(status if slot.feed is None else self._with_figures(status, slot.feed))

    def _with_figures(self, status: PluginStatus, feed: PluginFeed) -> PluginStatus:
        """What a running plugin listens to, waits for and has done."""
        worker, facts, stats = feed.worker, feed.worker.facts, feed.worker.stats
        cold = self._cold(feed)
        return msgspec.structs.replace(
            status,
            state=PluginState.WARMING if cold else PluginState.RUNNING,
            pid=worker.pid,
            callbacks=tuple(sorted(facts.callbacks)),
            warm_up=facts.warm_up,
            waiting_for=tuple([market.symbol for market in cold]),
            events=stats.events,
            signals=feed.signals,
            errors=stats.errors,
            call_p99_us=stats.call_p99_us,
            memory_bytes=stats.memory_bytes,
            heartbeat=stats.heartbeat,
        )

    def _cold(self, feed: PluginFeed) -> list[Market]:
        needed = feed.worker.facts.warm_up
        return [market for market in self._markets if self._host.run_length(market) < needed]
