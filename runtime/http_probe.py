"""Asking our own services over HTTP, without the weight of a client library."""

from __future__ import annotations

import asyncio

from runtime.settings import Settings

MAX_ANSWER_BYTES = 4_000_000


async def get(host: str, port: int, path: str, timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Return status and body of one GET; raises OSError (TimeoutError included) when nobody answers in time.

    Speaks HTTP/1.0, so that the body is simply what comes until the end.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode("ascii"))
            answer = bytearray()
            while len(answer) < MAX_ANSWER_BYTES and (chunk := await reader.read(65_536)):
                answer += chunk
        finally:
            writer.close()
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    try:
        return int(head.split(b" ", 2)[1]), body
    except (IndexError, ValueError):
        raise ConnectionError(f"{host}:{port} does not speak HTTP") from None


def probe_host(settings: Settings) -> str:
    """Where to ask our own services: the address they listen on, or loopback when they listen on all."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 compared, not bound
