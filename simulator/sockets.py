"""One client's WebSocket as a venue keeps it: pings, a limit on what it may send, a bounded queue to it, a life span."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from runtime.clock import monotonic_s, now_ns

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 1_000_000


@dataclass(slots=True)
class SocketRules:
    """How a venue treats connections. `messages_per_s` 0 is no limit; all of it may be changed while running."""

    ping_every_s: float = 20.0
    pong_timeout_s: float = 60.0
    life_s: float = 86_400.0
    messages_per_s: int = 0
    queue_frames: int = 20_000


class Socket:
    """Serve one connection: `on_text` gets each message, `send` queues a frame and never waits.

    A client that does not read is cut off when its queue is full, as venues do.
    """

    def __init__(self, request: web.Request, rules: SocketRules, on_text: Callable[[str], Awaitable[None]]) -> None:
        self._request = request
        self._rules = rules
        self._on_text = on_text
        self._ws = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=MAX_MESSAGE_BYTES)
        self._queue: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._recent: deque[float] = deque()
        self._last_pong_s = monotonic_s()
        self._closing: tuple[int, bytes] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._work: set[asyncio.Task[None]] = set()
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        self.remote = f"{peer[0]}:{peer[1]}" if peer else ""
        self.address = request.remote or ""

    async def serve(self) -> web.WebSocketResponse:
        """Run until either side closes."""
        await self._ws.prepare(self._request)
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self.spawn(self._write())
            self.spawn(self._keep_alive())
            try:
                await self._read()
            finally:
                self._tasks = None
                for task in self._work:
                    task.cancel()
        return self._ws

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside reading, for as long as the connection lives."""
        if self._tasks is None:
            work.close()
            return
        task = self._tasks.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def send(self, frame: bytes) -> None:
        """Queue one text frame."""
        if self._closing is not None:
            return
        self._queue.append(frame)
        self._wake.set()
        if len(self._queue) >= self._rules.queue_frames // 2:
            self._room.clear()
        if len(self._queue) > self._rules.queue_frames:
            log.warning("socket.slow_client", remote=self.remote, queued=len(self._queue))
            self.close(WSCloseCode.POLICY_VIOLATION, b"Too slow")

    def close(self, code: int = WSCloseCode.OK, reason: bytes = b"") -> None:
        """Close after what is queued has left, or at once when the client does not read."""
        if self._closing is None:
            self._closing = (code, reason)
            if len(self._queue) > self._rules.queue_frames:
                self._queue.clear()
            self._wake.set()

    def abort(self) -> None:
        """Break the connection without a word."""
        self._closing = (WSCloseCode.ABNORMAL_CLOSURE, b"")
        self._queue.clear()
        if self._request.transport is not None:
            self._request.transport.abort()

    async def room(self) -> None:
        """Wait until the queue is not more than half full (for those who can wait, as a replay can)."""
        await self._room.wait()

    async def _read(self) -> None:
        while True:
            message = await self._ws.receive()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                self._closing = self._closing or (WSCloseCode.OK, b"")
                self._room.set()
                return
            if not self._allowed():
                self.close(WSCloseCode.POLICY_VIOLATION, b"Too many requests")
            elif message.type is WSMsgType.PING:
                await self._ws.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._last_pong_s = monotonic_s()
            elif message.type is WSMsgType.TEXT:
                await self._on_text(message.data)
            else:
                self.close(WSCloseCode.UNSUPPORTED_DATA, b"Text only")

    def _allowed(self) -> bool:
        """Whether one more message within a second is within the limit; pings and pongs count too."""
        limit = self._rules.messages_per_s
        if not limit:
            return True
        now_s = monotonic_s()
        self._recent.append(now_s)
        while self._recent[0] <= now_s - 1.0:
            self._recent.popleft()
        return len(self._recent) <= limit

    async def _write(self) -> None:
        queue = self._queue
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while queue:
                    await self._ws.send_frame(queue.popleft(), WSMsgType.TEXT)
                self._room.set()
                if self._closing is not None:
                    code, reason = self._closing
                    await self._ws.close(code=code, message=reason)
                    return
        except (ConnectionError, RuntimeError):  # the other side has gone; the reader ends the connection
            self._closing = self._closing or (WSCloseCode.ABNORMAL_CLOSURE, b"")
        finally:
            self._room.set()

    async def _keep_alive(self) -> None:
        """Ping in time; end a connection that is too old or whose client is silent."""
        born_s = monotonic_s()
        next_ping_s = born_s + self._rules.ping_every_s
        while self._closing is None:
            await asyncio.sleep(max(0.01, min(1.0, self._rules.ping_every_s / 4, self._rules.life_s / 4)))
            now_s = monotonic_s()
            if now_s - born_s >= self._rules.life_s:
                self.close(WSCloseCode.GOING_AWAY, b"Connection life exceeded")
            elif now_s - self._last_pong_s >= self._rules.pong_timeout_s:
                self.close(WSCloseCode.POLICY_VIOLATION, b"Pong timeout")
            elif now_s >= next_ping_s:
                next_ping_s = now_s + self._rules.ping_every_s
                try:
                    await self._ws.ping(str(now_ns() // 1_000_000).encode())
                except (ConnectionError, RuntimeError):
                    return
