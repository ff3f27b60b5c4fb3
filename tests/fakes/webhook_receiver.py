"""A local HTTP server that takes webhooks, with answers that a test scripts."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from runtime.clock import monotonic_s

CANARY = "canary-5e1f0a"
"""Part of the secret URL: it must show nowhere."""


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"


class WebhookReceiver:
    """Keeps what it was sent. `answers` are given one by one, then `usual`."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.times_s: list[float] = []
        self.answers: deque[Answer] = deque()
        self.usual = Answer()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{CANARY}"

    @property
    def texts(self) -> str:
        """All that people would have read."""
        return "\n".join(f"{body.get('title')}\n{body.get('text')}" for body in self.bodies)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[WebhookReceiver]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path}")
        answer = self.answers.popleft() if self.answers else self.usual
        body = await request.json()
        if answer.status < 300:
            self.bodies.append(body)
            self.times_s.append(monotonic_s())
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
