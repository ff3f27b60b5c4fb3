"""Which processes a stack has, in which order they start and stop."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from runtime import http_probe
from runtime.settings import ExchangeSettings, Mode, Settings
from tradebot.bundled_server import BundledServer
from tradebot.bundled_servers import bundled_servers
from tradebot.child_environment import child_environment

STOP_STAGES = ("bot", "connector", "recorder", "alerts", "simulator", "migrations", "postgres", "valkey")
"""First those who decide, then those who send, then those who store and tell; last the servers, when nobody writes any more."""
PROBE_TIMEOUT_S = 2.0
SIMULATOR_OFFSET = 1000


def _nothing() -> None:
    """Nothing to prepare, nothing to take back."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How to run one process.

    `needs` must be ready before its first start; `after` should be, but is waited for only so long. `ready` is asked with the pid.
    `once` is work that ends: done is ready. `essential` processes that cannot start at all end the whole start. `port` is where it
    listens in fact, `wanted_port` where it should (0: anywhere), `metrics_port` where it serves /metrics, if it does.
    """

    name: str
    argv: Callable[[], Sequence[str]]
    environment: Mapping[str, str]
    ready: Callable[[int], Awaitable[bool]]
    stop_signal: signal.Signals = signal.SIGTERM
    prepare: Callable[[], None] = _nothing
    retire: Callable[[], None] = _nothing
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    once: bool = False
    essential: bool = False
    port: Callable[[], int | None] = field(default=lambda: None)
    wanted_port: int = 0
    metrics_port: Callable[[], int | None] = field(default=lambda: None)


def stop_stage(name: str) -> int:
    """The place of a process in the order of stopping, by the first part of its name."""
    kind = name.partition("-")[0]
    return STOP_STAGES.index(kind) if kind in STOP_STAGES else 0


def stop_signal(name: str) -> signal.Signals:
    """What asks the process `name` to finish; PostgreSQL's SIGTERM would wait for its clients for ever."""
    return signal.SIGINT if name == "postgres" else signal.SIGTERM


def plan(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[ProcessSpec]:
    """The processes of a stack: bundled servers, simulators, connectors, recorder, alerts and bot, as the settings ask."""
    names = [name for name, exchange in settings.exchanges.items() if exchange.enabled]
    simulators = [f"simulator-{name}" for name in names] if settings.mode is Mode.SIMULATION else []
    connectors = [f"connector-{name}" for name in names]
    servers = bundled_servers(settings, avoid_ports=_service_ports(settings))
    running = {server.name for server in servers}
    bus = ("valkey",) if "valkey" in running else ()
    database = ("postgres",) if "postgres" in running else ()
    specs = [_server(server, child_environment(environ, home=settings.home, mode=settings.mode)) for server in servers]
    service = functools.partial(_service, settings, environ)
    specs.append(service("migrations", ("db", "migrate"), uses_database=True, needs=database, once=True))
    for name in names:
        exchange, simulator = settings.exchanges[name], (f"simulator-{name}",) if simulators else ()
        if simulators:
            specs.append(service(f"simulator-{name}", ("simulator", name), wanted_port=simulator_port(exchange)))
        specs.append(
            service(
                f"connector-{name}",
                ("connector", name),
                uses_bus=True,
                exchange=name,
                needs=bus,
                after=simulator,
                wanted_port=exchange.port,
            )
        )
    recorder_needs = (*bus, "migrations")
    port = settings.recorder.port
    specs.append(service("recorder", ("recorder",), uses_bus=True, uses_database=True, needs=recorder_needs, wanted_port=port))
    if settings.alerts.enabled:
        port = settings.alerts.port
        after = (*database, "migrations")
        specs.append(
            service("alerts", ("alerts",), uses_bus=True, uses_database=True, tells=True, needs=bus, after=after, wanted_port=port)
        )
    specs.append(
        service(
            "bot",
            ("bot",),
            uses_bus=True,
            uses_database=True,  # to warm plugins up; it goes without when it must
            needs=bus,
            after=(*connectors, "recorder"),
            wanted_port=settings.bot.port,
        )
    )
    return specs


def simulator_port(exchange: ExchangeSettings) -> int:
    """Where a simulator speaks its venue's protocol: as set, or the connector's port + 1000; 0 is any free port."""
    return exchange.simulator.port or (exchange.port + SIMULATOR_OFFSET if exchange.port else 0)


def _service_ports(settings: Settings) -> frozenset[int]:
    """Ports that a bundled server must not move onto: a service is about to want them."""
    exchanges = settings.exchanges.values()
    venues = [port for exchange in exchanges for port in (exchange.port, simulator_port(exchange))]
    return frozenset([settings.bot.port, settings.recorder.port, settings.alerts.port, *venues])


def _server(server: BundledServer, environment: Mapping[str, str]) -> ProcessSpec:
    async def ready(pid: int) -> bool:
        return await asyncio.to_thread(server.ready, pid)

    return ProcessSpec(
        name=server.name,
        argv=lambda: server.argv,
        environment=environment,
        ready=ready,
        stop_signal=server.stop_signal,
        prepare=server.prepare,
        retire=server.retire,
        essential=True,
        port=lambda: server.port,
        wanted_port=server.wanted_port,
    )


def _service(
    settings: Settings,
    environ: Mapping[str, str],
    name: str,
    command: Sequence[str],
    *,
    uses_bus: bool = False,
    uses_database: bool = False,
    exchange: str | None = None,
    tells: bool = False,
    needs: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
    once: bool = False,
    wanted_port: int = 0,
) -> ProcessSpec:
    files = [settings.run_dir / f"{name}.{suffix}" for suffix in ("pid", "port", "url")]

    def forget() -> None:
        for file in files:
            file.unlink(missing_ok=True)

    return ProcessSpec(
        name=name,
        argv=lambda: [sys.executable, "-m", "tradebot", *command],
        environment=child_environment(
            environ,
            home=settings.home,
            mode=settings.mode,
            uses_bus=uses_bus,
            uses_database=uses_database,
            exchange=exchange,
            tells=tells,
        ),
        ready=functools.partial(service_ready, settings, name),
        prepare=forget,
        retire=forget,
        needs=needs,
        after=after,
        once=once,
        port=lambda: _service_port(settings, name),
        wanted_port=wanted_port,
        metrics_port=lambda: read_number(settings, f"{name}.port"),
    )


def _service_port(settings: Settings, name: str) -> int | None:
    """Where people reach the service: the venue's protocol of a simulator, health and metrics of the others."""
    try:
        return urlsplit((settings.run_dir / f"{name}.url").read_text()).port
    except (FileNotFoundError, ValueError):
        return read_number(settings, f"{name}.port")


async def service_ready(settings: Settings, name: str, pid: int) -> bool:
    """Whether the process `pid` has written that it is the service `name`, and its /ready says yes."""
    port = read_number(settings, f"{name}.port")
    if port is None or read_number(settings, f"{name}.pid") != pid:
        return False
    try:
        status, _ = await http_probe.get(http_probe.probe_host(settings), port, "/ready", PROBE_TIMEOUT_S)
    except OSError:
        return False
    return status == 200


def read_number(settings: Settings, file: str) -> int | None:
    """The number that a service wrote into the run directory, None when there is none."""
    try:
        return int((settings.run_dir / file).read_text())
    except (FileNotFoundError, ValueError):
        return None
