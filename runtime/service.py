"""A process of ours: logging, event loop, signals, health, pid and port files around one `main`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import structlog
import uvloop

from runtime.endpoints import NotRunning, write_private
from runtime.health import Health, HealthServer
from runtime.logs import setup_logging
from runtime.process_metrics import expose_process
from runtime.settings import Settings

log = structlog.get_logger(__name__)

EXIT_OK, EXIT_ERROR, EXIT_NOT_RUNNING = 0, 1, 3


class ServiceError(Exception):
    """The process cannot do its work and says why; it ends with exit code 1 and one line, without a traceback."""


@dataclass(slots=True)
class Service:
    """What a main function is given. `stop` is set by SIGTERM or SIGINT: drain and return; a second signal cancels."""

    name: str
    settings: Settings
    health: Health
    stop: asyncio.Event = field(default_factory=asyncio.Event)


Main = Callable[[Service], Awaitable[None]]


def run_service(name: str, settings: Settings, port: int, main: Main) -> int:
    """Run `main` as the process `name` until it returns; the exit code of the process."""
    setup_logging(name, settings.log, settings.home / "logs")
    try:
        return uvloop.run(_run(name, settings, port, main))
    except KeyboardInterrupt:
        return EXIT_OK


async def _run(name: str, settings: Settings, port: int, main: Main) -> int:
    service = Service(name, settings, Health(name))
    try:
        pid_file = _claim(settings.run_dir / f"{name}.pid", name)
    except ServiceError as error:
        log.error("service.refused", reason=str(error))  # noqa: TRY400 expected: no traceback
        return EXIT_ERROR
    expose_process(name, settings.mode.value, settings.home)
    server = HealthServer(service.health, settings.host, port)
    await server.start()
    if port and server.port != port:
        log.warning("service.port_taken", wanted=port, port=server.port)
    write_private(settings.run_dir / f"{name}.port", str(server.port))
    log.info("service.started", pid=os.getpid(), port=server.port, mode=settings.mode.value)
    watch = asyncio.create_task(service.health.watch_event_loop(), name="event-loop-lag")
    try:
        return await _until_done(service, main)
    finally:
        watch.cancel()
        await server.stop()
        for suffix in ("port", "pid"):
            (settings.run_dir / f"{name}.{suffix}").unlink(missing_ok=True)
        pid_file.close()


def _claim(path: Path, name: str) -> TextIO:
    """The pid file, locked for as long as this process lives: a second one of the same name must not take its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")  # noqa: SIM115 held open on purpose
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = file.read()
        file.close()
        raise ServiceError(f"{name} already runs on this home with pid {pid}: `tradebot status` shows it") from None
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


async def _until_done(service: Service, main: Main) -> int:
    task = asyncio.ensure_future(main(service))
    loop = asyncio.get_running_loop()

    def on_signal(received: signal.Signals) -> None:
        if service.stop.is_set():
            log.warning("service.cancelled", signal=received.name)
            task.cancel()
        else:
            log.info("service.stopping", signal=received.name)
            service.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        await task
    except asyncio.CancelledError:
        if not service.stop.is_set():
            raise
        return EXIT_ERROR  # the drain was cut short by a second signal
    except NotRunning as error:
        log.error("service.refused", reason=str(error))  # noqa: TRY400 expected: no traceback
        return EXIT_NOT_RUNNING
    except Exception as error:
        expected = _expected(error)
        if expected is None:
            log.exception("service.failed")
        else:
            log.error("service.refused", reason=str(expected))  # noqa: TRY400 expected: no traceback
        return EXIT_ERROR
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(RuntimeError):
                loop.remove_signal_handler(number)
    log.info("service.stopped")
    return EXIT_OK


def _expected(error: BaseException) -> ServiceError | None:
    """The ServiceError in an exception, which a task group may have wrapped."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _expected(inner))), None)
    return None
