"""`tradebot doctor`: one finding per thing that must be right, with advice where it is not."""

from __future__ import annotations

import asyncio
import inspect
import shutil
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec

from runtime.endpoints import NotRunning, bus_url, postgres_url
from runtime.settings import Mode, Settings
from runtime.settings_loader import ConfigError
from tradebot.orphans import SUPERVISOR
from tradebot.ports import is_free
from tradebot.process_lock import ProcessLock
from tradebot.process_plan import read_number, simulator_port

MB = 1_000_000
EARLIEST_NS = 1_767_225_600_000_000_000  # 2026-01-01: a clock before this code was written is wrong
CLOCK_DRIFT_NS = 5_000_000
DATABASE_TIMEOUT_S = 5.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`ok` is None where there was nothing to check, such as the bus of a stack that does not run."""

    name: str
    ok: bool | None
    text: str
    advice: str = ""


Check = Callable[[Settings], Finding | list[Finding] | Awaitable[Finding]]


async def examine(load: Callable[[], Settings]) -> list[Finding]:
    """Every finding. A configuration that cannot be read ends the examination: the rest depends on it."""
    findings = [_python()]
    try:
        settings = load()
    except ConfigError as error:
        return [
            *findings,
            Finding(name="configuration", ok=False, text=str(error), advice="`tradebot config validate` checks again"),
        ]
    exchanges = ", ".join(settings.exchanges) or "no exchange"
    findings.append(Finding(name="configuration", ok=True, text=f"{settings.mode.value} mode, {exchanges}, home {settings.home}"))
    checks: tuple[Check, ...] = (_disk, _clock, _ports, _plugins, _stop, _bus, _database)
    for check in checks:
        result = check(settings)
        found = await result if inspect.isawaitable(result) else result
        findings += found if isinstance(found, list) else [found]
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(name="python", ok=True, text=f"{version} at {sys.executable}")


def _disk(settings: Settings) -> Finding:
    place = next(path for path in (settings.home, *settings.home.absolute().parents) if path.exists())
    free_mb, wanted_mb = shutil.disk_usage(place).free // MB, settings.supervisor.min_free_disk_mb
    ok = free_mb >= wanted_mb
    advice = "" if ok else f"make room; supervisor.min_free_disk_mb is {wanted_mb}"
    return Finding(name="disk", ok=ok, text=f"{free_mb:,} MB free at {place}", advice=advice)


def _clock(_: Settings) -> Finding:
    """Sane without asking the network: after this code was written, and in step with the monotonic clock."""
    before_wall_ns, before_ns = time.time_ns(), time.monotonic_ns()
    time.sleep(0.02)
    drift_ns = abs((time.time_ns() - before_wall_ns) - (time.monotonic_ns() - before_ns))
    if before_wall_ns < EARLIEST_NS:
        return Finding(
            name="clock",
            ok=False,
            text="the clock is in the past",
            advice="set the time, best by NTP: exchanges refuse late requests",
        )
    if drift_ns > CLOCK_DRIFT_NS:
        return Finding(
            name="clock",
            ok=False,
            text=f"the clock jumped by {drift_ns / 1e6:.1f} ms while looked at",
            advice="check the time service",
        )
    return Finding(name="clock", ok=True, text=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def _ports(settings: Settings) -> list[Finding]:
    """Wanted ports that others hold are only moved on from; our own running processes hold theirs by right."""
    if ProcessLock(settings.run_dir, SUPERVISOR).held:
        return [Finding(name="ports", ok=None, text="in use by the running stack, as they should be")]
    taken = [f"{port} ({name})" for name, port in _wanted_ports(settings).items() if port and not is_free("127.0.0.1", port)]
    if taken:
        advice = "they move on to free ones at the start, which `tradebot status` shows; or stop the other program"
        return [Finding(name="ports", ok=None, text=f"taken: {', '.join(taken)}", advice=advice)]
    return [Finding(name="ports", ok=True, text="all free")]


def _wanted_ports(settings: Settings) -> dict[str, int]:
    ports = {"bot": settings.bot.port, "recorder": settings.recorder.port}
    ports |= {"valkey": settings.bus.port} if settings.bus.bundled else {}
    ports |= {"postgres": settings.postgres.port} if settings.postgres.bundled else {}
    for name, exchange in settings.exchanges.items():
        if exchange.enabled:
            ports[f"connector-{name}"] = exchange.port
            if settings.mode is Mode.SIMULATION:
                ports[f"simulator-{name}"] = simulator_port(exchange)
    return ports


def _plugins(settings: Settings) -> Finding:
    folder = settings.bot.plugins_dir
    try:
        files = [path for path in folder.rglob("*.py") if not path.name.startswith(("_", "."))]
        for path in files:
            path.open("rb").close()
    except OSError as error:
        return Finding(
            name="plugins", ok=False, text=f"{folder}: {error}", advice="make the folder readable, or set bot.plugins_dir"
        )
    if not files:
        advice = "put a plugin file there, or set bot.plugins_dir"
        return Finding(name="plugins", ok=False, text=f"no plugins in {folder}: nothing would give signals", advice=advice)
    return Finding(name="plugins", ok=True, text=f"{len(files)} files in {folder}")


def _stop(settings: Settings) -> Finding:
    from runtime import emergency_stop

    state = emergency_stop.read(settings.home)
    if state.pressed:
        text = f"pressed by {state.actor or 'nobody known'}: {state.reason}"
        return Finding(name="stop", ok=False, text=text, advice="`tradebot resume` releases it")
    return Finding(name="stop", ok=True, text="not pressed")


async def _bus(settings: Settings) -> Finding:
    from bus.errors import BusError
    from bus.server_checks import check_server

    try:
        problems = await check_server(bus_url(settings), settings.mode.value)
    except NotRunning:
        return Finding(name="bus", ok=None, text="not running")
    except BusError as error:
        return Finding(name="bus", ok=False, text=str(error), advice=_restart_advice(settings, "valkey"))
    if problems:
        return Finding(
            name="bus",
            ok=False,
            text="; ".join(map(str, problems)),
            advice="change the server's configuration, then start it again",
        )
    return Finding(name="bus", ok=True, text="answers; append-only file on, evicts nothing")


async def _database(settings: Settings) -> Finding:
    import asyncpg

    from postgres.pool import Link
    from postgres.schema import HEAD, SchemaError

    link = Link(lambda: postgres_url(settings), settings.mode.value, settings.postgres)
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_S):
            await link.connection()
    except NotRunning:
        return Finding(name="database", ok=None, text="not running")
    except SchemaError as error:
        return Finding(name="database", ok=False, text=str(error), advice="`tradebot db migrate`")
    except (OSError, asyncpg.PostgresError) as error:
        text = f"does not answer: {error or type(error).__name__}"
        return Finding(name="database", ok=False, text=text, advice=_restart_advice(settings, "postgres"))
    finally:
        link.drop()
    return Finding(name="database", ok=True, text=f"answers; tables at version {HEAD}")


def _restart_advice(settings: Settings, name: str) -> str:
    port = read_number(settings, f"{name}.port")
    own = f"the bundled one wants port {port}; see {settings.home / 'logs' / name}.out" if port else "check its address"
    return f"{own}; `tradebot status` shows what runs"
