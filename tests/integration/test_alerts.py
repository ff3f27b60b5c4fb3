"""The alerts process, killed at its worst instants, flooded, and without its database: nobody misses a CRITICAL alert."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import aiohttp
import asyncpg
import msgspec
import pytest

import common_models as cm
from alerts.alert_state import AlertPhase, AlertState
from alerts.durable_tables import DurableTables
from alerts.probing import Probing
from alerts.report import Report
from alerts.rules.models import RuleFile
from alerts.rules.rule_book import RuleBook
from bus.connection import Connection
from bus.publisher import StreamPublisher
from bus.streams import Streams
from postgres import alert_store, migrate
from postgres.pool import Link
from runtime.clock import now_ns
from runtime.settings import PostgresSettings, Settings
from tests.fakes.webhook_receiver import CANARY, Answer, WebhookReceiver
from tests.support.servers import ServerProcess
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
STREAMS = Streams("simulation")
KILLED = 137


class AlertsProcess:
    """`tradebot alerts` on a home of its own, which a test may kill and start again."""

    def __init__(self, home: Path, bus_url: str, database_url: str, hook_url: str) -> None:
        self.home = home
        self.environ = {
            **os.environ,
            "TRADEBOT_HOME": str(home),
            "TRADEBOT__BUS__URL": bus_url,
            "TRADEBOT__POSTGRES__URL": database_url,
            "TRADEBOT__ALERTS__PORT": "0",
            "TRADEBOT__ALERTS__WEBHOOK": "{private_addresses: true, min_level: info, timeout_s: 3}",
            "TRADEBOT__ALERTS__TELEGRAM__MESSAGES_PER_MINUTE": "60",
            "TRADEBOT__EXCHANGES__BINANCE__PORT": "0",
            "ALERTS_WEBHOOK_URL": hook_url,
        }
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, crash: str = "") -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tradebot", "alerts", cwd=ROOT, env={**self.environ, "CHAOS_CRASH": crash},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def ended(self) -> int:
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), 20)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
        return await self.ended()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{(self.home / 'run' / 'alerts.port').read_text()}"

    async def get(self, path: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}") as reply:
            return await reply.text()

    async def post(self, path: str, body: object) -> None:
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}{path}", json=body) as reply:
            assert reply.status == 200

    async def ready(self) -> None:
        async def ready() -> bool:
            try:
                return '"ready":true' in await self.get("/ready")
            except (OSError, aiohttp.ClientError):
                return False

        await eventually(ready, 20, "the alerts process is ready")

    async def cli(self, *words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tradebot", "alert", *words, cwd=ROOT, env=self.environ, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver().running() as running:
        yield running


@pytest.fixture
async def alerts(own_valkey: object, database_url: str, tmp_path: Path, receiver: WebhookReceiver) -> AsyncIterator[AlertsProcess]:
    process = AlertsProcess(tmp_path, own_valkey().url, database_url, receiver.url)
    yield process
    if process.process is not None and process.process.returncode is None:
        await process.stop(signal.SIGKILL)


@pytest.fixture
async def publisher(alerts: AlertsProcess) -> AsyncIterator[StreamPublisher]:
    opened = StreamPublisher(alerts.environ["TRADEBOT__BUS__URL"], "test")
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    await asyncio.to_thread(migrate.upgrade, database_url, "simulation")
    link = Link(lambda: database_url, "simulation", PostgresSettings())
    yield await link.connection()
    await link.close()


def alert(number: int, level: cm.AlertLevel = cm.AlertLevel.CRITICAL) -> cm.Alert:
    text, numbers = f"trouble <{number}>", {"subject": str(number)}
    return cm.Alert(level=level, source="test", code="TROUBLE", text=text, ts_event_ns=now_ns(), numbers=numbers)


def fill(trade_id: str) -> cm.Fill:
    return cm.Fill(
        exchange="binance", account="main", ts_event_ns=now_ns(), ts_recv_ns=now_ns(), trade_id=trade_id, client_order_id="a" * 32,
        exchange_order_id="1", symbol="BTC/USDT", side=cm.Side.BUY, price=Decimal(f"5000{trade_id}"), quantity=Decimal(1),
        quote_quantity=Decimal(50000), fee=Decimal(0), fee_asset="USDT", liquidity=cm.Liquidity.MAKER,
    )  # fmt: skip


def told(receiver: WebhookReceiver) -> Counter[str]:
    return Counter(re.findall(r"trouble <\d+>", receiver.texts))


async def test_whenever_it_is_killed_no_critical_alert_is_lost_and_at_most_the_one_in_flight_is_repeated(
    alerts: AlertsProcess, publisher: StreamPublisher, receiver: WebhookReceiver
) -> None:
    points = (
        "alerts-before-commit:1",
        "alerts-after-commit:1",
        "alerts-before-delivery:1",
        "alerts-after-delivery:1",
        "",
    )
    for turn, point in enumerate(points):
        for number in range(3):
            publisher.put(STREAMS.alerts, alert(3 * turn + number))
        await publisher.flushed()
        await alerts.start(point)
        if point:
            assert await alerts.ended() == KILLED
    await eventually(lambda: len(told(receiver)) == 3 * len(points), 20, "every alert told")
    await alerts.ready()
    assert await alerts.stop() == 0
    repeated = [name for name, count in told(receiver).items() if count > 1]
    messages = Counter(body["number"] for body in receiver.bodies)
    assert [count for count in messages.values() if count > 1] == [2], "one message was in flight at one kill"
    assert max(told(receiver).values()) == 2
    assert repeated


async def test_a_fill_is_told_once_whenever_it_is_killed_and_alertmanager_is_heard(
    alerts: AlertsProcess, publisher: StreamPublisher, receiver: WebhookReceiver
) -> None:
    fills = STREAMS.account("binance", "main", "fills")
    alerts.environ["TRADEBOT__ALERTS__DEDUPE_S"] = "0.001"  # it is the place in the stream that counts, not the words
    await alerts.start("alerts-after-commit:1")  # kept, and not acknowledged
    await alerts.ready()
    publisher.put(fills, fill("1"))
    assert await alerts.ended() == KILLED
    await alerts.start()
    await alerts.ready()
    labels = {"alertname": "TargetDown", "severity": "critical", "job": "bot"}
    firing = {"status": "firing", "labels": labels, "annotations": {"summary": "bot is down"}, "fingerprint": "f"}
    await alerts.post("/alertmanager", {"alerts": [firing]})
    await eventually(lambda: "bot is down" in receiver.texts and "50001" in receiver.texts)
    await alerts.post("/alertmanager", {"alerts": [{**firing, "status": "resolved"}]})
    await eventually(lambda: "Over: bot is down" in receiver.texts)
    assert receiver.bodies[-1]["level"] == "info"
    assert receiver.texts.count("50001") == 1
    assert await alerts.stop() == 0


@pytest.mark.chaos
async def test_a_storm_makes_few_messages_with_every_critical_alert_in_them(
    alerts: AlertsProcess, publisher: StreamPublisher, receiver: WebhookReceiver
) -> None:
    alerts.environ["TRADEBOT__ALERTS__TELEGRAM__MESSAGES_PER_MINUTE"] = "20"
    alerts.environ["TRADEBOT__ALERTS__DIGEST_S"] = "3"
    noise = msgspec.structs.replace(alert(0, cm.AlertLevel.ERROR), code="NOISE")
    for number in range(10_000):
        publisher.put(STREAMS.alerts, msgspec.structs.replace(noise, text=f"noise {number}", numbers={"subject": str(number)}))
        if number % 500 == 0:
            publisher.put(STREAMS.alerts, alert(number))
    await publisher.flushed()
    await alerts.start()
    await eventually(lambda: len(told(receiver)) == 20, 30, "every CRITICAL alert told")
    in_the_next_minute_s = 75
    await eventually(lambda: noises(receiver) == 10_000, in_the_next_minute_s, "the others are counted")
    for index, start_s in enumerate(receiver.times_s):
        assert sum(moment_s < start_s + 59 for moment_s in receiver.times_s[index:]) <= 20, "messages in one minute"
    assert await alerts.stop() == 0


def noises(receiver: WebhookReceiver) -> int:
    """How many of the storm's errors people know of: told one by one, or counted in a digest."""
    told_alone = set(re.findall(r"^(?:ERROR )?noise \d+", receiver.texts, re.MULTILINE))
    return len(told_alone) + sum(map(int, re.findall(r"(\d+) x NOISE: noise", receiver.texts)))


