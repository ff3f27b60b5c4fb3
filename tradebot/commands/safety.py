"""`tradebot halt|resume|pause|continue|cancel-all`: stopping, in two strengths.

The emergency stop works while the bus is down, because it is a file first. A pause is a word to the bot, which keeps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from typing import Annotated

import typer

from common_models import ControlAction
from runtime.clock import now_ns
from runtime.endpoints import NotRunning
from runtime.settings import Settings
from tradebot.commands.context import AsJson, print_json, run, say, settings_of
from tradebot.exit_codes import CommandError, ExitCode

CANCEL_TTL_NS = 60_000_000_000

Reason = Annotated[str, typer.Option(help="Why, for the record.")]


def register(app: typer.Typer) -> None:
    app.command()(halt)
    app.command()(resume)
    app.command()(pause)
    app.command("continue")(continue_entries)
    app.command("cancel-all")(cancel_all)


def halt(
    context: typer.Context,
    reason: Reason = "pressed by hand",
    as_json: AsJson = False,
) -> None:
    """Press the emergency stop: nothing that adds risk is sent.

    Cancels and orders that only reduce still pass. It is durable first (a file that every connector looks at before each order)
    and told to all processes then.
    """
    from runtime import emergency_stop
    from tradebot.control_messages import actor

    settings = settings_of(context)
    with _disk_errors("pressed"):
        state = emergency_stop.press(settings.home, reason, actor())
    told = _tell(settings, ControlAction.HALT, reason)
    if as_json:
        print_json({"pressed": True, "reason": state.reason, "actor": state.actor, "told": told})
    else:
        say(
            "stopped: no new risk is sent" + _untold(told) + "; `tradebot cancel-all` cancels what rests, `tradebot resume` goes on"
        )


def resume(context: typer.Context, as_json: AsJson = False) -> None:
    """Release the emergency stop."""
    from runtime import emergency_stop
    from tradebot.control_messages import actor

    settings = settings_of(context)
    with _disk_errors("released"):
        state = emergency_stop.release(settings.home, actor())
    told = _tell(settings, ControlAction.RESUME, "released by hand")
    if as_json:
        print_json({"pressed": state.pressed, "actor": state.actor, "told": told})
    else:
        say("released: trading goes on" + _untold(told))


def pause(
    context: typer.Context,
    exchange: Annotated[str | None, typer.Argument(help="Only this exchange.")] = None,
    reason: Reason = "by hand",
    as_json: AsJson = False,
) -> None:
    """Enter nothing new; exits, stops and what was begun go on.

    The bot keeps it over restarts, until `tradebot continue`. `tradebot halt` is stronger.
    """
    _steer_entries(settings_of(context), ControlAction.PAUSE, exchange, reason, as_json=as_json)


def continue_entries(
    context: typer.Context,
    exchange: Annotated[str | None, typer.Argument(help="Only this exchange; all when none.")] = None,
    reason: Reason = "by hand",
    as_json: AsJson = False,
) -> None:
    """End a pause. The emergency stop is another thing: `tradebot resume` releases that."""
    _steer_entries(settings_of(context), ControlAction.CONTINUE, exchange, reason, as_json=as_json)


def _steer_entries(settings: Settings, action: ControlAction, exchange: str | None, reason: str, *, as_json: bool) -> None:
    """Tell the bot, and tell the person whether it heard."""
    from tradebot.pausing import in_words, steer_entries

    if exchange is not None and exchange not in settings.exchanges:
        raise CommandError(f"no exchange named {exchange!r} is configured", ExitCode.NOT_FOUND)
    pauses = run(steer_entries(settings, action, exchange, reason))
    if as_json:
        print_json({"action": action.value, "exchange": exchange, "heard": pauses is not None, "pauses": pauses})
    elif pauses is None:
        say("told, but the bot has not shown that it heard: it does when it runs, and `tradebot status` shows whether it does")
    elif pauses:
        say(f"no new entries: {in_words(pauses)}")
    else:
        say("entries are allowed")


def cancel_all(
    context: typer.Context,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol, such as BTC-USDT.")] = None,
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask every connector to cancel its open orders. They are asked only: `tradebot orders --open` shows what is left."""
    from common_models import Symbol, SymbolError

    settings = settings_of(context)
    names = [name for name in settings.exchanges if exchange in (None, name)]
    if not names:
        raise CommandError(f"no exchange named {exchange!r} is configured", ExitCode.NOT_FOUND)
    try:
        wanted = str(Symbol.parse(symbol)) if symbol else None
    except SymbolError as error:
        raise CommandError(str(error), ExitCode.NOT_FOUND) from None
    ids = run(_cancel(settings, names, wanted))
    if as_json:
        print_json({"commands": ids})
    else:
        say(f"asked {', '.join(ids)} to cancel {'all open orders' if wanted is None else wanted}")


async def _cancel(settings: Settings, names: list[str], symbol: str | None) -> dict[str, str]:
    from bus.streams import Streams
    from common_models import CancelAll
    from tradebot.control_messages import actor, one_publisher

    streams, created_ns, ids = Streams(settings.mode.value), now_ns(), {}
    async with one_publisher(settings) as publisher:
        for name in names:
            account = settings.exchanges[name].account
            command_id = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
            command = CancelAll(
                command_id=command_id,
                exchange=name,
                account=account,
                strategy=f"cli:{actor()}",
                created_at_ns=created_ns,
                expires_at_ns=created_ns + CANCEL_TTL_NS,
                symbol=symbol,
            )
            publisher.put(streams.commands(name, account), command)
            ids[name] = command_id
    return ids


def _tell(settings: Settings, action: ControlAction, reason: str) -> bool:
    """Tell all processes by the bus; False when it cannot be reached, which changes nothing about the stop."""
    from tradebot.control_messages import send_control

    try:
        run(send_control(settings, action, reason))
    except (CommandError, NotRunning):
        return False
    return True


@contextlib.contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"the stop could not be {what}: {error}") from None


def _untold(told: bool) -> str:
    return "" if told else " (the bus is down, so only the file says so; connectors look at it before every order)"
