"""Structured logs: one JSON object a line to the console and to a rotating file per service, without secrets.

Modules say `log = structlog.get_logger(__name__)` and log dotted event names with key-value context. `bound(correlation_id=...)`
puts a correlation id, and with it the id of the trace, on every line that is logged inside.
"""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from runtime.settings import LogSettings
from runtime.trace_ids import trace_text

HIDDEN = "***"

_SECRET_KEY = re.compile(r"secret|password|passwd|token|api_?key|signature|authorization|credential|dsn", re.IGNORECASE)
_SECRET_TEXT = (
    (re.compile(r"(://[^:/@\s]*:)[^@\s/]+@"), rf"\1{HIDDEN}@"),  # scheme://user:password@host
    (
        re.compile(r"(?i)\b(signature|api_?key|apikey|secret|password|token|listenkey)(['\"]?\s*[=:]\s*['\"]?)[^&\s'\",}]+"),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"/bot\d+:[A-Za-z0-9_-]+"), f"/bot{HIDDEN}"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x1b]")
MAX_TEXT = 8_000


def setup_logging(service: str, settings: LogSettings, directory: Path | None) -> None:
    """Send the logs of this process to standard error and to `directory/service.log`; safe to call once per process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    pretty = settings.console == "pretty" or (settings.console == "auto" and sys.stderr.isatty())
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(_formatter(structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(), shared))
    handlers: list[logging.Handler] = [console]
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(
            directory / f"{service}.log",
            maxBytes=settings.file_mb * 1_000_000,
            backupCount=settings.file_count - 1,
            encoding="utf-8",
        )
        file.setFormatter(_formatter(structlog.processors.JSONRenderer(), shared))
        handlers.append(file)
    logging.raiseExceptions = False  # a full disk must not stop trading: the line is lost, the process goes on
    logging.basicConfig(handlers=handlers, level=settings.level, force=True)
    for noisy in ("asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(service=service)


def _formatter(renderer: structlog.typing.Processor, shared: list[structlog.typing.Processor]) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )


@contextmanager
def bound(**context: str) -> Iterator[None]:
    """Put `context` (such as correlation_id) on every line logged inside."""
    with structlog.contextvars.bound_contextvars(**context):
        yield


def add_trace_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the trace of a line that has a correlation id, so that logs and traces are found from each other."""
    correlation_id = event.get("correlation_id")
    if isinstance(correlation_id, str) and correlation_id:
        event["trace_id"] = trace_text(correlation_id)
    return event


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide values under secret-looking keys and secrets inside texts; cut long texts; escape control characters."""
    for key, value in event.items():
        event[key] = HIDDEN if _SECRET_KEY.search(key) and isinstance(value, str | bytes) else _clean(value)
    return event


def redacted(text: str) -> str:
    """`text` with passwords in URLs, signatures, keys and tokens hidden."""
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", redacted(value[:MAX_TEXT]))
    if isinstance(value, Mapping):
        return {key: HIDDEN if _SECRET_KEY.search(str(key)) else _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, BaseException):
        return _clean(f"{type(value).__name__}: {value}")
    return value
