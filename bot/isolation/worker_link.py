"""The bot's end of a worker: sends without waiting, believes nothing, and knows at every moment what is still to be answered."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any, Final

import structlog

from bot.isolation import reasons
from bot.isolation.limits import MB
from bot.isolation.outbox import Outbox
from bot.isolation.patience import Patience
from bot.isolation.plugin_log import PluginLog
from bot.isolation.process_view import company_of, memory_of, usage_of
from bot.isolation.protocol import (
    MAX_FRAME_BYTES,
    MAX_STATE_BYTES,
    Answer,
    Beat,
    Beaten,
    Done,
    Events,
    Facts,
    Frame,
    FrameReader,
    History,
    Load,
    Loaded,
    ProtocolError,
    Refused,
    Save,
    Saved,
    Start,
    Started,
    Stop,
    answer_of,
    encode_event,
    pack,
)
from bot.isolation.source import PluginRefused, PluginSource
from bot.isolation.tally import Stats, Tally
from common_models import Candle, MarketEvent
from strategy import Market

log = structlog.get_logger(__name__)

HISTORY_CHUNK: Final = 500
RECEIVE_BYTES: Final = 16 * 1024
START_FACTOR: Final = 1.5
"""Importing takes longer than a callback."""
DUMP_GRACE_S: Final = 0.05
"""How long a worker may take to say where it is before it is ended."""
HANG_UP_GRACE_S: Final = 0.2
BURIAL_GRACE_S: Final = 1.0
"""A process that was killed counts as ended after this, even if the system is not done with it."""

_ANSWERS: Final[dict[type[Frame], tuple[type[Frame], ...]]] = {
    Start: (Started, Refused),
    History: (Done,),
    Events: (Done,),
    Beat: (Beaten,),
    Save: (Saved,),
    Load: (Loaded,),
}


class WorkerGone(Exception):
    """The worker has ended, or was ended; the text says why."""


class NurseryGone(WorkerGone):
    """The nursery ended, and every worker with it, by no fault of a plugin: try again."""


@dataclass(slots=True)
class _Asked:
    """A request that is not answered yet."""

    kind: type[Frame]
    seq: int
    events: Sequence[tuple[bytes, bool]] = ()
    answered: asyncio.Future[Any] | None = None
    number: int = 0


@dataclass(slots=True)
class Limits:
    """What a worker may take: see WorkerSettings."""

    call_s: float
    memory_mb: int
    base_bytes: int
    signals_per_s: int
    watch_company: bool = False
    watch_memory: bool = False


def _nobody(_: object) -> None:
    """Until somebody wants to hear."""


class Worker:
    """One worker process. Everything is called in the event loop's thread, and only `save`, `load` and `stop` wait.

    `on_done` is called from the socket's callback for each answer to `send_events`. `on_gone` is called once, when the process has
    ended without having been stopped; set after that, it is called soon.
    """

    def __init__(
        self,
        number: int,
        source: PluginSource,
        connection: socket.socket,
        plugin_log: PluginLog,
        limits: Limits,
        signal_: Callable[..., None],
    ) -> None:
        self.version = source.version
        self.path = source.path
        self.pid = 0
        self.facts = Facts(name="unknown", callbacks=frozenset())
        self.on_done: Callable[[Done], None] = _nobody
        self.gone = ""
        """Why the worker has ended; empty while it lives."""
        self._loop = asyncio.get_running_loop()
        self._number = number
        self._socket = connection
        self._log = plugin_log
        self._limits = limits
        self._signal = signal_
        self._on_gone: Callable[[str], None] = _nobody
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._reason = ""  # why it is being ended
        self._stopping = False
        self._farewell: type[WorkerGone] = WorkerGone
        self._given_up = ""  # why, while it is asked where it is before it is ended
        self._asked: deque[_Asked] = deque()
        self._asks = 0
        self._seq = 0
        self._outbox: Outbox[_Asked] = Outbox(connection, self._begun, self._falls_behind)
        self._frames = FrameReader(MAX_STATE_BYTES + MAX_FRAME_BYTES)
        self._patience = Patience(limits.call_s)
        self._tally = Tally(limits.signals_per_s)
        self._market_index: dict[Market, int] = {}
        self._loop.add_reader(connection, self._readable)

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def stats(self) -> Stats:
        """The figures of now."""
        return self._tally.stats

    @property
    def outstanding(self) -> int:
        """Requests that are not answered yet."""
        return len(self._asked) + len(self._outbox)

    @property
    def on_gone(self) -> Callable[[str], None]:
        return self._on_gone

    @on_gone.setter
    def on_gone(self, tell: Callable[[str], None]) -> None:
        self._on_gone = tell
        if self.gone and not self._stopping:
            self._loop.call_soon(tell, self.gone)

    # -- asking

    async def start(self, source: PluginSource, settings: Mapping[str, Any], markets: Sequence[Market]) -> None:
        """Let it load the file; raises PluginRefused or WorkerGone."""
        self._market_index = {market: index for index, market in enumerate(markets)}
        places = tuple((market.exchange, market.symbol) for market in markets)
        request = Start(self._next(), source.path, source.code, dict(settings), places, self._limits.memory_mb)
        answer = await self._ask(request)
        if isinstance(answer, Refused):
            self._stopping = True
            raise PluginRefused(answer.reason)
        self.facts = answer.facts
        self._log.named(self.facts.name)

    def send_events(self, seq: int, events: Sequence[tuple[bytes, bool]]) -> None:
        """Hand over events (JSON, each with whether it is live), to be answered by `on_done` with this number."""
        self._put(pack(Events(seq, list(events))), _Asked(Events, seq, events))

    def send_history(self, market: Market, candles: Sequence[Candle], events: Sequence[MarketEvent]) -> None:
        """Start the instance of a market anew and let it see the past: the unbroken run of candles, and other recent events.

        It is read in parts, each as long as one callback may take, and before all events that are sent after this.
        """
        past: list[MarketEvent] = list(merge(candles, events, key=_happened_ns))
        if self._alive():
            self._outbox.put_parts(self._history(self._market_index[market], past))

    def beat(self) -> None:
        """Ask how it is; the answer is in `stats.heartbeat`. A worker that is still busy with the last request is not asked."""
        if not self._asked:
            request = Beat(self._next())
            self._put(pack(request), _Asked(Beat, request.seq))

    async def save(self) -> bytes:
        """What the plugin wants its next version to know, after all that was sent before; raises PluginRefused or WorkerGone."""
        answer = await self._ask(Save(self._next()))
        if answer.error:
            raise PluginRefused(answer.error)
        states: bytes = answer.states
        return states

    async def load(self, states: bytes) -> None:
        """Hand over what another version saved; raises PluginRefused or WorkerGone."""
        answer = await self._ask(Load(self._next(), states))
        if answer.error:
            raise PluginRefused(answer.error)

    async def stop(self, grace_s: float = 1.0) -> None:
        """End it orderly, and by force when it takes too long; `on_gone` is not called."""
        self._stopping = True
        if self._alive():
            self._put(pack(Stop(0)), None)
            try:
                await asyncio.wait_for(asyncio.shield(self._ended), grace_s)
            except TimeoutError:
                self.kill("did not stop")
        await self._ended

    def kill(self, reason: str) -> None:
        """End it by force and all that it started; the first reason counts."""
        if self._reason or self.gone:
            return
        self._reason = reason
        self._hang_up()
        self._signal(self._number, kill=True)
        self._loop.call_later(BURIAL_GRACE_S, self.exited, 0)

    # -- what the nursery tells

    def exited(self, status: int) -> None:
        """The process is no more."""
        if self.gone:
            return
        self._hear_last_words()
        self._hang_up()
        self._socket.close()
        self._log.close(self._file_name())
        self.gone = self._reason or self._given_up or reasons.of_ending(status, self._limits.memory_mb)
        for asked in self._asked:
            if asked.answered is not None and not asked.answered.done():
                asked.answered.set_exception(self._farewell(self.gone))
        self._asked.clear()
        self._ended.set_result(None)
        if not self._stopping:
            log.warning(
                "plugin.worker_gone", plugin=self.name, path=self.path, version=self.version, pid=self.pid, reason=self.gone
            )
            try:
                self._on_gone(self.gone)
            except Exception:  # the boundary: a fault of ours must not cut what is told of the other workers
                log.exception("plugin.farewell_failed", plugin=self.name)

    def lost(self, *, tell: bool) -> None:
        """The nursery died and took this worker along."""
        self._stopping = self._stopping or not tell
        self._farewell = NurseryGone
        self._reason = self._reason or "the nursery ended"
        self.exited(0)

    def look(self, elapsed_s: float, *, thoroughly: bool) -> None:
        """Every tick: end a worker that takes too long, prints too much, holds too much or is not alone."""
        if self._reason or self.gone or self._given_up or not self.pid:
            return
        flood = self._log.read(elapsed_s)
        if flood:
            self.kill(flood)
            return
        if self._limits.watch_company and self._has_company():
            return
        if thoroughly:
            self._look_at_figures()
        if self._asked:
            asked = self._asked[0]
            factor = START_FACTOR if asked.kind is Start else 1.0
            lost = self._patience.lost(asked.number, elapsed_s, usage_of(self.pid), factor)
            if lost is not None:
                self._give_up(asked, *lost)

    # -- inside

    def _alive(self) -> bool:
        return not (self._reason or self.gone)

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    async def _ask(self, request: Frame) -> Any:
        if not self._alive():
            raise self._farewell(self.gone or self._reason)
        answered = self._loop.create_future()
        self._put(pack(request), _Asked(type(request), request.seq, (), answered))
        return await answered

    def _file_name(self) -> str:
        """For the log of a plugin whose name never became known."""
        stem = self.path.rpartition("/")[2].removesuffix(".py")
        return re.sub(r"[^A-Za-z0-9]", "_", stem)[:32] or "unknown"

    def _put(self, frame: bytes, asked: _Asked | None) -> None:
        if self._alive():
            self._outbox.put(frame, asked)

    def _begun(self, asked: _Asked) -> None:
        """A request is on its way: from now on its answer is waited for."""
        self._asks += 1
        asked.number = self._asks
        self._asked.append(asked)

    def _falls_behind(self, limit: int) -> None:
        self.kill(f"does not keep up: more than {limit // 1024} KB of events wait for it")

    def _history(self, market: int, past: Sequence[MarketEvent]) -> Iterator[tuple[bytes, _Asked]]:
        """The frames of a market's past, made one by one as the socket takes them."""
        for start in range(0, max(len(past), 1), HISTORY_CHUNK):
            part = [encode_event(event) for event in past[start : start + HISTORY_CHUNK]]
            request = History(self._next(), market, part, first=start == 0)
            yield pack(request), _Asked(History, request.seq)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            self._loop.call_later(HANG_UP_GRACE_S, self.kill, reasons.CLOSED)
            return
        self._take(data)

    def _hear_last_words(self) -> None:
        """What the process said before it ended, such as why its file is refused: its end may be heard of first."""
        while not self._reason:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except OSError:
                return
            if not data:
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            for body in self._frames.feed(data):
                self._hear(answer_of(body), len(body))
                if self._reason:
                    return
        except ProtocolError as error:
            if not (self._limits.watch_company and self._has_company()):  # a copy of it answers as well
                self.kill(f"said garbage: {error}")

    def _hear(self, answer: Answer, size: int) -> None:
        """Take in one answer; raises ProtocolError when it is none to what was asked."""
        asked = self._asked[0] if self._asked else None
        if asked is None or type(answer) not in _ANSWERS[asked.kind] or answer.seq != asked.seq:
            raise ProtocolError(f"{type(answer).__name__} {answer.seq}, which was not asked for")
        if size > MAX_FRAME_BYTES and asked.kind is not Save:
            raise ProtocolError(f"an answer of {size} bytes, more than {MAX_FRAME_BYTES}")
        self._asked.popleft()
        too_much = self._tally.count(answer, asked.events) if isinstance(answer, Done) else ""
        over = answer.over if isinstance(answer, Done | Beaten) else ""
        if over or too_much:
            self.kill(over or too_much)
        elif asked.answered is not None:
            if not asked.answered.done():
                asked.answered.set_result(answer)
        elif isinstance(answer, Beaten):
            self._tally.note(heartbeat=answer.text)
        elif asked.kind is Events:
            try:
                self.on_done(answer)  # type: ignore[arg-type]
            except Exception:  # the boundary: a fault of ours must not cut the worker's next frames
                log.exception("plugin.answer_failed", plugin=self.name)

    def _has_company(self) -> bool:
        usage = usage_of(self.pid)
        if usage is not None and usage.threads > 1:
            self.kill(f"tried to start threads: {usage.threads - 1} are there")
        elif processes := company_of(self.pid):
            self.kill(f"tried to start processes: {processes} are there")
        return bool(self._reason)

    def _look_at_figures(self) -> None:
        held = memory_of(self.pid)
        self._tally.note(memory_bytes=held)
        if self._limits.watch_memory and held > self._limits.base_bytes + self._limits.memory_mb * MB:
            self.kill(f"memory: holds {held // MB} MB, more than {self._limits.memory_mb} MB beyond Python's own")

    def _give_up(self, asked: _Asked, had_s: float, cpu_s: float) -> None:
        """Ask where it is, and end it."""
        self._given_up = reasons.of_not_returning(asked.kind, (data for data, _ in asked.events), had_s, cpu_s)
        self._log.place = ""
        self._signal(self._number, kill=False)
        self._loop.call_later(DUMP_GRACE_S, self._end_where_it_is)

    def _end_where_it_is(self) -> None:
        if self._alive():
            flood = self._log.read(DUMP_GRACE_S)
            place = f" ({self._log.place})" if self._log.place else ""
            self.kill(flood or self._given_up + place)

    def _hang_up(self) -> None:
        """Hear and say nothing more."""
        self._loop.remove_reader(self._socket)
        self._asked += self._outbox.close()  # who waits for these will hear that it is gone


def _happened_ns(event: MarketEvent) -> int:
    """When an event was known: a candle at its end."""
    return event.close_ns if isinstance(event, Candle) else event.ts_recv_ns