async def test_without_the_database_alerts_go_out_and_it_catches_up(
    alerts: AlertsProcess, publisher: StreamPublisher, receiver: WebhookReceiver, database_url: str
) -> None:
    receiver.answers.extend([Answer(503), Answer(429, {"Retry-After": "0.1"})])
    await alerts.start()
    publisher.put(STREAMS.alerts, alert(1))
    await eventually(lambda: told(receiver), 20)
    await alerts.ready()
    assert "the database is away" in await alerts.get("/health")
    await asyncio.to_thread(migrate.upgrade, database_url, "simulation")
    link = Link(lambda: database_url, "simulation", PostgresSettings())
    connection = await link.connection()

    async def stored() -> list[AlertState]:
        return await alert_store.alert_states(connection, AlertState, 10)

    [state] = await eventually(stored, 20, "the database has caught up")
    assert (state.title, state.phase, state.details) == ("trouble <1>", AlertPhase.OPEN, {"subject": "1"})
    [row] = await eventually(lambda: connection.fetch("SELECT * FROM alert_deliveries"))
    assert (row["channel"], row["outcome"], row["attempts"]) == ("webhook", "delivered", 3)
    assert 'tradebot_alerts_failed_total{channel="webhook"' in re.sub(r"\{.*?channel", "{channel", await alerts.get("/metrics"))
    await link.close()
    assert await alerts.stop() == 0
    for path in alerts.home.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), f"the secret URL is in {path}"


