"""The command line as its users meet it: exit codes, plain errors, data on a real bus and database."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal as signals
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bus.codec import encode
from bus.connection import Connection
from bus.publisher import StreamPublisher
from bus.streams import Streams
from common_models import Decision, Direction, Position, Signal, Verdict
from runtime import emergency_stop
from runtime.settings import Settings
from tests.support.servers import ServerProcess
from tradebot import cli
from tradebot.exit_codes import ExitCode
from tradebot.stack_numbers import StackWatch

REPOSITORY = Path(__file__).resolve().parents[2]
EXCHANGES = "binance:\n  port: 0\n  symbols: [BTC/USDT, ETH/USDT]\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout with one exchange, in which commands run."""
    for name in list(os.environ):
        if name.startswith("TRADEBOT"):
            monkeypatch.delenv(name)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "exchanges.yaml").write_text(EXCHANGES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tradebot(*arguments: str) -> int:
    return cli.run(list(arguments))


def commands() -> list[tuple[str, ...]]:
    """Every command that there is, found by walking the program itself."""
    import typer

    from tradebot.commands.app import app

    def walk(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*path, name))

    return list(walk(typer.main.get_command(app), ()))


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert tradebot(*path, "--help") == ExitCode.OK
    assert "Usage: tradebot" in capsys.readouterr().out


def test_the_fixed_surface_is_there() -> None:
    found = {" ".join(path) for path in commands()}
    wanted = "up down status doctor halt resume cancel-all connector bot recorder simulator orders positions trades balance decode explain"
    assert set(wanted.split()) <= found
    wanted_groups = {
        "config show", "config validate", "db url", "db migrate", "db status", "bus url", "bus tail", "bus lag", "list exchanges",
        "bus dead-letters list", "bus dead-letters show", "bus dead-letters replay", "bus dead-letters drop",
        "list pairs", "list timeframes", "list strategies",
    }  # fmt: skip
    assert wanted_groups <= found


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("status", ExitCode.NOT_RUNNING, "nothing runs"),
        ("status --json", ExitCode.NOT_RUNNING, "nothing runs"),
        ("down", ExitCode.NOT_RUNNING, "nothing runs"),
        ("db url", ExitCode.NOT_RUNNING, "tradebot up"),
        ("bus url", ExitCode.NOT_RUNNING, "tradebot up"),
        ("bus tail", ExitCode.NOT_RUNNING, "tradebot up"),
        ("bus lag", ExitCode.NOT_RUNNING, "tradebot up"),
        ("bus tail nonsense", ExitCode.NOT_FOUND, "no stream of kind nonsense"),
        ("orders", ExitCode.NOT_RUNNING, "tradebot up"),
        ("cancel-all", ExitCode.NOT_RUNNING, "tradebot up"),
        ("cancel-all --symbol nonsense", ExitCode.NOT_FOUND, "not a symbol"),
        ("cancel-all --exchange mtgox", ExitCode.NOT_FOUND, "mtgox"),
        ("connector mtgox", ExitCode.NOT_FOUND, "configured: binance"),
        ("simulator mtgox", ExitCode.NOT_FOUND, "configured: binance"),
        ("decode binance absent.jsonl", ExitCode.NOT_FOUND, "absent.jsonl: no such file"),
        ("decode mtgox config/exchanges.yaml", ExitCode.NOT_FOUND, "no exchange named 'mtgox'"),
        ("nonsense", ExitCode.NOT_FOUND, "No such command"),
        ("orders --nonsense", ExitCode.NOT_FOUND, "No such option"),
        ("orders --limit 0", ExitCode.NOT_FOUND, "--limit"),
        ("--set nonsense config show", ExitCode.NOT_FOUND, "SECTION.KEY=VALUE"),
        ("--set log.level=LOUD config validate", ExitCode.CONFIG, "command line: log.level"),
        ("--mode backwards status", ExitCode.CONFIG, "mode"),
        ("--mode live up", ExitCode.CONFIG, "arming"),
    ],
)
def test_failures_are_one_plain_line_and_an_exit_code(
    checkout: Path, capsys: pytest.CaptureFixture[str], arguments: str, code: ExitCode, words: str
) -> None:
    assert tradebot(*arguments.split()) == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["config validate", "up", "status", "bot", "recorder", "connector binance", "halt", "bus lag"])
