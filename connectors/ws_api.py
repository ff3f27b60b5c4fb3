"""Requests and answers over one websocket, matched by number: the quick way for orders.

`send` writes within the call. A request whose answer does not come in time, or whose socket ends, is reported as AnswerLost; should
the answer come late after all, it is reported too. The next connection is opened before the venue's limit ends the present one,
and the old one is closed only when nothing waits on it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import msgspec
import picows
import structlog
from picows import WSMsgType, WSTransport

from connectors.errors import AnswerLost, BadResponse, ExchangeError, NotSent, TransientError
from connectors.websocket import CONNECT_TIMEOUT_S, IDLE_PING_S, MAX_MESSAGE_BYTES, PONG_TIMEOUT_S, OnMessage, WebSocket
from runtime.backoff import Backoff

log = structlog.get_logger(__name__)

OnReply = Callable[[msgspec.Raw | ExchangeError], None]
Params = Mapping[str, str | int]
LATE_S = 60.0
"""How long a late answer is still recognised."""


class Frame(msgspec.Struct, frozen=True):
    """What a message means: the answer to request `number`, or an event (`number` None). Raw parts are empty when absent."""

    number: int | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: ExchangeError | None = None
    event: msgspec.Raw = msgspec.Raw()


class Framing(Protocol):
    """How a venue frames requests and answers."""

    def request(self, number: int, method: str, params: Params) -> bytes: ...

    def read(self, message: bytes) -> Frame:
        """Raises BadResponse for what cannot be read."""
        ...


class ApiSocket(WebSocket):
    """A connection that can be written to within a call."""

    def __init__(self, on_message: OnMessage) -> None:
        super().__init__(on_message, messages_per_s=1)
        self._full = False

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def write(self, message: bytes) -> None:
        """Hand a text message to the kernel; raises NotSent when the connection is over or takes no more."""
        transport: WSTransport | None = self._transport
        if transport is None or self.closed.done() or transport.is_disconnected:
            raise NotSent("the websocket is closed")
        if self._full:
            raise NotSent("the venue does not read what was sent before")
        transport.send(WSMsgType.TEXT, message)


@dataclass(slots=True)
class _Session:
    """One connection and what waits on it."""

    socket: ApiSocket | None = None
    waiting: dict[int, _Waiting] = field(default_factory=dict)


@dataclass(slots=True)
class _Waiting:
    on_reply: OnReply
    timer: asyncio.TimerHandle


class WsApi:
    """One venue's request socket, kept open by `run`."""

    def __init__(
        self,
        url: str,
        framing: Framing,
        *,
        on_event: Callable[[msgspec.Raw], None],
        on_unreadable: Callable[[ExchangeError], None],
        on_open: Callable[[], Awaitable[None]],
        on_state: Callable[[bool, str], None],
        lifetime_s: float,
        timeout_s: float = 10.0,
    ) -> None:
        """`on_unreadable` is told of a message that is neither answer nor event: it may have been an event.

        `on_open` prepares a fresh connection (subscriptions, by `call`); raising TransientError there gives it up.
        """
        self._url = url
        self._framing = framing
        self._on_event = on_event
        self._on_unreadable = on_unreadable
        self._on_open = on_open
        self._on_state = on_state
        self._lifetime_s = lifetime_s
        self._timeout_s = timeout_s
        self._session = _Session()
        self._numbers = count(1)
        self._renew = asyncio.Event()
        self._backoff = Backoff()
        self.late = 0
        self.connects = 0

    @property
    def connected(self) -> bool:
        socket = self._session.socket
        return socket is not None and not socket.closed.done()

    def renew(self) -> None:
        """Replace the connection soon, keeping the old one until the new one works."""
        self._renew.set()

    def send(self, method: str, params: Params, on_reply: OnReply) -> None:
        """Write a request now; raises NotSent when no byte left. `on_reply` gets the result or an error, later."""
        session = self._session
        if session.socket is None:
            raise NotSent("no websocket connection")
        number = next(self._numbers)
        message = self._framing.request(number, method, params)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._timeout_s, self._time_out, session, number, method)
        session.waiting[number] = _Waiting(on_reply, timer)
        try:
            session.socket.write(message)
        except BaseException:
            del session.waiting[number]
            timer.cancel()
            raise

    async def call(self, method: str, params: Params) -> msgspec.Raw:
        """Send a request and wait for its result; raises ExchangeError."""
        future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()

        def settle(reply: msgspec.Raw | ExchangeError) -> None:
            if future.done():
                return
            if isinstance(reply, ExchangeError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        self.send(method, params, settle)
        return await future

    async def run(self, stop: asyncio.Event) -> None:
        """Keep a connection until `stop`; whatever waits then is reported as lost."""
        try:
            while not stop.is_set():
                await self._turn(stop)
        finally:
            self._drop(self._session, "stopped")
            self._on_state(False, "stopped")

    async def _turn(self, stop: asyncio.Event) -> None:
        """Open the next connection, then wait until it is lost or due to be replaced."""
        previous = self._session if self.connected else None
        session = _Session()
        try:
            session.socket = await self._open(session)
            self._session = session
            self._renew.clear()
            await self._on_open()
        except ExchangeError as error:
            self._drop(session, error.detail)
            self._session = previous if previous is not None else _Session()
            await self._wait(stop, error.detail)
            return
        self.connects += 1
        if previous is not None:
            self._retire(previous)
        self._on_state(True, "")
        await self._until_over(session.socket, stop)
        if session.socket.closed.done() and not stop.is_set():
            reason = session.socket.closed.result()
            self._drop(session, reason)
            self._on_state(False, reason)
            await self._wait(stop, reason)

    async def _open(self, session: _Session) -> ApiSocket:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, listener = await picows.ws_connect(
                    lambda: ApiSocket(lambda message: self._on_message(session, message)),
                    self._url,
                    disconnect_on_exception=True,
                    enable_auto_ping=True,
                    auto_ping_idle_timeout=IDLE_PING_S,
                    auto_ping_reply_timeout=PONG_TIMEOUT_S,
                    max_frame_size=MAX_MESSAGE_BYTES,
                    max_redirects=0,
                )
        except (OSError, TimeoutError, picows.WSError) as error:
            raise TransientError(f"cannot connect to {self._url.partition('?')[0]}: {type(error).__name__} {error}") from error
        assert isinstance(listener, ApiSocket)
        listener.closed.add_done_callback(lambda closed: self._lose(session, closed.result()))
        return listener

    async def _until_over(self, socket: ApiSocket, stop: asyncio.Event) -> None:
        lifetime_s = self._lifetime_s * (1 - random.random() / 10)  # noqa: S311 jitter
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._renew.wait())]
        try:
            await asyncio.wait([socket.closed, *waits], timeout=lifetime_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _wait(self, stop: asyncio.Event, reason: str) -> None:
        wait_s = self._backoff.next_s()
        log.warning("ws_api.reconnecting", url=self._url.partition("?")[0], reason=reason, wait_s=round(wait_s, 2))
        waiting = asyncio.ensure_future(stop.wait())
        await asyncio.wait({waiting}, timeout=wait_s)
        waiting.cancel()

    def _retire(self, session: _Session) -> None:
        """Close a replaced connection as soon as nothing waits on it; every request has a time-out, so that comes."""
        if session.socket is None or session.socket.closed.done():
            return
        if session.waiting:
            asyncio.get_running_loop().call_later(0.2, self._retire, session)
        else:
            session.socket.close("replaced by a fresh connection")

    def _on_message(self, session: _Session, message: bytes) -> None:
        try:
            frame = self._framing.read(message)
        except BadResponse as error:
            self._on_unreadable(error)
            return
        if frame.number is None:
            if frame.event:
                self._on_event(frame.event)
            return
        waiting = session.waiting.pop(frame.number, None)
        if waiting is None:
            self.late += 1
            return
        waiting.timer.cancel()
        waiting.on_reply(frame.result if frame.error is None else frame.error)

    def _time_out(self, session: _Session, number: int, method: str) -> None:
        """No answer in time: say so, and stay ready for a late one."""
        waiting = session.waiting.get(number)
        if waiting is None:
            return
        waiting.timer = asyncio.get_running_loop().call_later(LATE_S, session.waiting.pop, number, None)
        waiting.on_reply(AnswerLost(f"{method}: no answer within {self._timeout_s} s"))

    def _lose(self, session: _Session, reason: str) -> None:
        """The socket is over: nothing that waits on it will be answered."""
        waiting, session.waiting = session.waiting, {}
        for entry in waiting.values():
            entry.timer.cancel()
            entry.on_reply(AnswerLost(f"the websocket ended before the answer: {reason}"))

    def _drop(self, session: _Session, reason: str) -> None:
        if session.socket is not None:
            session.socket.close(reason)
        self._lose(session, reason)
