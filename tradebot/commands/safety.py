"""`tradebot halt|resume|cancel-all`: the emergency stop. It works while the bus is down, because it is a file first."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.clock import now_ns
from runtime.endpoints import NotRunning, bus_url
from runtime.settings import Settings
from tradebot.commands.context import AsJson, print_json, run, say, settings_of
from tradebot.exit_codes import CommandError, ExitCode

if TYPE_CHECKING:
    from bus.publisher import StreamPublisher

CANCEL_TTL_NS = 60_000_000_000
ACTOR_LENGTH = 64


def register(app: typer.Typer) -> None:
    app.command()(halt)
    app.command()(resume)
    app.command("cancel-all")(cancel_all)


def halt(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "pressed by hand",
    as_json: AsJson = False,
) -> None:
    """Press the emergency stop: nothing that adds risk is sent.

    Cancels and orders that only reduce still pass. It is durable first (a file that every connector looks at before each order)
    and told to all processes then.
    """
    from connectors import emergency_stop

    settings = settings_of(context)
    with _disk_errors("pressed"):
        state = emergency_stop.press(settings.home, reason, _actor())
    told = _tell(settings, "halt", reason)
    if as_json:
        print_json({"pressed": True, "reason": state.reason, "actor": state.actor, "told": told})
    else:
        say(
            "stopped: no new risk is sent" + _untold(told) + "; `tradebot cancel-all` cancels what rests, `tradebot resume` goes on"
        )


def resume(context: typer.Context, as_json: AsJson = False) -> None:
    """Release the emergency stop."""
    from connectors import emergency_stop

    settings = settings_of(context)
    with _disk_errors("released"):
        state = emergency_stop.release(settings.home, _actor())
    told = _tell(settings, "resume", "released by hand")
    if as_json:
        print_json({"pressed": state.pressed, "actor": state.actor, "told": told})
    else:
        say("released: trading goes on" + _untold(told))


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

    streams, created_ns, ids = Streams(settings.mode.value), now_ns(), {}
    async with _publisher(settings) as publisher:
        for name in names:
            account = settings.exchanges[name].account
            command_id = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
            command = CancelAll(
                command_id=command_id,
                exchange=name,
                account=account,
                strategy=f"cli:{_actor()}",
                created_at_ns=created_ns,
                expires_at_ns=created_ns + CANCEL_TTL_NS,
                symbol=symbol,
            )
            publisher.put(streams.commands(name, account), command)
            ids[name] = command_id
    return ids


def _tell(settings: Settings, action: str, reason: str) -> bool:
    """Tell all processes by the bus; False when it cannot be reached, which changes nothing about the stop."""
    try:
        run(_publish_control(settings, action, reason))
    except (CommandError, NotRunning):
        return False
    return True


async def _publish_control(settings: Settings, action: str, reason: str) -> None:
    from bus.streams import Streams
    from common_models import Control, ControlAction

    async with _publisher(settings) as publisher:
        message = Control(action=ControlAction(action), actor=_actor(), reason=reason, created_at_ns=now_ns())
        publisher.put(Streams(settings.mode.value).control, message)


@contextlib.asynccontextmanager
async def _publisher(settings: Settings) -> AsyncIterator[StreamPublisher]:
    """A publisher for one short command; raises BusUnavailable when there is no bus, or when it did not acknowledge."""
    from bus.connection import Connection
    from bus.errors import BusUnavailable
    from bus.publisher import StreamPublisher

    url = bus_url(settings)
    (await Connection.open(url)).close()  # the publisher itself would wait for the bus
    publisher = StreamPublisher(url, "cli")
    await publisher.start()
    try:
        yield publisher
    finally:
        left = await publisher.close()
    if left:
        raise BusUnavailable(f"{left} messages were not acknowledged")


@contextlib.contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"the stop could not be {what}: {error}") from None


def _untold(told: bool) -> str:
    return "" if told else " (the bus is down, so only the file says so; connectors look at it before every order)"


def _actor() -> str:
    """Who did it, as far as the machine knows."""
    try:
        return getpass.getuser()[:ACTOR_LENGTH]
    except (KeyError, OSError):
        return "unknown"