def test_a_broken_configuration_names_file_line_and_key(checkout: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    (checkout / "config" / "tradebot.yaml").write_text("log:\n  level: INFO\n  colour: red\n")

    assert tradebot(*command.split()) == ExitCode.CONFIG

    error = capsys.readouterr().err
    assert "tradebot.yaml:3: log.colour: unknown key" in error
    assert "Traceback" not in error


def test_config_show_hides_secrets_and_knows_overrides(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADEBOT__BUS__URL", "redis://:canary@host:1/0")

    assert tradebot("--set", "log.level=DEBUG", "config", "show", "--json") == ExitCode.OK

    text = capsys.readouterr().out
    assert json.loads(text)["log"]["level"] == "DEBUG"
    assert "canary" not in text


def test_lists_are_json_when_asked(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "plugins" / "mine").mkdir(parents=True)
    (checkout / "plugins" / "mine" / "momentum.py").write_text("")
    (checkout / "plugins" / "_ignored.py").write_text("")

    assert tradebot("list", "strategies", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == [{"strategy": "momentum", "mode": "shadow", "file": "mine/momentum.py"}]
    assert tradebot("list", "pairs", "--json") == ExitCode.OK
    assert [row["pair"] for row in json.loads(capsys.readouterr().out)] == ["BTC/USDT", "ETH/USDT"]
    assert tradebot("list", "exchanges") == ExitCode.OK
    assert "binance" in capsys.readouterr().out


def test_the_stop_works_without_a_bus(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tradebot("halt", "--reason", "fat finger") == ExitCode.OK
    state = emergency_stop.read(checkout / ".tradebot")
    assert (state.pressed, state.reason) == (True, "fat finger")
    assert "bus is down" in capsys.readouterr().out

    assert tradebot("doctor", "--json") == ExitCode.ERROR
    stop = next(finding for finding in json.loads(capsys.readouterr().out) if finding["name"] == "stop")
    assert stop["advice"] == "`tradebot resume` releases it"

    assert tradebot("resume", "--json") == ExitCode.OK
    assert not emergency_stop.read(checkout / ".tradebot").pressed
    assert json.loads(capsys.readouterr().out)["told"] is False


@pytest.fixture
def on_bus(checkout: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bus with empty streams, configured as one's own."""
    url = urlsplit(valkey_url)._replace(path="/7").geturl()  # a database that no other test uses: modes have fixed names here
    monkeypatch.setenv("TRADEBOT__BUS__URL", url)

    async def empty() -> None:
        connection = await Connection.open(url)
        await connection.command("FLUSHDB")
        connection.close()

    asyncio.run(empty())
    return url


def signal(reason: str) -> Signal:
    return Signal(
        strategy="ema",
        exchange="binance",
        symbol="BTC/USDT",
        direction=Direction.BUY,
        confidence=0.5,
        strength=0.25,
        reason=reason,
        ts_event_ns=1,
    )


def decision(verdict: Verdict) -> Decision:
    return Decision(
        strategy="ema",
        exchange="binance",
        account="main",
        symbol="BTC/USDT",
        direction=Direction.BUY,
        verdict=verdict,
        code="RISK_LIMIT",
        reason="",
        numbers={},
        signals=(),
        ts_event_ns=1,
    )


def position(realised: str, unrealised: str) -> Position:
    return Position(
        exchange="binance",
        account="main",
        symbol="BTC/USDT",
        strategy="ema",
        ts_event_ns=None,
        ts_recv_ns=1,
        quantity=Decimal("0.01"),
        cost=Decimal(600),
        realised=Decimal(realised),
        unrealised=Decimal(unrealised),
        fees=Decimal("0.25"),
    )


async def put_signals(url: str, *reasons: str) -> None:
    publisher = StreamPublisher(url, "test")
    await publisher.start()
    for reason in reasons:
        publisher.put(Streams("simulation").signals, signal(reason))
    await publisher.close()


def test_bus_tail_prints_messages(on_bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(put_signals(on_bus, "one", "two", "three"))

    assert tradebot("bus", "tail", "signals", "--last", "2", "--no-follow", "--json") == ExitCode.OK

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["message"]["reason"] for row in rows] == ["two", "three"]
    assert {row["stream"] for row in rows} == {"simulation:signals"}


def test_bus_lag_tells_how_far_a_group_is_behind(on_bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def arrange() -> None:
        connection = await Connection.open(on_bus)
        await connection.command("XGROUP", "CREATE", "simulation:signals", "recorder", "0", "MKSTREAM")
        connection.close()
        await put_signals(on_bus, "one", "two")

    asyncio.run(arrange())

    assert tradebot("bus", "lag", "--json") == ExitCode.OK

    row = next(row for row in json.loads(capsys.readouterr().out) if row["group"] == "recorder")
    assert (row["stream"], row["length"], row["unread"], row["unacknowledged"]) == ("simulation:signals", 2, 2, 0)


def test_dead_letters_are_shown_replayed_and_dropped(on_bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def park(*reasons: str) -> list[str]:
        connection = await Connection.open(on_bus)
        ids = []
        for reason in reasons:
            fields = {"stream": "simulation:signals", "entry_id": "1-1", "group": "recorder", "error": "boom", "parked_ns": "1"}
            flat = [word for pair in fields.items() for word in pair]
            reply = await connection.command("XADD", "simulation:dead-letters", "*", *flat, "payload", encode(signal(reason)))
            ids.append(reply.decode())
        connection.close()
        return ids

    first, second, _ = asyncio.run(park("one", "two", "three"))

    assert tradebot("bus", "dead-letters", "list", "--json") == ExitCode.OK
    assert [row["id"] for row in json.loads(capsys.readouterr().out)][:2] == [first, second]
    assert tradebot("bus", "dead-letters", "show", first, "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["message"]["reason"] == "one"
    assert tradebot("bus", "dead-letters", "replay", first) == ExitCode.OK
    assert tradebot("bus", "dead-letters", "drop", second) == ExitCode.OK
    capsys.readouterr()

    assert tradebot("bus", "tail", "signals", "-n", "9", "--no-follow", "--json") == ExitCode.OK
    assert [json.loads(line)["message"]["reason"] for line in capsys.readouterr().out.splitlines()] == ["one"]
    assert tradebot("bus", "dead-letters", "show", first) == ExitCode.NOT_FOUND
    assert tradebot("bus", "dead-letters", "show", "nonsense") == ExitCode.NOT_FOUND
    assert tradebot("bus", "dead-letters", "replay") == ExitCode.NOT_FOUND
    assert tradebot("bus", "dead-letters", "drop", "--all") == ExitCode.OK
    assert "dropped 1 letters" in capsys.readouterr().out


def test_halt_and_cancel_all_reach_the_bus(on_bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tradebot("halt", "--reason", "drill", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["told"] is True
    assert tradebot("cancel-all", "--symbol", "btc-usdt", "--json") == ExitCode.OK
    command_id = json.loads(capsys.readouterr().out)["commands"]["binance"]

    assert tradebot("bus", "tail", "control", "commands", "--last", "9", "--no-follow", "--json") == ExitCode.OK

    control, command = (json.loads(line)["message"] for line in capsys.readouterr().out.splitlines())
    assert (control["action"], control["reason"]) == ("halt", "drill")
    assert (command["kind"], command["symbol"], command["command_id"]) == ("cancel_all", "BTC/USDT", command_id)
    assert command["expires_at_ns"] > time.time_ns()


@pytest.mark.parametrize("command", ["bus lag", "bus tail", "bus dead-letters list", "cancel-all"])
def test_a_dead_bus_is_one_line(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("TRADEBOT__BUS__URL", "redis://127.0.0.1:1/0")

    assert tradebot(*command.split()) == ExitCode.NOT_RUNNING

    error = capsys.readouterr().err
    assert error.startswith("tradebot: the bus does not answer")
    assert error.count("\n") == 1


def test_the_database_is_migrated_and_read(
    checkout: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRADEBOT__POSTGRES__URL", postgres_url)
    monkeypatch.setenv("TRADEBOT__MODE", "paper")  # a schema that no other test of this server uses

    assert tradebot("orders") == ExitCode.ERROR
    assert "tradebot db migrate" in capsys.readouterr().err
    assert tradebot("db", "status") == ExitCode.ERROR
    assert tradebot("db", "migrate") == ExitCode.OK
    assert tradebot("db", "url") == ExitCode.OK
    assert postgres_url in capsys.readouterr().out
    assert tradebot("db", "status", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["rows"]["fills"] == 0
    for command in ("orders", "orders --open", "positions", "trades", "balance"):
        assert tradebot(*command.split()) == ExitCode.OK
        assert ("no open orders" if "--open" in command else "yet") in capsys.readouterr().out
        assert tradebot(*command.split(), "--json") == ExitCode.OK
        assert json.loads(capsys.readouterr().out) == []
    assert tradebot("explain", "nothing") == ExitCode.NOT_FOUND


def test_decode_prints_one_event_a_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trade = {
        "e": "trade",
        "E": 1700000000000,
        "s": "BTCUSDT",
        "t": 7,
        "p": "60000.10",
        "q": "0.5",
        "T": 1700000000000,
        "m": False,
        "M": True,
    }
    line = {"t": 1700000000.5, "conn": "wss://x/stream", "dir": "in", "raw": json.dumps({"stream": "btcusdt@trade", "data": trade})}
    with gzip.open(checkout / "capture.jsonl.gz", "wt") as file:
        file.write(json.dumps(line) + "\n")

    assert tradebot("decode", "binance", "capture.jsonl.gz", "--json") == ExitCode.OK

    output = capsys.readouterr()
    event = json.loads(output.out)
    assert (event["kind"], event["symbol"], Decimal(event["price"])) == ("trade", "BTC/USDT", Decimal("60000.10"))
    assert json.loads(output.err)["messages"] == 1


def test_services_and_help_start_without_what_they_do_not_need() -> None:
    """A connector must not pay for Rich, Typer or SQLAlchemy."""
    code = (
        "import sys; from tradebot import cli, service_commands; service_commands.service_command(['connector', 'binance']); "
        "print([name for name in ('rich', 'typer', 'sqlalchemy', 'asyncpg', 'redis', 'psutil') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.strip() == "[]"


def test_a_closed_pipe_is_no_error(checkout: Path) -> None:
    shell = f"{sys.executable} -m tradebot config show | head -1; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(
        ["bash", "-c", shell], cwd=checkout, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture
def start_up(checkout: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts the real `tradebot up` of the servers alone, and returns when they are ready."""
    (checkout / "config" / "exchanges.yaml").write_text("")
    ports = {f"TRADEBOT__{name}__PORT": "0" for name in ("BUS", "POSTGRES", "RECORDER", "BOT")}
    environment = {**os.environ, **ports, "PYTHONPATH": str(REPOSITORY)}
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tradebot", "up"]
        up = subprocess.Popen(
            command,
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(up)
        assert up.stdout is not None
        seen = ""
        while "postgres is ready" not in seen:
            line = up.stdout.readline()
            assert line, f"up ended: {seen}"
            seen += line
        return up

    yield start
    tradebot("down")
    for up in started:
        up.kill()
        up.wait()
        assert up.stdout is not None
        up.stdout.close()


def test_up_holds_its_home_and_down_waits_until_nothing_is_left(
    checkout: Path, start_up: Callable[[], subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    up = start_up()
    assert tradebot("db", "url") == ExitCode.OK
    assert tradebot("up") == ExitCode.ERROR
    assert f"already in use by `tradebot up`, process {up.pid}" in capsys.readouterr().err

    assert tradebot("down") == ExitCode.OK

    assert up.wait(timeout=30) == ExitCode.OK
    assert tradebot("status") == ExitCode.NOT_RUNNING
    assert not list((checkout / ".tradebot" / "run").glob("*.url"))


def test_what_a_killed_up_leaves_is_told_and_ended_by_the_next_or_by_down(
    checkout: Path, start_up: Callable[[], subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    first = start_up()
    first.kill()
    first.wait()
    assert tradebot("status", "--json") == ExitCode.ERROR
    orphans = {row["process"]: row["pid"] for row in json.loads(capsys.readouterr().out)}
    assert {"valkey", "postgres"} <= set(orphans)

    second = start_up()

    assert tradebot("status", "--json") == ExitCode.OK
    now = {row["process"]: row["pid"] for row in json.loads(capsys.readouterr().out)}
    assert not {orphans["valkey"], orphans["postgres"]} & set(now.values())

    second.kill()
    second.wait()
    command = [sys.executable, "-m", "tradebot", "down"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    down = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (down.returncode, down.stdout) == (ExitCode.OK, "stopped\n")
    assert "valkey (process" in down.stderr
    assert "supervisor.told" not in down.stderr


@pytest.mark.parametrize("number", [signals.SIGINT, signals.SIGTERM, signals.SIGHUP])
def test_every_polite_signal_stops_the_stack(start_up: Callable[[], subprocess.Popen[str]], number: signals.Signals) -> None:
    up = start_up()

    up.send_signal(number)

    assert up.wait(timeout=30) == ExitCode.OK
    assert tradebot("status") == ExitCode.NOT_RUNNING


def test_doctor_is_content_with_a_healthy_stack(on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "plugins").mkdir()
    (checkout / "plugins" / "momentum.py").write_text("")

    code = tradebot("doctor", "--json")

    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert code == ExitCode.OK, findings
    assert findings["bus"]["ok"] is True
    assert findings["plugins"]["text"].startswith("1 files")
    assert findings["database"]["ok"] is None  # nothing to check: not running


def test_doctor_names_what_is_wrong(checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRADEBOT__BUS__URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("TRADEBOT__POSTGRES__URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("TRADEBOT__SUPERVISOR__MIN_FREE_DISK_MB", "999999999")

    assert tradebot("doctor") == ExitCode.ERROR

    lines = capsys.readouterr().out.splitlines()
    for name in ("disk", "bus", "database", "plugins"):
        assert any(line.startswith(f"✘ {name}") for line in lines), name


async def test_the_live_view_counts_what_is_on_the_bus(valkey_url: str, tmp_path: Path) -> None:
    url = urlsplit(valkey_url)._replace(path="/8").geturl()
    settings = Settings.model_validate({"home": tmp_path, "bus": {"url": url}, "exchanges": {"binance": {"port": 8001}}})
    connection = await Connection.open(url)
    await connection.command("FLUSHDB")
    watch = StackWatch(settings, [])
    await watch.refresh()
    assert watch.numbers.reachable

    publisher = StreamPublisher(url, "test")
    await publisher.start()
    streams = Streams("simulation")
    for reason in ("one", "two"):
        publisher.put(streams.signals, signal(reason))
    for verdict in (Verdict.TAKEN, Verdict.DENIED, Verdict.DENIED):
        publisher.put(streams.decisions, decision(verdict))
    publisher.put(streams.account("binance", "main", "positions"), position(realised="5", unrealised="1"))
    publisher.put(streams.account("binance", "main", "positions"), position(realised="7.5", unrealised="-1"))
    await publisher.close()
    await connection.command("XGROUP", "CREATE", "simulation:signals", "recorder", "0")
    await watch.refresh()

    numbers = watch.numbers
    assert numbers.totals["signals"] == 2
    assert numbers.rates["signals"] > 0
    assert [message.reason for message in numbers.signals] == ["two", "one"]
    assert (numbers.taken, numbers.denied) == (1, 2)
    assert numbers.profit == Decimal("6.25")  # the newest state of the position, after its fee of 0.25
    assert numbers.lags == {"recorder": 2}

    connection.close()
    watch.close()


async def test_the_live_view_outlives_its_bus(own_valkey: Callable[[], ServerProcess], tmp_path: Path) -> None:
    server = own_valkey()
    settings = Settings.model_validate({"home": tmp_path, "bus": {"url": server.url}, "exchanges": {"binance": {"port": 8001}}})
    watch = StackWatch(settings, [])
    await watch.refresh()
    assert watch.numbers.reachable

    server.kill()
    await watch.refresh()
    assert not watch.numbers.reachable

    server.start()
    await watch.refresh()
    assert watch.numbers.reachable
    watch.close()
