"""`tradebot bus dead-letters list|show|replay|drop`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tradebot.commands.context import AsJson, Limit, on_redis, print_json, print_rows, say, settings_of
from tradebot.commands.history import clock
from tradebot.exit_codes import CommandError, ExitCode

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from bus.dead_letters import DeadLetter
    from bus.streams import Stream

T = TypeVar("T")
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)]
All = Annotated[bool, typer.Option("--all", help="Every letter there is.")]
MAX_ERROR_SHOWN = 60

app = typer.Typer(help="Messages that a consumer gave up on after three attempts.", no_args_is_help=True)


@app.command("list")
def list_letters(context: typer.Context, limit: Limit = 100, as_json: AsJson = False) -> None:
    """Print the letters, oldest first."""
    from bus.dead_letters import list_letters as read

    found = _on_letters(context, lambda redis, letters: read(redis, letters, limit))
    rows = [
        {
            "id": item.letter_id,
            "parked": clock(item.parked_ns),
            "stream": item.stream,
            "group": item.group,
            "error": item.error if as_json else item.error[:MAX_ERROR_SHOWN],
        }
        for item in found
    ]
    print_rows(rows, as_json=as_json, empty="no dead letters")


@app.command()
def show(
    context: typer.Context, letter_id: Annotated[str, typer.Argument(help="An id as `list` prints it.")], as_json: AsJson = False
) -> None:
    """Print one letter: whence it came, what was wrong, and the message."""
    from bus.dead_letters import show_letter
    from tradebot.bus_inspection import json_or_text

    item = _on_letters(context, lambda redis, letters: show_letter(redis, letters, _checked(letter_id)))
    text = item.payload.decode(errors="replace")
    fields: dict[str, Any] = {
        "id": item.letter_id,
        "stream": item.stream,
        "entry_id": item.entry_id,
        "group": item.group,
        "parked": clock(item.parked_ns),
        "error": item.error,
        "message": json_or_text(item.payload) if as_json else text,
    }
    if as_json:
        print_json(fields)
        return
    for name, value in fields.items():
        say(f"{name:<9} {value}")


@app.command()
def replay(context: typer.Context, letter_ids: Ids = None, every: All = False, as_json: AsJson = False) -> None:
    """Put letters back into their streams, once the cause is mended.

    ID is as `list` prints it. Groups that took the message before drop the copy.
    """
    from bus.dead_letters import replay_letter

    _for_each(context, "replayed", replay_letter, letter_ids or [], every=every, as_json=as_json)


@app.command()
def drop(context: typer.Context, letter_ids: Ids = None, every: All = False, as_json: AsJson = False) -> None:
    """Delete letters for good; ID is as `list` prints it."""
    from bus.dead_letters import drop_letter

    _for_each(context, "dropped", drop_letter, letter_ids or [], every=every, as_json=as_json)


def _for_each(
    context: typer.Context,
    done: str,
    action: Callable[[Redis, Stream, str], Awaitable[object]],
    letter_ids: list[str],
    *,
    every: bool,
    as_json: bool,
) -> None:
    """Do `action` with the letters named, or with all of them, and tell which."""
    if every == bool(letter_ids):
        raise CommandError("name the letters by id, or say --all", ExitCode.NOT_FOUND)
    wanted = [_checked(letter_id) for letter_id in letter_ids]

    async def work(redis: Redis, letters: Stream) -> list[str]:
        ids = [item.letter_id async for item in _everything(redis, letters)] if every else wanted
        for letter_id in ids:
            await action(redis, letters, letter_id)
        return ids

    ids = _on_letters(context, work)
    if as_json:
        print_json({done: ids})
    else:
        say(f"{done} {len(ids)} letters")


async def _everything(redis: Redis, letters: Stream) -> AsyncIterator[DeadLetter]:
    from bus.dead_letters import list_letters as read

    after = "-"
    while page := await read(redis, letters, 1000, after):
        for item in page:
            yield item
        after = page[-1].letter_id


def _on_letters(context: typer.Context, work: Callable[[Redis, Stream], Awaitable[T]]) -> T:
    """Do `work` with the dead letters of the configured mode; a letter that does not exist is exit code 2."""
    from bus.dead_letters import NoSuchLetter
    from bus.streams import Streams

    settings = settings_of(context)
    letters = Streams(settings.mode.value).dead_letters
    try:
        return on_redis(settings, lambda redis: work(redis, letters), passing=(NoSuchLetter,))
    except NoSuchLetter as error:
        raise CommandError(str(error), ExitCode.NOT_FOUND) from None


def _checked(letter_id: str) -> str:
    milliseconds, _, number = letter_id.partition("-")
    if milliseconds.isdecimal() and number.isdecimal():
        return letter_id
    raise CommandError(
        f"not the id of a dead letter: {letter_id!r}; `tradebot bus dead-letters list` shows them", ExitCode.NOT_FOUND
    )