async def test_people_acknowledge_and_resolve_from_outside_also_while_it_does_not_run(
    alerts: AlertsProcess, publisher: StreamPublisher, receiver: WebhookReceiver, database: asyncpg.Connection
) -> None:
    await alerts.start()
    publisher.put(STREAMS.alerts, alert(1))
    publisher.put(STREAMS.alerts, alert(2, cm.AlertLevel.ERROR))

    async def states() -> dict[str, AlertState]:
        return {state.title: state for state in await alert_store.alert_states(database, AlertState, 10)}

    known = await eventually(lambda: states_when(states, lambda found: len(found) == 2), 20)
    first, second = known["trouble <1>"], known["trouble <2>"]
    code, output = await alerts.cli("ack", first.alert_id.upper(), "--json")
    assert code == 0
    assert msgspec.json.decode(output)[0]["phase"] == "acknowledged"
    metric = re.compile(r'tradebot_alerts_open\{[^}]*level="critical"[^}]*\} 0\.0')
    await eventually(lambda: matches(alerts, metric), 10, "the process has heard of it")
    assert await alerts.stop() == 0
    changed = await alert_store.say(database, AlertState, second.alert_id, alert_store.RESOLVED, "anna", now_ns())
    assert changed is not None
    assert await alert_store.say(database, AlertState, "none", alert_store.RESOLVED, "anna", now_ns()) is None
    await alerts.start()
    await alerts.ready()
    error = re.compile(r'tradebot_alerts_open\{[^}]*level="error"[^}]*\} 0\.0')
    await eventually(lambda: matches(alerts, error), 10, "the process has heard of it at its start")
    assert {title: state.phase for title, state in (await states()).items()} == {"trouble <1>": AlertPhase.ACKNOWLEDGED}


async def states_when(read: object, condition: object) -> dict[str, AlertState]:
    found: dict[str, AlertState] = await read()  # type: ignore[operator]
    return found if condition(found) else {}  # type: ignore[operator]


async def matches(alerts: AlertsProcess, pattern: re.Pattern[str]) -> bool:
    return bool(pattern.search(await alerts.get("/metrics")))


async def test_consumers_that_lag_and_dead_letters_are_told(own_valkey: Callable[[], ServerProcess], tmp_path: Path) -> None:
    rules = RuleFile.model_validate(
        {"rules": {"lag": {"kind": "lag", "entries": 3, "for_s": 0}, "letters": {"kind": "dead_letter"}}}
    )
    server, stop = own_valkey(), asyncio.Event()
    reports: list[Report] = []
    tables = DurableTables(tmp_path)
    book = RuleBook(rules.enabled, Settings.model_validate({"home": tmp_path}), tables)
    tables.load()
    for probe in book.probes.values():
        probe.every_s = 0.05
    publisher = StreamPublisher(server.url, "test")
    await publisher.start()
    connection = await Connection.open(server.url)
    await connection.command("XGROUP", "CREATE", STREAMS.alerts.name, "slow", "0", "MKSTREAM")
    probing = Probing(lambda: server.url, reports.extend, book.note_failure)
    tasks = [asyncio.create_task(probing.run(name, probe, stop)) for name, probe in book.probes.items()]
    for number in range(3):
        publisher.put(STREAMS.alerts, alert(number))
    await eventually(lambda: [report.title for report in reports] == ["slow is 3 entries behind on simulation:alerts"])
    await connection.command("XGROUP", "SETID", STREAMS.alerts.name, "slow", "$")
    await eventually(lambda: [report.resolves for report in reports] == [False, True])
    letter = ("stream", "s", "entry_id", "1-1", "group", "bot", "error", "ValueError: x", "payload", b"\x00\xff")
    await connection.command("XADD", STREAMS.dead_letters.name, "*", *letter)
    await eventually(lambda: reports[-1].title == "bot gave up on a message of s: ValueError: x")
    assert book.errors == 0
    stop.set()
    await asyncio.gather(*tasks)
    probing.close()
    connection.close()
    await publisher.close()
