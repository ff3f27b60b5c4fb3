"""`tradebot bus url|tail|lag|dead-letters`."""

from __future__ import annotations

from typing import Annotated

import typer

from bus.streams import Stream
from runtime.endpoints import bus_url
from runtime.settings import Settings
from tradebot.commands.context import AsJson, on_redis, print_json, print_rows, run, say, settings_of
from tradebot.commands.dead_letters import app as dead_letters
from tradebot.exit_codes import CommandError, ExitCode

BLOCK_MS = 2000
TAIL_COUNT = 200

app = typer.Typer(help="The streams between the processes.", no_args_is_help=True)
app.add_typer(dead_letters, name="dead-letters")


@app.command()
def url(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the address, password included.

    redis-cli -u "$(tradebot bus url)" works at once.
    """
    address = bus_url(settings_of(context))
    if as_json:
        print_json({"url": address})
    else:
        say(address)


@app.command()
def tail(
    context: typer.Context,
    kinds: Annotated[list[str] | None, typer.Argument(metavar="KIND", hidden=True)] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=10_000, help="First the newest N of each stream.")] = 0,
    follow: Annotated[bool, typer.Option(help="Go on with what comes; Ctrl-C ends it.")] = True,
    as_json: AsJson = False,
) -> None:
    """Print messages as they come, one line each.

    KIND is such as trades or signals, or the whole name of a stream; all when none.
    """
    settings = settings_of(context)
    run(_tail(settings, _chosen(settings, kinds or []), last, follow=follow, as_json=as_json))


def _chosen(settings: Settings, kinds: list[str]) -> list[Stream]:
    from tradebot.bus_inspection import kind_of, streams_of

    known = streams_of(settings)
    unknown = [kind for kind in kinds if not any(kind in (stream.name, kind_of(stream.name)) for stream in known)]
    if unknown:
        names = ", ".join(sorted({kind_of(stream.name) for stream in known}))
        raise CommandError(f"no stream of kind {', '.join(unknown)}; known: {names}", ExitCode.NOT_FOUND)
    return [stream for stream in known if not kinds or stream.name in kinds or kind_of(stream.name) in kinds]


async def _tail(settings: Settings, streams: list[Stream], last: int, *, follow: bool, as_json: bool) -> None:
    from bus.connection import Connection
    from tradebot.bus_inspection import Entry, entries_after, json_or_text, newest, stream_states

    def show(entry: Entry) -> None:
        if as_json:
            print_json({"stream": entry.stream, "id": entry.entry_id, "message": json_or_text(entry.body)})
        else:
            say(f"{entry.stream}  {entry.entry_id}  {entry.body.decode(errors='replace')}")

    connection = await Connection.open(bus_url(settings), name="tradebot-tail")
    try:
        past = [entry for stream in streams for entry in await newest(connection, stream, last)] if last else []
        after = {stream.name: "0-0" for stream in streams}
        after |= {state.name: state.last_id for state in await stream_states(connection, streams)}
        for entry in sorted(past, key=lambda entry: entry.position):
            show(entry)
            after[entry.stream] = entry.entry_id
        while follow:
            for entry in await entries_after(connection, after, TAIL_COUNT, BLOCK_MS):
                show(entry)
                after[entry.stream] = entry.entry_id
    finally:
        connection.close()


@app.command()
def lag(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the streams, and how far behind their readers are."""
    from bus.lag import measure
    from tradebot.bus_inspection import streams_of

    settings = settings_of(context)
    found = on_redis(settings, lambda redis: measure(redis, streams_of(settings)))
    rows: list[dict[str, object]] = []
    for stream in found:
        base = {"stream": stream.name, "length": stream.length, "bytes": stream.bytes}
        for group in stream.groups:
            state = {"group": group.name, "consumers": group.consumers, "unread": group.lag, "unacknowledged": group.pending}
            rows.append({**base, **state})
        if not stream.groups:
            rows.append({**base, "group": None, "consumers": None, "unread": None, "unacknowledged": None})
    print_rows(rows, as_json=as_json, empty="no streams yet")
