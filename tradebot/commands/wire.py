"""`tradebot decode`: captured wire messages to normalised events."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tradebot.commands.context import AsJson
from tradebot.exit_codes import CommandError, ExitCode


def register(app: typer.Typer) -> None:
    app.command()(decode)


def decode(
    exchange: Annotated[str, typer.Argument(help="Whose protocol the file holds, such as binance.")],
    file: Annotated[Path, typer.Argument(help="JSON lines {t, conn, dir, raw}, plain or gzip.")],
    as_json: AsJson = False,
) -> None:
    """Turn captured wire messages into normalised events.

    One JSON object a line; a summary goes to standard error, as JSON with --json.
    """
    from connectors.capture import CaptureError
    from connectors.decode import decode_file
    from connectors.registry import UnknownExchange

    if not file.is_file():
        raise CommandError(f"{file}: no such file", ExitCode.NOT_FOUND)
    try:
        summary = decode_file(exchange, file, _write_line)
    except UnknownExchange as error:
        raise CommandError(str(error), ExitCode.NOT_FOUND) from None
    except (CaptureError, OSError) as error:
        raise CommandError(f"{file}: {error}") from None
    _report(summary.messages, summary.rejected, dict(summary.events), summary.unsynced, as_json=as_json)


def _write_line(line: str) -> None:
    sys.stdout.write(line + "\n")


def _report(messages: int, rejected: int, events: dict[str, int], unsynced: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.flush()
        import msgspec

        report = {"messages": messages, "rejected": rejected, "events": events, "unsynced": unsynced}
        sys.stderr.write(msgspec.json.encode(report).decode() + "\n")
        return
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(events.items())) or "no events"
    sys.stderr.write(f"{messages} messages: {counts}; {rejected} rejected\n")
    if unsynced:
        sys.stderr.write(f"books without a snapshot, so never valid: {', '.join(unsynced)}\n")
