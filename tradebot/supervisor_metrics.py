"""What the supervisor tells of the processes it keeps, on a port of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer

from runtime import metrics
from runtime.process_metrics import expose_process
from runtime.settings import Settings
from tradebot.managed_process import ManagedProcess, State
from tradebot.orphans import SUPERVISOR

REQUEST_TIMEOUT_S = 2.0


class SupervisorMetrics:
    """Serves /metrics from a thread, one request at a time: the supervisor stays without a web framework."""

    def __init__(self, settings: Settings, processes: Sequence[ManagedProcess]) -> None:
        self._processes = processes
        self._server = _Server(settings.host)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        expose_process(SUPERVISOR, settings.mode.value, settings.home)
        metrics.expose_counters(
            "tradebot_process_restarts",
            "Times that the supervisor started it again",
            {},
            ("process",),
            lambda: {(process.spec.name,): process.restarts for process in self._processes},
        )
        metrics.expose_gauges(
            "tradebot_process_state",
            "1 for the state that the process is in",
            {},
            ("process", "state"),
            lambda: {(process.spec.name, state.value): process.state is state for process in self._processes for state in State},
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Serve no more; at most one request is waited for."""
        self._server.shutdown()
        self._server.server_close()


class _Server(TCPServer):
    """The plain one: `http.server.HTTPServer` would look its own name up in the DNS first."""

    def __init__(self, host: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body = metrics.render()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", metrics.CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class's name
        """Scrapes are not worth a line."""
