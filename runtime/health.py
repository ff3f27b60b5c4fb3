"""What a process says about itself: /live /ready /health /metrics on its port."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import msgspec
from aiohttp import web

from runtime import metrics
from runtime.clock import monotonic_s

STALL_S = 5.0


@dataclass(slots=True)
class Component:
    """One thing that must work, since when it is as it is, and why."""

    ok: bool
    detail: str
    since_s: float


class Health:
    """The components of one process; the process is ready when there is at least one and all are ok."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.components: dict[str, Component] = {}
        self.event_loop_lag_s = 0.0
        self._started_s = monotonic_s()
        self._beat_s = monotonic_s()

    def report(self, component: str, ok: bool, detail: str = "") -> None:
        """Set the state of a component; the time since it changed is kept."""
        known = self.components.get(component)
        if known is None or known.ok != ok:
            self.components[component] = Component(ok, detail, monotonic_s())
        else:
            known.detail = detail

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
        metrics.expose_gauge("tradebot_event_loop_lag_seconds", "How late the event loop ran", {}, lambda: self.event_loop_lag_s)
        while True:
            before_s = monotonic_s()
            await asyncio.sleep(every_s)
            self._beat_s = monotonic_s()
            self.event_loop_lag_s = max(0.0, self._beat_s - before_s - every_s)


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

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})


def _json(body: dict[str, object], *, ok: bool) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=200 if ok else 503, content_type="application/json")
