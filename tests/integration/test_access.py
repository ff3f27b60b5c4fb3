"""The ACL of the bus on a real server with redis/redis.conf: each service can do its work, and is refused what is not its work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bus.client import open_redis
from bus.connection import Connection
from bus.consumer import StreamConsumer
from bus.errors import AuthRefused
from bus.interfaces import Delivery, Unacceptable
from bus.janitor import Janitor
from bus.lag import measure
from bus.publisher import StreamPublisher
from bus.reader import TailReader
from bus.server_checks import check_server
from bus.streams import Stream, Streams
from common_models import AnyMessage
from connectors.bus_epoch import BusEpoch
from connectors.last_values import LastValues
from connectors.lease import HostLock, Lease
from postgres.bus_rules import rules_of
from runtime.settings import Mode, Settings
from tests.support.guarded import GuardedBus, guarded_bus
from tests.support.waiting import eventually
from tests.unit.bus.messages import alert

STREAMS = Streams("simulation")
COMMANDS = STREAMS.commands("binance", "main")
FILLS, POSITIONS = (STREAMS.account("binance", "main", kind) for kind in ("fills", "positions"))
TICKERS = STREAMS.market("binance", "tickers")
SETTINGS = Settings.model_validate({"exchanges": {"binance": {"port": 8001}}})


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBus]:
    with guarded_bus(tmp_path_factory.mktemp("guarded")) as running:
        yield running


# -- what each may do


async def test_a_connector_tells_its_facts_takes_its_commands_and_holds_its_lease(bus: GuardedBus, tmp_path: Path) -> None:
    url = bus.url("connector-binance")
    await speaks(url, TICKERS, FILLS, STREAMS.alerts)
    await consumes(url, bus.url("bot"), COMMANDS)
    await follows(url, bus.url("operator"), STREAMS.control)

    lock = HostLock(tmp_path, "simulation", "binance", "main")
    lease = Lease(lock, lambda: Connection.open(url), "simulation:lease:{binance}:main", "abc", 5.0)
    assert await lease.acquire() == 1
    epoch = BusEpoch(lambda: Connection.open(url), "simulation")
    assert await epoch.read() == await epoch.read()
    await lease.release()
    epoch.close()
    lock.close()

    values = LastValues(url, Mode.SIMULATION, "binance_spot", "USDT")
    connection = await Connection.open(url)
    await connection.command("HSET", values.key("BTC/USDT"), "ltp", "1")
    await connection.command("EXPIRE", values.key("BTC/USDT"), 60)
    connection.close()


async def test_the_bot_decides_and_hears_markets_and_facts(bus: GuardedBus) -> None:
    url = bus.url("bot")
    await speaks(url, STREAMS.signals, STREAMS.decisions, STREAMS.plugins, STREAMS.round_trips, STREAMS.alerts, COMMANDS, POSITIONS)
    await follows(url, bus.url("connector-binance"), TICKERS)
    await consumes(url, bus.url("connector-binance"), FILLS)


async def test_the_recorder_reads_everything_that_is_history_and_sweeps(bus: GuardedBus) -> None:
    await consumes(bus.url("recorder"), bus.url("bot"), STREAMS.signals)
    await consumes(bus.url("recorder"), bus.url("connector-binance"), TICKERS)
    redis = open_redis(bus.url("recorder"))
    report = await Janitor(redis, rules_of(SETTINGS, STREAMS)).sweep()
    for command in (
        redis.xtrim(STREAMS.signals.name, maxlen=1000),
        redis.xgroup_delconsumer(STREAMS.signals.name, "recorder", "nobody"),
    ):
        await command
    await redis.aclose()
    assert report.over_bound == {}


async def test_alerts_hear_what_concerns_people_and_pass_on_what_they_say(bus: GuardedBus) -> None:
    await consumes(bus.url("alerts"), bus.url("connector-binance"), STREAMS.alerts)
    await consumes(bus.url("alerts"), bus.url("connector-binance"), FILLS)
    await speaks(bus.url("alerts"), STREAMS.control, STREAMS.alerts, COMMANDS)


async def test_the_command_line_looks_everywhere_and_the_exporter_measures(bus: GuardedBus) -> None:
    await speaks(bus.url("operator"), STREAMS.control, COMMANDS)
    assert [problem.code for problem in await check_server(bus.url("operator"), "live") if problem.fatal] == []
    for user in ("operator", "exporter"):
        redis = open_redis(bus.url(user))
        assert await redis.info("memory")
        lags = [await redis.xinfo_stream(stream.name) for stream in (STREAMS.signals, COMMANDS)]
        await redis.aclose()
        assert all(lags)
    redis = open_redis(bus.url("operator"))
    assert await measure(redis, STREAMS.shared)
    await redis.aclose()


async def test_traces_only_read(bus: GuardedBus) -> None:
    await follows(bus.url("traces"), bus.url("bot"), STREAMS.signals)
    await follows(bus.url("traces"), bus.url("connector-binance"), FILLS)


async def speaks(url: str, *streams: Stream) -> None:
    """Everything that the publisher does with these streams: single entries and transactions."""
    publisher = StreamPublisher(url, "test")
    await publisher.start()
    for stream in streams:
        publisher.put(stream, alert("one"))
        await publisher.flushed()
        publisher.put_many(stream, [alert("two"), alert("three")])
    assert await publisher.close() == 0


async def consumes(url: str, writer_url: str, stream: Stream) -> None:
    """All that a consumer does: take over what a dead one had in hand, read, park what cannot be handled, acknowledge."""
    group = url.partition("://")[2].partition(":")[0]
    await speaks(writer_url, stream)
    dead = await Connection.open(url)
    await dead.command("XGROUP", "CREATE", stream.name, group, "0", "MKSTREAM")
    await dead.command("XREADGROUP", "GROUP", group, "dead", "COUNT", 2, "STREAMS", stream.name, ">")
    dead.close()
    handled: list[Delivery] = []

    async def handle(deliveries: Sequence[Delivery]) -> None:
        if any(getattr(delivery.message, "text", "") == "two" for delivery in deliveries):
            raise Unacceptable("not this one")
        handled.extend(deliveries)

    stop = asyncio.Event()
    consumer = StreamConsumer(url, [stream], group, "living", block_ms=50, claim_idle_ms=0)
    task = asyncio.create_task(consumer.run(handle, stop))
    await eventually(
        lambda: len(handled) >= 2 and consumer.work is not None and consumer.work.parked, what=f"{group} at {stream.name}"
    )
    stop.set()
    await task


async def follows(url: str, writer_url: str, stream: Stream) -> None:
    """The tail of a stream, from now on."""
    seen: list[AnyMessage] = []
    stop = asyncio.Event()
    reader = TailReader(url, [stream], "0", block_ms=50)
    task = asyncio.create_task(reader.run(lambda _, message: seen.append(message), stop))
    await speaks(writer_url, stream)
    await eventually(lambda: len(seen) >= 3, what=f"followed {stream.name}")
    stop.set()
    await task


# -- what each may not do

SERVICES = ("connector-binance", "bot", "recorder", "alerts", "traces", "exporter")
EVERYBODY = (*SERVICES, "operator")

REFUSED: list[tuple[str, tuple[object, ...]]] = [
    *((user, words) for user in EVERYBODY for words in (
        ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("SHUTDOWN",), ("ACL", "LIST"), ("ACL", "SETUSER", "x"),
        ("CONFIG", "SET", "maxmemory", 1), ("SCRIPT", "FLUSH"), ("REPLICAOF", "127.0.0.1", 1), ("MODULE", "LIST"), ("MONITOR",),
        ("CLIENT", "KILL", "ID", 1), ("CLIENT", "LIST"), ("SAVE",), ("BGREWRITEAOF",), ("FUNCTION", "LIST"), ("RENAME", "a", "b"),
        ("PUBLISH", "x", "y"), ("DUMP", STREAMS.signals.name), ("GET", "other"), ("SET", "other", "1"), ("XADD", "live:commands:{binance}:main", "*", "d", "x"),
        ("XREAD", "STREAMS", "live:signals", "0"),
    )),
    *((user, ("CONFIG", "GET", "*")) for user in SERVICES),
    *((user, ("INFO",)) for user in ("connector-binance", "bot", "alerts", "traces")),
    *((user, ("XADD", COMMANDS.name, "*", "d", "x")) for user in ("connector-binance", "recorder", "traces", "exporter")),
    *((user, ("XADD", FILLS.name, "*", "d", "x")) for user in ("bot", "recorder", "alerts", "traces", "exporter")),
    *((user, ("XADD", TICKERS.name, "*", "d", "x")) for user in ("bot", "recorder", "alerts", "traces", "exporter")),
    *((user, ("XADD", STREAMS.decisions.name, "*", "d", "x")) for user in ("connector-binance", "recorder", "alerts", "traces", "exporter")),
    *((user, ("XADD", STREAMS.control.name, "*", "d", "x")) for user in ("connector-binance", "bot", "recorder", "traces", "exporter")),
    *((user, ("XTRIM", FILLS.name, "MAXLEN", 0)) for user in EVERYBODY if user != "recorder"),
    *((user, ("DEL", COMMANDS.name)) for user in SERVICES),
    *((user, ("XDEL", COMMANDS.name, "1-1")) for user in SERVICES),
    *((user, ("XGROUP", "DESTROY", COMMANDS.name, "connector")) for user in EVERYBODY),
    *((user, ("XACK", COMMANDS.name, "connector", "1-1")) for user in EVERYBODY if user != "connector-binance"),
    *((user, ("XGROUP", "SETID", COMMANDS.name, "connector", "0")) for user in EVERYBODY if user != "connector-binance"),
    *((user, ("DEL", "simulation:lease:{binance}:main")) for user in EVERYBODY if user != "connector-binance"),
    ("connector-binance", ("XREAD", "STREAMS", STREAMS.signals.name, "0")),
    ("connector-binance", ("XADD", "simulation:events:{kraken}:trades", "*", "d", "x")),
    ("connector-binance", ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "simulation:commands:{kraken}:main", ">")),
    ("connector-binance", ("SET", "simulation:lease:{kraken}:main", "x")),
    ("connector-binance", ("XADD", POSITIONS.name, "*", "d", "x")),
    ("bot", ("XREADGROUP", "GROUP", "connector", "c", "STREAMS", COMMANDS.name, ">")),
    ("bot", ("EVAL", "return 1", 0)),
    ("bot", ("HSET", "simulation:binance_spot:BTC", "ltp", "1")),
    ("traces", ("XREADGROUP", "GROUP", "g", "c", "STREAMS", STREAMS.signals.name, ">")),
    ("exporter", ("XREAD", "STREAMS", STREAMS.signals.name, "0")),
    ("exporter", ("XRANGE", STREAMS.signals.name, "-", "+")),
]  # fmt: skip


async def test_each_user_is_refused_what_is_not_its_work(bus: GuardedBus) -> None:
    connections = {user: await Connection.open(bus.url(user)) for user in EVERYBODY}
    done = []
    for user, words in REFUSED:
        try:
            await connections[user].command(*words)  # type: ignore[arg-type]
            done.append((user, words))
        except AuthRefused as error:
            assert error.code == "NOPERM", (user, words, error)
    for connection in connections.values():
        connection.close()
    assert done == []


async def test_a_script_may_do_no_more_than_its_caller(bus: GuardedBus) -> None:
    connection = await Connection.open(bus.url("connector-binance"))
    script = f"return redis.call('XADD', '{COMMANDS.name}', '*', 'd', 'x')"
    with pytest.raises(Exception, match=r"[Nn]o permission|ACL|NOPERM"):
        await connection.command("EVAL", script, 0)
    connection.close()


async def test_a_transaction_with_one_forbidden_entry_stores_nothing(bus: GuardedBus) -> None:
    connection, operator = await Connection.open(bus.url("bot")), await Connection.open(bus.url("operator"))
    allowed, forbidden = STREAMS.alerts.name, STREAMS.control.name
    lengths = [await operator.command("XLEN", name) for name in (allowed, forbidden)]
    answers = [connection.command("MULTI")]
    answers += [connection.command("XADD", name, "*", "d", "x") for name in (allowed, forbidden)]
    outcomes = await asyncio.gather(*answers, connection.command("EXEC"), return_exceptions=True)
    assert str(outcomes[2]).startswith("NOPERM")
    assert str(outcomes[3]).startswith("EXECABORT")
    assert [await operator.command("XLEN", name) for name in (allowed, forbidden)] == lengths
    connection.close()
    operator.close()


@pytest.mark.parametrize("credentials", ["", "bot:@", "bot:wrong@", ":wrong@", "default:@", "nobody:wrong@", "operator:{bot}@"])
async def test_without_the_right_password_nothing_is_answered(bus: GuardedBus, credentials: str) -> None:
    async def forge() -> None:
        connection = await Connection.open(f"redis://{credentials.format(**bus.passwords)}127.0.0.1:{bus.port}/0")
        await connection.command("XADD", COMMANDS.name, "*", "d", "x")

    with pytest.raises(AuthRefused) as refusal:
        await forge()
    assert refusal.value.code in ("NOAUTH", "WRONGPASS")


async def test_http_smuggled_to_the_port_is_cut_off(bus: GuardedBus) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bus.port)
    body = f"XADD {COMMANDS.name} * d x\r\n"
    writer.write(f"POST / HTTP/1.1\r\nHost: redis\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer == b""
