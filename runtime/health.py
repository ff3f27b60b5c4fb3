"""What a process says about itself: /live /ready /health /metrics on its port, and what else it is posted there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from aiohttp import web

from runtime import metrics
from runtime.clock import monotonic_s

STALL_S = 5.0

Intake = Callable[[bytes], Awaitable[tuple[HTTPStatus, Mapping[str, object]]]]
"""Takes the body of a POST and returns the status and the JSON object of the answer."""


@dataclass(slots=True)
class Component:
    """One thing that must work, since when it is as it is, and why."""

    ok: bool
    detail: str
    since_s: float


@dataclass(frozen=True, slots=True)
class _Posted:
    take: Intake
    max_bytes: int


class Health:
    """The components of one process; the process is ready when there is at least one and all are ok."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.components: dict[str, Component] = {}
        self.event_loop_lag_s = 0.0
        self.intakes: dict[str, _Posted] = {}
        self._started_s = monotonic_s()
        self._beat_s = monotonic_s()

    def report(self, component: str, ok: bool, detail: str = "") -> None:
        """Set the state of a component; the time since it changed is kept."""
        known = self.components.get(component)
        if known is None or known.ok != ok:
            self.components[component] = Component(ok, detail, monotonic_s())
        else:
            known.detail = detail

    def take_posts(self, path: str, take: Intake, max_bytes: int) -> None:
        """Hand the bodies of JSON posted to `path` to `take`, at most `max_bytes` long each.

        Only `application/json` is taken: a web page that somebody looks at cannot send that here without asking first.
        """
        self.intakes[path] = _Posted(take, max_bytes)

    @property
    def ready(self) -> bool:
        return bool(self.components) and all(component.ok for component in self.components.values())

    @property
    def live(self) -> bool:
        """The event loop turned within the last seconds."""
        return monotonic_s() - self._beat_s < STALL_S

    def summary(self) -> dict[str, object]:
        now_s = monotonic_s()
        return {
            "service": self.service,
            "pid": os.getpid(),
            "ready": self.ready,
            "uptime_s": round(now_s - self._started_s, 1),
            "event_loop_lag_s": round(self.event_loop_lag_s, 4),
            "components": {
                name: {"ok": component.ok, "detail": component.detail, "for_s": round(now_s - component.since_s, 1)}
                for name, component in sorted(self.components.items())
            },
        }

    async def watch_event_loop(self, every_s: float = 0.5) -> None:
        """Measure how late the event loop runs, for ever."""
        delays = self._expose_metrics()
        while True:
            before_s = monotonic_s()
            await asyncio.sleep(every_s)
            self._beat_s = monotonic_s()
            self.event_loop_lag_s = max(0.0, self._beat_s - before_s - every_s)
            delays.observe_ns(int(self.event_loop_lag_s * 1e9))

    def _expose_metrics(self) -> metrics.Histogram:
        metrics.expose_gauge("tradebot_ready", "What /ready says", {}, lambda: self.ready)
        metrics.expose_gauges(
            "tradebot_component_ok",
            "One part that readiness depends on",
            {},
            ("component",),
            lambda: {(name,): component.ok for name, component in self.components.items()},
        )
        metrics.expose_gauge("tradebot_event_loop_lag_seconds", "How late the event loop ran", {}, lambda: self.event_loop_lag_s)
        return metrics.expose_histogram("tradebot_event_loop_delay_seconds", "How late the event loop ran", {})


class HealthServer:
    """Serve a `Health` over HTTP; `port` is the port in fact used once started."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        self._health = health
        self._host = host
        self.port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; a taken port moves on to an ephemeral one, which the run directory then names."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/live", self._live)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/health", self._summary)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/{path:.*}", self._posted)  # what is taken is known only once the process' main has begun
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        for port in (self.port, 0):
            try:
                site = web.TCPSite(self._runner, self._host, port)
                await site.start()
            except OSError:
                if port == 0:
                    raise
                continue
            break
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        return _json({"live": self._health.live}, ok=self._health.live)

    async def _ready(self, _: web.Request) -> web.Response:
        waiting = [name for name, component in self._health.components.items() if not component.ok]
        return _json({"ready": self._health.ready, "waiting_for": waiting}, ok=self._health.ready)

    async def _summary(self, _: web.Request) -> web.Response:
        return _json(self._health.summary(), ok=True)

    async def _posted(self, request: web.Request) -> web.Response:
        posted = self._health.intakes.get(request.path)
        if posted is None:
            return _answer({"error": "nothing is taken here"}, HTTPStatus.NOT_FOUND)
        if request.content_type != "application/json":
            return _answer({"error": "send application/json"}, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > posted.max_bytes:
                return _answer({"error": f"longer than {posted.max_bytes} bytes"}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        status, answer = await posted.take(bytes(body))
        return _answer(answer, status)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})


def _json(body: dict[str, object], *, ok: bool) -> web.Response:
    return _answer(body, HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE)


def _answer(body: Mapping[str, object], status: HTTPStatus) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
