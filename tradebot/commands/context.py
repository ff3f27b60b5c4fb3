"""What every command shares: the settings with the command line's overrides, and how it prints data."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from runtime.endpoints import bus_url
from runtime.settings import Settings
from runtime.settings_loader import load_settings
from tradebot.exit_codes import CommandError, ExitCode

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many rows at most.")]


@dataclass(slots=True)
class Options:
    """The options before the command's name."""

    overrides: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, home: str | None, mode: str | None, pairs: Sequence[str]) -> Options:
        overrides = {}
        for pair in pairs:
            key, separator, value = pair.partition("=")
            if not separator or not all(key.split(".")):
                raise CommandError(f"--set {pair}: write SECTION.KEY=VALUE, such as --set log.level=DEBUG", ExitCode.NOT_FOUND)
            overrides[key] = value
        named = {"home": home, "mode": mode}
        return cls(overrides | {key: value for key, value in named.items() if value is not None})

    @property
    def environment(self) -> dict[str, str]:
        """The overrides as environment variables: what child processes inherit."""
        return {f"TRADEBOT__{key.upper().replace('.', '__')}": value for key, value in self.overrides.items()}


def options_of(context: typer.Context) -> Options:
    options = context.find_object(Options)
    return options if options is not None else Options()


def settings_of(context: typer.Context) -> Settings:
    """The settings in force; raises ConfigError."""
    return load_settings(overrides=options_of(context).overrides)


def run(work: Coroutine[Any, Any, T], passing: tuple[type[Exception], ...] = ()) -> T:
    """Run a command's asynchronous part; a bus that cannot be reached or refuses becomes one line.

    Errors of the types `passing` are the caller's to tell.
    """
    from bus.errors import BusError, BusUnavailable

    try:
        return asyncio.run(work)
    except passing:
        raise
    except BusUnavailable as error:
        raise CommandError(f"the bus does not answer: {error}; `tradebot status` tells what runs", ExitCode.NOT_RUNNING) from None
    except BusError as error:
        raise CommandError(f"the bus refuses: {error}") from None


def on_redis(settings: Settings, work: Callable[[Redis], Awaitable[T]], passing: tuple[type[Exception], ...] = ()) -> T:
    """Do `work` with a client of the bus for control work; errors as in `run`."""
    from redis.exceptions import ConnectionError as Unreachable
    from redis.exceptions import RedisError
    from redis.exceptions import TimeoutError as Late

    from bus.client import open_redis
    from bus.errors import BusError, BusUnavailable

    async def connected() -> T:
        redis = open_redis(bus_url(settings))
        try:
            return await work(redis)
        except (Unreachable, Late) as error:
            raise BusUnavailable(str(error)) from None
        except RedisError as error:
            raise BusError(str(error)) from None
        finally:
            await redis.aclose()

    return run(connected(), passing)


def say(text: str) -> None:
    typer.echo(text)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON; money as text."""
    typer.echo(msgspec.json.encode(value).decode())


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print rows of the same keys: a JSON list, or aligned columns headed by the keys; `empty` when there are none."""
    if as_json:
        print_json(rows)
        return
    if not rows:
        say(empty)
        return
    head = list(rows[0])
    lines = [[name.upper().replace("_", " ") for name in head], *([_cell(row[name]) for name in head] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else str(value)
