"""Which market streams the bot follows: what it needs itself from the start, and what plugins want as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from bus.interfaces import TailHandler
from bus.reader import TailReader
from bus.streams import Stream, Streams

REPLAY = "-30000"
"""How far, in milliseconds, back in the bus's log a stream is read at first: it warms up what listens to every event."""

FROM_START = frozenset({"instruments", "candles"})
"""Market streams that are read from their beginning: what was said long ago still counts."""

NEEDED = ("instruments", "candles", "tickers")
WANTED = {"on_trade": "trades", "on_book": "books"}
"""What the bot reads only once a plugin has this callback."""


class MarketReaders:
    """Readers of market streams and of the control stream; one more each time that a plugin wants what nobody wanted before."""

    def __init__(self, url: str, streams: Streams, exchanges: Sequence[str], handle: TailHandler, stop: asyncio.Event) -> None:
        self._url = url
        self._streams = streams
        self._exchanges = exchanges
        self._handle = handle
        self._stop = stop
        self._tasks: asyncio.TaskGroup | None = None
        self._followed: set[str] = set()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Follow what is needed and what people say, as tasks of this group."""
        self._tasks = tasks
        self._followed.update(NEEDED)
        self._follow([*self._of(NEEDED), self._streams.control], "bot")

    def want(self, callbacks: Iterable[str]) -> None:
        """Follow what these callbacks take as well, from now on and from a little before."""
        fresh = [kind for kind in _kinds(callbacks) if kind not in self._followed]
        if fresh and self._tasks is not None:
            self._followed.update(fresh)
            self._follow(self._of(fresh), f"bot-{'-'.join(fresh)}")

    def _of(self, kinds: Iterable[str]) -> list[Stream]:
        return [self._streams.market(exchange, kind) for exchange in self._exchanges for kind in kinds]

    def _follow(self, streams: list[Stream], name: str) -> None:
        assert self._tasks is not None
        reader = TailReader(self._url, streams, {stream.name: self._start_of(stream) for stream in streams}, name=name)
        self._tasks.create_task(reader.run(self._handle, self._stop), name=name)

    def _start_of(self, stream: Stream) -> str:
        if stream == self._streams.control or stream.name.rpartition(":")[2] in FROM_START:
            return "0"
        return REPLAY


def _kinds(callbacks: Iterable[str]) -> list[str]:
    return sorted({WANTED[name] for name in callbacks if name in WANTED})
