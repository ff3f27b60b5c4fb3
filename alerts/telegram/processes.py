"""How the processes do: each is asked for its /health, where it says that it listens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from runtime import http_probe
from runtime.settings import Settings

TIMEOUT_S = 3.0
LISTEN_ON_ALL = frozenset({"0.0.0.0", "::"})  # noqa: S104 compared, not bound
SERVERS = frozenset({"postgres", "valkey"})
"""The bundled servers write down their ports too, and speak no HTTP; what uses them tells how they do."""


class _Component(msgspec.Struct):
    ok: bool
    detail: str = ""


class _Summary(msgspec.Struct):
    ready: bool
    uptime_s: float
    components: dict[str, _Component]


@dataclass(frozen=True, slots=True)
class ProcessHealth:
    """One process. `details` are what its components say of themselves, `troubles` the names of those that do not work."""

    name: str
    answers: bool
    ready: bool = False
    uptime_s: float = 0.0
    troubles: tuple[str, ...] = ()
    details: dict[str, str] | None = None


async def ask_all(settings: Settings) -> list[ProcessHealth]:
    """Every process that has written down its port here; in containers, where each has its own home, those that are configured."""
    written = await asyncio.to_thread(lambda: {path.stem for path in settings.run_dir.glob("*.port")})
    names = (written | _elsewhere(settings).keys()) - SERVERS
    return await asyncio.gather(*(ask(settings, name) for name in sorted(names)))


async def ask(settings: Settings, name: str) -> ProcessHealth:
    """One process; one that is away or says nothing sensible does not answer."""
    try:
        host, port = _address(settings, name)
        _, body = await http_probe.get(host, port, "/health", TIMEOUT_S)
        summary = msgspec.json.decode(body, type=_Summary)
    except (OSError, ValueError, OverflowError):
        return ProcessHealth(name, answers=False)
    return ProcessHealth(
        name,
        answers=True,
        ready=summary.ready,
        uptime_s=summary.uptime_s,
        troubles=tuple(sorted(part for part, component in summary.components.items() if not component.ok)),
        details={part: component.detail for part, component in summary.components.items()},
    )


def on_this_home(settings: Settings, prefix: str) -> bool:
    """Whether a process whose name begins with `prefix` works on this home directory."""
    return any(settings.run_dir.glob(f"{prefix}*.port"))


def _address(settings: Settings, name: str) -> tuple[str, int]:
    """Where a process listens; raises OSError or ValueError when that is not known."""
    try:
        return http_probe.probe_host(settings), int((settings.run_dir / f"{name}.port").read_text())
    except FileNotFoundError:
        elsewhere = _elsewhere(settings)
        if name not in elsewhere:
            raise
        return name, elsewhere[name]


def _elsewhere(settings: Settings) -> dict[str, int]:
    """Processes in other containers by their service's name: only there do our processes listen on all addresses."""
    if settings.host not in LISTEN_ON_ALL:
        return {}
    connectors = {f"connector-{name}": exchange.port for name, exchange in settings.exchanges.items() if exchange.enabled}
    return {"bot": settings.bot.port, "recorder": settings.recorder.port, **connectors}
