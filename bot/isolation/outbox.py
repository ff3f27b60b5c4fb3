"""Frames on their way to a worker: sent at once when the socket takes them, kept in order and within a bound when it does not."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from bot.isolation.limits import MB

MAX_UNSENT_BYTES: Final = MB
"""Of events that wait for the worker."""
MAX_UNSENT_WARMING_BYTES: Final = 16 * MB
"""The same while it reads the past, and until it has caught up after that."""

Note = TypeVar("Note")


class Outbox(Generic[Note]):
    """Sends without waiting. `begun` is called with the note of each frame, in order, when its first byte is about to leave.

    `too_much` is called with the bound in bytes when more than that waits. A socket that is closed swallows everything: who reads
    from it learns why.
    """

    def __init__(self, connection: socket.socket, begun: Callable[[Note], None], too_much: Callable[[int], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._begun = begun
        self._too_much = too_much
        self._rest = b""  # of the frame that is being sent
        self._queue: deque[tuple[bytes, Note | None] | Iterator[tuple[bytes, Note]]] = deque()
        self._waiting_bytes = 0
        self._limit = MAX_UNSENT_BYTES

    def __len__(self) -> int:
        """Frames that wait, those being one that are not made yet."""
        return len(self._queue)

    def put(self, frame: bytes, note: Note | None) -> None:
        """Send a frame after all before it."""
        if not self._rest and not self._queue:
            self._send(frame, note)
            return
        self._queue.append((frame, note))
        self._waiting_bytes += len(frame)
        if self._waiting_bytes > self._limit:
            self._too_much(self._limit)

    def put_parts(self, parts: Iterator[tuple[bytes, Note]]) -> None:
        """Send frames that are made one by one, as the socket takes them; until it has caught up, more may wait."""
        self._limit = MAX_UNSENT_WARMING_BYTES
        self._queue.append(parts)
        self._flush()

    def close(self) -> list[Note]:
        """Send nothing more; returns the notes of what was not begun."""
        self._loop.remove_writer(self._socket)
        left = [item[1] for item in self._queue if isinstance(item, tuple) and item[1] is not None]
        self._queue.clear()
        return left

    def _send(self, frame: bytes, note: Note | None) -> None:
        if note is not None:
            self._begun(note)
        try:
            sent = self._socket.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            return
        if sent < len(frame):
            self._rest = frame[sent:]
            self._loop.add_writer(self._socket, self._flush)

    def _flush(self) -> None:
        """Send on what waits, as far as the socket takes it."""
        if self._rest:
            frame, self._rest = self._rest, b""
            self._send(frame, None)
        while self._queue and not self._rest:
            head = self._queue[0]
            if isinstance(head, tuple):
                self._queue.popleft()
                self._waiting_bytes -= len(head[0])
                self._send(*head)
            elif (part := next(head, None)) is not None:
                self._send(*part)
            else:
                self._queue.popleft()
        if not self._rest:
            self._limit = MAX_UNSENT_BYTES
            self._loop.remove_writer(self._socket)
