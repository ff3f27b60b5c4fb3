"""`tradebot traces`: the way of every order, read from the bus afterwards and sent to an OpenTelemetry collector (OTLP over HTTP).

A process of its own, so that traces cost the others nothing: it follows the lossless streams as a reader without a group, makes
spans of the messages (`bus.trace_spans`) and sends them in batches. A collector that is away is waited for; meanwhile spans are
held up to a bound, and the oldest are dropped and counted. Where it was is kept in the home directory: after a restart it goes on
there, and what is sent twice has the same ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from bus.reader import TailReader
from bus.streams import Stream, Streams
from bus.trace_spans import Span, SpanMaker
from common_models import AnyMessage
from common_models.timestamps import NS_PER_S
from runtime.backoff import Backoff
from runtime.clock import now_ns
from runtime.endpoints import bus_url, write_private
from runtime.metrics import expose_counter, expose_gauge
from runtime.service import Service, ServiceError, run_service
from runtime.settings import Settings
from runtime.settings_loader import ConfigError

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

log = structlog.get_logger(__name__)

NAME: Final = "traces"
DEFAULT_PORT: Final = 5004
MAX_PORT: Final = 65_535
SETTLE_NS: Final = 2 * NS_PER_S
EVERY_S: Final = 0.5
BATCH: Final = 256
MAX_WAITING: Final = 20_000
SEND_TIMEOUT_S: Final = 5.0
LAST_WORDS_S: Final = 3.0

Positions = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Mark:
    """Spans up to here hold everything that was read up to these positions."""

    at_ns: int
    positions: Positions


def run(settings: Settings) -> int:
    """Export until SIGTERM; the exit code of the process."""
    text = os.environ.get("TRADEBOT_TRACES_PORT") or str(DEFAULT_PORT)
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise ConfigError(f"TRADEBOT_TRACES_PORT: not a port: {text[:20]!r}")
    return run_service(NAME, settings, int(text), export)


async def export(service: Service) -> None:
    """Follow the streams and send spans until `service.stop`; raises ServiceError when nobody said where to."""
    endpoint = traces_endpoint(os.environ)
    if not endpoint:
        raise ServiceError("no collector: set TRADEBOT_TRACES_ENDPOINT, such as http://127.0.0.1:4318")
    mode = service.settings.mode.value
    exporter = TraceExporter(Sender(endpoint, mode), SpanMaker(SETTLE_NS))
    path = service.settings.home / NAME / f"{mode}.json"
    reader = TailReader(bus_url(service.settings), streams_of(service.settings, Streams(mode)), _kept(path), NAME)
    exporter.expose()

    async def send() -> None:
        positions = await exporter.send(now_ns())
        if positions is not None:
            write_private(path, msgspec.json.encode(positions).decode())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.run(exporter.take, service.stop), name="read")
        while not service.stop.is_set():
            exporter.mark(reader.positions, now_ns())
            await send()
            service.health.report("collector", not exporter.trouble, exporter.trouble)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(service.stop.wait(), exporter.wait_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await send()


def traces_endpoint(environ: Mapping[str, str]) -> str:
    """Where spans are posted to: our own variable, or OpenTelemetry's; empty when there is none."""
    if exact := environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return exact
    base = environ.get("TRADEBOT_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""
    return f"{base.rstrip('/')}/v1/traces" if base else ""


def streams_of(settings: Settings, streams: Streams) -> list[Stream]:
    """The streams on which the way of an order is told."""
    found = [streams.signals, streams.decisions, streams.round_trips]
    for name, exchange in settings.exchanges.items():
        if exchange.enabled:
            found.append(streams.commands(name, exchange.account))
            found += [streams.account(name, exchange.account, kind) for kind in ("orders", "fills")]
    return found


def _kept(path: os.PathLike[str]) -> str | dict[str, str]:
    """Where the last life of this process was; at first, what comes from now on."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=dict[str, str])
    except FileNotFoundError:
        return "$"
    except msgspec.MsgspecError as error:
        log.warning("traces.position_unreadable", path=str(path), reason=str(error))
        return "$"


class TraceExporter:
    """Messages in, spans out, in order. `trouble` says why the collector does not take them; empty when it does."""

    def __init__(self, sender: Sender, maker: SpanMaker) -> None:
        self.sent = 0
        self.dropped = 0
        self.trouble = ""
        self.wait_s = EVERY_S
        self._sender = sender
        self._maker = maker
        self._backoff = Backoff(first_s=1.0, cap_s=30.0)
        self._waiting: deque[Span | _Mark] = deque()
        self._marks: deque[_Mark] = deque()

    def take(self, _: str, message: AnyMessage) -> None:
        """One message from the reader."""
        self._maker.add(message, now_ns())

    def mark(self, positions: Positions, at_ns: int) -> None:
        """Everything up to these positions has been taken."""
        known = "$" not in positions.values()  # until the first connection, "from now on" is no place
        if known and (not self._marks or self._marks[-1].positions != positions):
            self._marks.append(_Mark(at_ns, dict(positions)))

    async def send(self, at_ns: int) -> Positions | None:
        """Send what is ripe; returns up to where everything has been sent, or None when there is nothing new to say."""
        self._queue(at_ns)
        done: Positions | None = None
        while self._waiting:
            batch = self._next_batch()
            if batch and not await self._sender.send(batch):
                self.trouble = f"the collector does not take spans; {len(self._waiting)} wait"
                self.wait_s = self._backoff.next_s()
                break
            self.trouble, self.wait_s = "", EVERY_S
            self._backoff.reset()
            self.sent += len(batch)
            for _ in batch:
                self._waiting.popleft()
            while self._waiting and isinstance(mark := self._waiting[0], _Mark):
                done = mark.positions
                self._waiting.popleft()
        return done

    def _queue(self, at_ns: int) -> None:
        self._waiting.extend(self._maker.take(at_ns))
        while self._marks and self._marks[0].at_ns + SETTLE_NS <= at_ns:
            self._waiting.append(self._marks.popleft())
        while len(self._waiting) > MAX_WAITING:
            self.dropped += isinstance(self._waiting.popleft(), Span)

    def _next_batch(self) -> list[Span]:
        """The spans before the next mark, BATCH at most."""
        batch: list[Span] = []
        for entry in self._waiting:
            if isinstance(entry, _Mark) or len(batch) == BATCH:
                break
            batch.append(entry)
        return batch

    def expose(self) -> None:
        """Publish the counters."""
        expose_counter("tradebot_traces_spans_sent", "Spans that the collector took", {}, lambda: self.sent)
        expose_counter("tradebot_traces_spans_dropped", "Spans given up because too many waited", {}, lambda: self.dropped)
        expose_gauge("tradebot_traces_spans_waiting", "Spans that wait for the collector", {}, lambda: len(self._waiting))


class Sender:
    """OTLP over HTTP by OpenTelemetry's own exporter, in a thread: it blocks."""

    def __init__(self, endpoint: str, mode: str) -> None:
        self._endpoint = endpoint
        self._mode = mode
        self._exporter: OTLPSpanExporter | None = None

    async def send(self, spans: Sequence[Span]) -> bool:
        """Whether the collector took them all; what went wrong is logged by the exporter."""
        return await asyncio.to_thread(self._send, spans)

    def _send(self, spans: Sequence[Span]) -> bool:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._exporter is None:
            self._exporter = OTLPSpanExporter(endpoint=self._endpoint, timeout=SEND_TIMEOUT_S)
        return self._exporter.export([readable(span, self._mode) for span in spans]) is SpanExportResult.SUCCESS


def readable(span: Span, mode: str) -> ReadableSpan:
    """The span in OpenTelemetry's form."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

    sampled = TraceFlags(TraceFlags.SAMPLED)
    parent = SpanContext(span.trace_id, span.parent_id, is_remote=True, trace_flags=sampled) if span.parent_id else None
    return ReadableSpan(
        name=span.name,
        context=SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=sampled),
        parent=parent,
        resource=_resource(span.service, mode),
        attributes={f"tradebot.{name}": value for name, value in span.attributes.items()},
        events=[Event(name, timestamp=at_ns) for name, at_ns in span.events],
        status=Status(StatusCode.ERROR) if span.failed else Status(StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=span.end_ns,
    )


@lru_cache(maxsize=64)
def _resource(service: str, mode: str) -> Resource:
    from opentelemetry.sdk.resources import Resource

    attributes = {"service.name": service, "service.namespace": "tradebot", "deployment.environment.name": mode}
    return Resource(attributes)
