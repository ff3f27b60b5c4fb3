"""The inside of a worker process: takes a request, calls the plugin, answers with one frame. There is one thread only."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Final

from bot.isolation.loading import imports_of, words_of
from bot.isolation.protocol import (
    MAX_TEXT,
    Answer,
    Beat,
    Beaten,
    Done,
    Events,
    FrameReader,
    History,
    Load,
    Loaded,
    Refused,
    Request,
    Save,
    Saved,
    Start,
    Started,
    clipped,
    decode_event,
    pack,
    request_of,
)
from bot.isolation.runner import Runner, StateError
from strategy import Market, PluginError

EXIT_MEMORY: Final = 71
"""How a worker ends that has no memory left to say so."""

EXIT_HANG_UP: Final = 72
"""How it ends when its connection is closed."""

DUMP_SIGNAL: Final = signal.SIGUSR1
"""At this, where the plugin is goes to the log, even out of a call that never returns."""

RECEIVE_BYTES: Final = 16 * 1024

_FORBIDDEN: Final = {
    "os.fork": "processes",
    "os.forkpty": "processes",
    "os.exec": "processes",
    "os.spawn": "processes",
    "os.posix_spawn": "processes",
    "os.system": "processes",
    "subprocess.Popen": "processes",
    "_thread.start_new_thread": "threads",
}
"""Named here so that a person reads what was tried; what really stops it is the system (`limits`)."""


def serve(connection: socket.socket) -> None:
    """Answer requests until the bot goes away; never returns."""
    try:
        _settle()
        _Worker(connection).run()
    except MemoryError:
        os._exit(EXIT_MEMORY)
    except OSError:  # the bot is gone, or the plugin has closed the connection: there is nobody to tell
        os._exit(EXIT_HANG_UP)


def _settle() -> None:
    """Send what the plugin prints to the log as it comes, line by line, and tell the place of a crash there."""
    sys.stdin, sys.stdout, sys.stderr = (
        open(  # noqa: SIM115 as long as the process lives
            number, mode, buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        for number, mode in enumerate("rww")
    )
    faulthandler.enable(file=2, all_threads=False)
    faulthandler.register(DUMP_SIGNAL, file=2, all_threads=False)


class _Worker:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._runner: Runner | None = None
        self._forbidden = ""
        self._calls: dict[type, Callable[[Runner, Any], Answer]] = {
            Events: self._events,
            History: self._history,
            Beat: self._beat,
            Save: self._save,
            Load: self._load,
        }

    def run(self) -> None:
        """Take requests in their order."""
        receive, send = self._connection.recv, self._connection.sendall
        reader = FrameReader(limit=2**31)  # the bot is trusted
        sys.addaudithook(self._hear)
        while data := receive(RECEIVE_BYTES):
            for body in reader.feed(data):
                request = request_of(body)
                if self._runner is not None and type(request) in self._calls:
                    send(pack(self._calls[type(request)](self._runner, request)))
                elif type(request) is Start:
                    self._start(request)
                else:
                    return self._end()
        return self._end()

    def _start(self, request: Start) -> None:
        try:
            markets = [Market(*market) for market in request.markets]
            runner = Runner(request.path, request.code, request.settings, markets, request.memory_mb, _print_error)
            if self._forbidden:
                raise PluginError(f"{request.path}: {self._forbidden}")  # noqa: TRY301 one way to refuse
        except PluginError as error:
            answer: Answer = Refused(request.seq, clipped(str(error), 4 * MAX_TEXT), imports_of(request.code))
        except Exception as error:  # noqa: BLE001 its class, names and settings are its own code, too
            answer = Refused(request.seq, f"{request.path}: {words_of(error)[:MAX_TEXT]}", ())
        else:
            self._runner = runner
            answer = Started(request.seq, runner.facts)
        self._connection.sendall(pack(answer))
        if self._runner is None:
            self._end()

    def _events(self, runner: Runner, request: Events) -> Answer:
        began_ns = perf_counter_ns()
        said, failures = runner.take([(decode_event(data), live) for data, live in request.events])
        if self._forbidden:
            runner.end(self._forbidden)
        return Done(request.seq, said, failures, perf_counter_ns() - began_ns, self._forbidden or runner.over)

    def _history(self, runner: Runner, request: History) -> Answer:
        began_ns = perf_counter_ns()
        if request.first:
            runner.anew(request.market)
        failures = runner.show(request.market, map(decode_event, request.events))
        if self._forbidden:
            runner.end(self._forbidden)
        return Done(request.seq, [], failures, perf_counter_ns() - began_ns, self._forbidden or runner.over)

    def _beat(self, runner: Runner, request: Request) -> Answer:
        text = runner.heartbeat()
        return Beaten(request.seq, text, runner.over or self._forbidden)

    def _save(self, runner: Runner, request: Request) -> Answer:
        try:
            return Saved(request.seq, runner.save())
        except StateError as error:
            return Saved(request.seq, b"", clipped(str(error)))

    def _load(self, runner: Runner, request: Load) -> Answer:
        try:
            runner.load(request.states)
        except StateError as error:
            return Loaded(request.seq, clipped(str(error)))
        return Loaded(request.seq)

    def _hear(self, event: str, _: object) -> None:
        """Python's own word that something is about to happen."""
        what = _FORBIDDEN.get(event)
        if what is not None:
            self._forbidden = self._forbidden or f"tried to start {what}: {event}"
            raise PermissionError(f"a plugin may not start {what}")

    @staticmethod
    def _end() -> None:
        os._exit(0)


def _print_error(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 the log pipe
