"""An OpenTelemetry collector in one file: takes OTLP over HTTP and remembers the spans; it can be told to refuse."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """One span as it arrived."""

    name: str
    service: str
    trace: str
    span: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: dict[str, str]


@dataclass
class Collector:
    """`port` is where it listens; `refusing` answers 503."""

    spans: list[Seen] = field(default_factory=list)
    refusing: bool = False
    requests: int = 0
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def traces(self) -> dict[str, list[Seen]]:
        """The different spans by trace, in order of their end."""
        found: dict[str, dict[str, Seen]] = defaultdict(dict)
        for span in self.spans:
            found[span.trace][span.span] = span
        return {trace: sorted(spans.values(), key=lambda span: span.end_ns) for trace, spans in found.items()}

    async def start(self) -> None:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        if self.refusing:
            return web.Response(status=503)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(entry.value.string_value for entry in resource.resource.attributes if entry.key == "service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = {entry.key: entry.value.string_value for entry in span.attributes}
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    times = (span.start_time_unix_nano, span.end_time_unix_nano)
                    self.spans.append(Seen(span.name, service, *ids, *times, attributes))
        return web.Response(body=b"", content_type="application/x-protobuf")
