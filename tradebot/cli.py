"""The entry point: services start without the weight of the command line; expected failures become one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from runtime.endpoints import NotRunning
from runtime.settings_loader import ConfigError
from tradebot.exit_codes import CommandError, ExitCode
from tradebot.service_commands import service_command

INTERRUPTED = 130


def main() -> None:
    """Run the command in `sys.argv` and leave with its exit code."""
    if service_command(sys.argv[1:]) is None:
        _log_errors_only()
    else:
        _leave_rich_out()
    sys.exit(run(sys.argv[1:]))


def _log_errors_only() -> None:
    """What parts of the system log within a command is its own to tell, but for errors; services set up their own logs."""
    import structlog

    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )


def _leave_rich_out() -> None:
    """structlog imports rich for prettier tracebacks where it finds it: six megabytes in every process for logs that are JSON."""
    sys.modules["rich"] = None  # type: ignore[assignment]


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code (DESIGN.md §7)."""
    try:
        return _run(arguments)
    except CommandError as error:
        return _fail(str(error), error.code)
    except ConfigError as error:
        return _fail(str(error), ExitCode.CONFIG)
    except NotRunning as error:
        return _fail(str(error), ExitCode.NOT_RUNNING)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `tradebot ... | head`: the reader has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK


def _run(arguments: Sequence[str]) -> int:
    service = service_command(arguments)
    if service is not None:
        return service()
    from tradebot.commands.app import app

    try:
        app(args=list(arguments), prog_name="tradebot")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else ExitCode.OK
    return ExitCode.OK


def _fail(text: str, code: ExitCode) -> int:
    sys.stderr.write(f"tradebot: {text}\n")
    return code
