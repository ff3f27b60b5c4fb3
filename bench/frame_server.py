"""A venue that only talks: Binance's handshake, subscriptions and snapshots, then frames as fast as the socket takes them or paced.

Run as a process of its own: `python -m bench.frame_server PORT_FILE LOOPS RATE SECONDS`. RATE 0 sends the recorded capture as fast
as possible; otherwise that many quotes a second for SECONDS. Prints one JSON line a run: first and last byte, monotonic ns.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bench import capture
from bench.plain_venue import PlainVenue

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CHUNK_FRAMES = 200


def framed(payload: bytes) -> bytes:
    """One unmasked text frame, as servers send."""
    size = len(payload)
    head = (
        bytes([0x81, size])
        if size < 126
        else b"\x81\x7e" + size.to_bytes(2, "big")
        if size < 65536
        else b"\x81\x7f" + size.to_bytes(8, "big")
    )
    return head + payload


WAVE = 10
"""Frames for which the price stays, before it goes to the other of two levels."""


def quote_frame(number: int) -> bytes:
    """Best bid and offer, numbered, a tenth apart."""
    level = number // WAVE % 2
    return framed(
        b'{"stream":"btcusdt@bookTicker","data":{"u":%d,"s":"BTCUSDT","b":"60000.%d0000000","B":"1.00000000",'
        b'"a":"60000.%d0000000","A":"1.00000000"}}' % (number, level, level + 1)
    )


async def read_text(reader: asyncio.StreamReader) -> bytes:
    """The next text message of a client; pings and the like are passed over."""
    while True:
        head = await reader.readexactly(2)
        size = head[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        mask = await reader.readexactly(4)
        payload = await reader.readexactly(size)
        if head[0] & 0x0F == 1:
            key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
            return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


class FrameServer:
    def __init__(self, recording: capture.Recording | None, rate: int, seconds: float) -> None:
        self._recording = recording
        self._rate = rate
        self._seconds = seconds
        self._venue = PlainVenue()
        self._snapshots_asked: set[str] = set()
        self.ready = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := (await reader.readuntil(b"\r\n\r\n")).decode():
                path = request.split(" ", 2)[1]
                if "sec-websocket-key" in request.lower():
                    await self._websocket(request, reader, writer)
                    return
                body = self._answer(path)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, path: str) -> bytes:
        parts = urlsplit(path)
        if parts.path.endswith("/depth") and self._recording is not None:
            native = parse_qs(parts.query)["symbol"][0]
            self._snapshots_asked.add(native)
            if len(self._snapshots_asked) == len(self._recording.snapshots):
                self.ready.set()
            return self._recording.snapshots[native]
        if parts.path.endswith("/depth"):
            self.ready.set()
            return b'{"lastUpdateId":1,"bids":[],"asks":[]}'
        return self._venue.body(parts.path)

    async def _websocket(self, request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fields = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in request.split("\r\n") if ": " in line)
        accept = base64.b64encode(hashlib.sha1(fields["sec-websocket-key"].encode() + GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
            % accept
        )
        if "/ws-api/" in request.split(" ", 2)[1]:
            await self._orders(reader, writer)
            return
        subscribe = json.loads(await read_text(reader))
        writer.write(framed(b'{"result":null,"id":%d}' % subscribe["id"]))
        await self.ready.wait()
        await asyncio.sleep(0.5)  # the connector loads its snapshots
        first, last, sent = await (self._paced(writer) if self._rate else self._blast(writer))
        await asyncio.sleep(0.5)  # the last answers
        result = {
            "first_ns": first,
            "last_ns": last,
            "frames": len(sent) or self._count,
            "sent_ns": sent,
            "orders_ns": self._venue.received_ns,
        }
        print(json.dumps(result), flush=True)
        await reader.read()

    async def _orders(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The WebSocket API: every order fills at once, at the price of the last frame."""
        while True:
            request = await read_text(reader)
            for answer in self._venue.answers(request, time.monotonic_ns()):
                writer.write(framed(answer))

    @property
    def _count(self) -> int:
        return len(self._recording.frames) if self._recording else 0

    async def _blast(self, writer: asyncio.StreamWriter) -> tuple[int, int, list[int]]:
        assert self._recording is not None
        frames = [framed(frame) for frame in self._recording.frames]
        chunks = [b"".join(frames[start : start + CHUNK_FRAMES]) for start in range(0, len(frames), CHUNK_FRAMES)]
        first = time.monotonic_ns()
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        return first, time.monotonic_ns(), []

    async def _paced(self, writer: asyncio.StreamWriter) -> tuple[int, int, list[int]]:
        """Frames at even intervals, several at once where the rate is finer than the clock's resolution."""
        sent: list[int] = []
        start = time.monotonic_ns()
        number = 0
        total = int(self._rate * self._seconds)
        while number < total:
            due = min(total, (time.monotonic_ns() - start) * self._rate // 1_000_000_000 + 1)
            while number < due:
                number += 1
                sent.append(time.monotonic_ns())
                writer.write(quote_frame(number))
            await asyncio.sleep(max(0.0, (start + number * 1_000_000_000 // self._rate - time.monotonic_ns()) / 1e9))
        return sent[0], sent[-1], sent


async def main() -> None:
    port_file, loops, rate, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    frame_server = FrameServer(capture.load(loops) if loops else None, rate, seconds)
    server = await asyncio.start_server(frame_server.serve, "127.0.0.1", 0, limit=1 << 20)
    port_file.write_text(str(server.sockets[0].getsockname()[1]))  # noqa: ASYNC240 once, before anything runs
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
