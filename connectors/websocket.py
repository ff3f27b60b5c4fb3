"""One websocket to a venue, as callbacks: whole messages in, rate-limited text out, and when it is over, why."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import picows
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from connectors.errors import TransientError
from runtime.clock import monotonic_s

CONNECT_TIMEOUT_S = 10.0
IDLE_PING_S = 20.0
PONG_TIMEOUT_S = 10.0
MAX_MESSAGE_BYTES = 4 * 1024 * 1024

TEXT = WSMsgType.TEXT  # a name of the module is found faster than a member of an enumeration
OnMessage = Callable[[bytes], None]


class WebSocket(WSListener):
    """An open connection. `closed` resolves to the reason when the peer, the network or we end it.

    Pings are answered with their own payload, and an idle peer is pinged and given up when no pong comes. Outgoing messages keep to
    `messages_per_s` over any second, since venues ban clients that send more.
    """

    def __init__(self, on_message: OnMessage, messages_per_s: int) -> None:
        self._on_message = on_message
        self._messages_per_s = messages_per_s
        self._sent_s: deque[float] = deque(maxlen=messages_per_s)
        self._sending = asyncio.Lock()
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._transport: WSTransport | None = None
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is TEXT and frame.fin:
            self._on_message(frame.get_payload_as_bytes())
        elif kind in (TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._on_part(transport, frame)
        elif kind is WSMsgType.CLOSE:
            self._end(f"closed by the exchange: {frame.get_close_code().name} {frame.get_close_reason() or ''}".rstrip())
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _on_part(self, transport: WSTransport, frame: WSFrame) -> None:
        """Join a fragmented message; one that grows too large ends the connection."""
        if frame.msg_type is not WSMsgType.CONTINUATION:
            self._parts, self._parts_bytes = [], 0
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > MAX_MESSAGE_BYTES:
            self._end(f"a message of more than {MAX_MESSAGE_BYTES} bytes")
            transport.disconnect(graceful=False)
        elif frame.fin:
            whole, self._parts = b"".join(self._parts), []
            self._on_message(whole)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._end("connection lost")

    def _end(self, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)

    def pause(self) -> None:
        """Stop reading: the venue's bytes wait in the kernel until `resume`."""
        if self._transport is not None and not self._transport.underlying_transport.is_closing():
            self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.underlying_transport.is_closing():
            self._transport.underlying_transport.resume_reading()

    async def send(self, message: bytes) -> None:
        """Send text within the rate limit; raises TransientError when the connection is over."""
        async with self._sending:
            if len(self._sent_s) == self._messages_per_s:
                await asyncio.sleep(max(0.0, self._sent_s[0] + 1.0 - monotonic_s()))
            if self._transport is None or self.closed.done():
                raise TransientError("the websocket is closed")
            self._sent_s.append(monotonic_s())
            self._transport.send(WSMsgType.TEXT, message)

    def close(self, reason: str) -> None:
        """End the connection from our side; `closed` resolves to `reason`."""
        self._end(reason)
        if self._transport is not None:
            self._transport.disconnect()


async def open_websocket(url: str, on_message: OnMessage, *, messages_per_s: int = 4) -> WebSocket:
    """Connect; raises TransientError when the venue cannot be reached or refuses. Redirects are not followed."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, listener = await picows.ws_connect(
                lambda: WebSocket(on_message, messages_per_s),
                url,
                disconnect_on_exception=True,
                enable_auto_ping=True,
                auto_ping_idle_timeout=IDLE_PING_S,
                auto_ping_reply_timeout=PONG_TIMEOUT_S,
                max_frame_size=MAX_MESSAGE_BYTES,
                max_redirects=0,
                read_buffer_init_size=256 * 1024,
            )
    except (OSError, TimeoutError, picows.WSError) as error:
        raise TransientError(f"cannot connect to {url.partition('?')[0]}: {type(error).__name__} {error}") from error
    assert isinstance(listener, WebSocket)
    return listener
