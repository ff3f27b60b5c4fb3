"""The gateway without a venue: what is on disk and who was asked before the bytes leave, and what a stop or a full disk does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus.interfaces import Delivery, Retry, Unacceptable
from bus.streams import Streams
from common_models import Alert, Gap, Message, OrderStatus, OrderType, OrderUpdate, PlaceOrder, Side
from connectors.account_events import AccountName
from connectors.account_ledger import AccountLedger
from connectors.client_order_id import ClientOrderIds
from connectors.errors import NotSent, TransientError
from connectors.gateway import OrderGateway
from connectors.journal import Journal
from connectors.journal_records import TrackedOrder, WireRequest
from connectors.order_entry import OrderReport
from connectors.order_parts import OrderParts
from connectors.rate_budget import RateBudget
from connectors.reconcile import ProofRules, Reconciler
from connectors.send_gate import SendGate
from connectors.task_pool import PoolFull, TaskPool
from connectors.venue_clock import VenueClock
from runtime.clock import monotonic_s, now_ns
from runtime.emergency_stop import StopSwitch, press, release
from runtime.settings import Mode
from tests.fakes.trading_desk import BTC
from trading.order_state import Attempted, Doubted, Reported

IDS = ClientOrderIds(Mode.SIMULATION, "abcdef0")


class FakeLease:
    held = True


class FakeEntry:
    """A venue that takes requests and never answers by itself."""

    name, recv_window_s, settle_s, retention_s = "binance", 5.0, 10.0, 3 * 86_400.0

    def __init__(self) -> None:
        self.clock = VenueClock()
        self.sent: list[tuple[int, WireRequest]] = []
        self.answers: list[Any] = []
        self.failure: Exception | None = None
        self.known: OrderReport | None = None
        self.queries = 0

    def place(self, command: PlaceOrder, client_order_id: str, instrument: Any) -> WireRequest:
        return WireRequest(method="order.place", params={"id": client_order_id}, orders=1)

    def send(self, request: WireRequest, timestamp_ms: int, on_answer: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append((time.time_ns(), request))
        self.answers.append(on_answer)

    async def order(self, symbol: str, **_: str) -> OrderReport | None:
        self.queries += 1
        return self.known

    async def open_orders(self) -> list[OrderReport]:
        return []

    async def fills(self, symbol: str, **_: Any) -> list[Any]:
        return []


class Published(list[Message]):
    def put(self, stream: object, message: Message) -> str:
        self.append(message)
        return ""

    def updates(self) -> list[OrderUpdate]:
        return [message for message in self if isinstance(message, OrderUpdate)]


class Bench:
    """A gateway on a real journal and a real stop."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.published = Published()
        self.path = home / "j.journal"
        self.journal = Journal(self.path, sync=False)
        publisher: Any = self.published
        self.ledger = AccountLedger(self.journal, publisher, Streams("simulation"), AccountName("binance", "main"), IDS)
        self.entry = FakeEntry()
        self.lease: Any = FakeLease()
        self.switch = StopSwitch(home)
        self.looked: list[TrackedOrder] = []
        entry: Any = self.entry
        self.pool = TaskPool()
        gate = SendGate(self.lease, self.switch)
        self.gateway = OrderGateway(
            OrderParts(
                entry=entry, ledger=self.ledger, gate=gate, budget=RateBudget(10**9), instruments=lambda: {"BTC/USDT": BTC},
                pool=self.pool, epoch=1, look=self.looked.append,
            )
        )  # fmt: skip
        self.reconciler = Reconciler(entry, self.ledger, lambda: ["BTC/USDT"], ProofRules(rounds=2, span_s=0.0, read_lag_s=0.0))

    def last(self) -> OrderUpdate:
        return self.published.updates()[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.journal.close()
    bench.switch.close()


_count = 0


def place(**changes: Any) -> PlaceOrder:
    global _count  # noqa: PLW0603
    _count += 1
    fields: dict[str, Any] = {
        "command_id": f"{_count:064x}", "exchange": "binance", "account": "main", "strategy": "s", "created_at_ns": now_ns(),
        "expires_at_ns": now_ns() + 10**10, "symbol": "BTC/USDT", "side": Side.BUY, "order_type": OrderType.LIMIT,
        "quantity": Decimal(1), "price": Decimal(100),
    }  # fmt: skip
    return PlaceOrder(**(fields | changes))


def delivered(command: Message) -> list[Delivery]:
    message: Any = command
    return [Delivery("s", "1-1", message)]


async def test_intent_and_sent_are_on_disk_when_the_bytes_leave(bench: Bench) -> None:
    on_disk: list[str] = []
    send = bench.entry.send

    def watched(*arguments: Any) -> None:
        on_disk.append(bench.path.read_text())
        send(*arguments)

    bench.entry.send = watched  # type: ignore[method-assign]
    command = place()
    await bench.gateway.handle(delivered(command))
    assert '"record":"order"' in on_disk[0]
    assert '"fact":"attempted"' in on_disk[0]
    assert IDS.of(command.command_id) in on_disk[0]


async def test_without_the_lease_nothing_is_accepted_and_the_command_stays_on_the_bus(bench: Bench) -> None:
    bench.lease.held = False
    with pytest.raises(Retry):
        await bench.gateway.handle(delivered(place()))
    assert not bench.journal.orders


def test_a_lease_lost_between_accepting_and_sending_forbids_the_send(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bench.journal.about_to_send

    def frozen_meanwhile(order: TrackedOrder, attempt: Attempted) -> None:
        real(order, attempt)
        bench.lease.held = False

    monkeypatch.setattr(bench.journal, "about_to_send", frozen_meanwhile)
    bench.gateway.take(place())
    assert (bench.last().status, bench.last().code) == (OrderStatus.REJECTED, "FENCED")
    assert not bench.entry.sent


def test_a_stop_pressed_between_sent_and_the_bytes_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bench.journal.about_to_send

    def pressed_meanwhile(order: TrackedOrder, attempt: Attempted) -> None:
        real(order, attempt)
        press(bench.home, "now", "me")

    monkeypatch.setattr(bench.journal, "about_to_send", pressed_meanwhile)
    bench.gateway.take(place())
    assert (bench.last().status, bench.last().code) == (OrderStatus.REJECTED, "HALTED")
    assert not bench.entry.sent


async def test_no_order_leaves_after_a_stop_was_acknowledged_however_they_race(bench: Bench) -> None:
    acknowledged: list[tuple[int, int]] = []
    rounds = 60

    def presser() -> None:
        for _ in range(rounds):
            press(bench.home, "race", "thread")
            pressed_ns = time.time_ns()
            time.sleep(0.0005)
            acknowledged.append((pressed_ns, time.time_ns()))
            release(bench.home, "thread")
            time.sleep(0.001)

    thread = threading.Thread(target=presser)
    thread.start()
    while thread.is_alive():
        bench.gateway.take(place())
    thread.join()
    sent_ns = [at_ns for at_ns, _ in bench.entry.sent]
    assert len(sent_ns) > rounds
    for first_ns, last_ns in acknowledged:
        assert not [at_ns for at_ns in sent_ns if first_ns < at_ns < last_ns]


@pytest.mark.parametrize("error", [OSError("broken pipe"), ValueError("?"), TransientError("?"), KeyError("orderId")])
async def test_any_exception_after_the_first_byte_means_unknown(bench: Bench, error: Exception) -> None:
    bench.entry.failure = error
    bench.gateway.take(place())
    assert bench.last().status is OrderStatus.UNKNOWN
    assert len(bench.looked) == 1


async def test_a_full_disk_hands_the_command_back_and_sends_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    command = place()
    real = bench.journal._write

    def full(record: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.journal, "_write", full)
    with pytest.raises(Retry):
        await bench.gateway.handle(delivered(command))
    monkeypatch.setattr(bench.journal, "_write", real)
    monkeypatch.setattr(bench.journal, "about_to_send", lambda *_: full(None))
    with pytest.raises(Retry):
        await bench.gateway.handle(delivered(command))
    assert not bench.entry.sent
    monkeypatch.undo()
    await bench.gateway.handle(delivered(command))
    await bench.gateway.handle(delivered(command))
    assert len(bench.entry.sent) == 1


@pytest.mark.parametrize("changes", [{"symbol": "ETH/USDT"}, {"side": Side.SELL}])
async def test_an_order_of_ours_that_the_venue_calls_another_is_no_evidence_of_life_or_death(
    bench: Bench, changes: dict[str, Any]
) -> None:
    bench.gateway.take(place())
    (order,) = bench.journal.orders.values()
    terms = msgspec.structs.replace(order.terms, **changes)
    filled = Reported(status=OrderStatus.FILLED, at_ns=1, filled_quantity=Decimal(1), filled_quote=Decimal(100))
    bench.entry.known = OrderReport(client_order_id=order.client_order_id, terms=terms, report=filled)

    bench.entry.answers[0](bench.entry.known)
    assert order.state.status is OrderStatus.UNKNOWN
    with pytest.raises(TransientError, match="another order"):
        await bench.reconciler._ask(order)
    assert order.state.status is OrderStatus.UNKNOWN
    assert bench.ledger.contradictions == 2
    assert [message.code for message in bench.published if isinstance(message, Alert)] == ["CONTRADICTION"] * 2


async def test_an_answer_about_another_order_is_no_answer(bench: Bench) -> None:
    bench.gateway.take(place())
    order = next(iter(bench.journal.orders.values()))
    wrong = OrderReport(client_order_id="5" * 32, terms=order.terms, report=Reported(status=OrderStatus.FILLED, at_ns=1))
    bench.entry.answers[0](wrong)
    assert bench.last().status is OrderStatus.UNKNOWN


async def test_a_command_of_another_account_and_what_is_no_command_are_refused_and_a_gap_is_told(bench: Bench) -> None:
    with pytest.raises(Unacceptable, match="other"):
        bench.gateway.take(place(account="other"))
    with pytest.raises(Unacceptable):
        bench.gateway.take(Alert(level="info", source="s", code="c", text="t", ts_event_ns=1))  # type: ignore[arg-type]
    bench.gateway.take(Gap(exchange="binance", symbol="", stream="s", reason="trimmed", from_ns=1, to_ns=2, ts_recv_ns=3, count=4))
    assert [message.code for message in bench.published if isinstance(message, Alert)] == ["COMMANDS_LOST"]


async def test_a_command_older_than_the_journals_memory_is_not_answered_by_guessing(bench: Bench) -> None:
    bench.journal.forgot_until_ns = now_ns() + 10**9
    with pytest.raises(Unacceptable, match="not in the journal"):
        bench.gateway.take(place(expires_at_ns=now_ns() - 1))
    assert not bench.published


async def test_the_second_way_is_refused_when_it_cannot_connect_either(bench: Bench) -> None:
    bench.entry.failure = NotSent("no websocket")

    async def unreachable(*_: Any) -> OrderReport:
        raise NotSent("no connection")

    bench.entry.send_second_way = unreachable  # type: ignore[attr-defined]
    bench.gateway.take(place())
    await bench.pool.idle(1.0)
    assert (bench.last().status, bench.last().code) == (OrderStatus.REJECTED, "VENUE_UNREACHABLE")


async def test_an_order_older_than_the_venues_memory_is_left_to_a_person(bench: Bench) -> None:
    order = bench.journal.accept_order("5" * 32, place(), None, 1)
    old_ns = now_ns() - 4 * 86_400 * 10**9
    bench.ledger.learn(order, [Attempted(attempt=1, deadline_ns=old_ns), Doubted(attempt=1, reason="?")])
    bench.entry.clock.observe(monotonic_s(), now_ns(), monotonic_s())
    for due in bench.reconciler._in_doubt():
        await bench.reconciler._search(due)
    assert (bench.last().status, bench.last().operator_review) == (OrderStatus.UNKNOWN, True)
    assert bench.reconciler._in_doubt() == []
    assert "UNDECIDABLE_ORDER" in [message.code for message in bench.published if isinstance(message, Alert)]


@pytest.mark.parametrize(("passed_s", "dead"), [(9.0, False), (11.0, True)])
async def test_death_is_proved_only_after_deadline_and_the_venues_own_time_out(bench: Bench, passed_s: float, dead: bool) -> None:
    order = bench.journal.accept_order("5" * 32, place(), None, 1)
    deadline_ns = now_ns() - int(passed_s * 1e9)
    bench.ledger.learn(order, [Attempted(attempt=1, deadline_ns=deadline_ns), Doubted(attempt=1, reason="?")])
    search = bench.reconciler._search
    for _ in range(3):
        await search(order)  # the venue's clock is not known yet: no proof
    assert order.state.status is OrderStatus.UNKNOWN
    bench.entry.clock.observe(monotonic_s(), now_ns(), monotonic_s())
    for _ in range(3):
        await search(order)
    assert (order.state.status is OrderStatus.REJECTED) == dead
    assert (order.state.code == "NOT_PLACED") == dead


async def test_a_failed_question_starts_the_proof_anew(bench: Bench) -> None:
    order = bench.journal.accept_order("5" * 32, place(), None, 1)
    bench.ledger.learn(order, [Attempted(attempt=1, deadline_ns=1 + now_ns() - 10**12), Doubted(attempt=1, reason="?")])
    bench.entry.clock.observe(monotonic_s(), now_ns(), monotonic_s())
    real = bench.entry.open_orders

    async def failing() -> list[OrderReport]:
        raise TransientError("no answer")

    for _ in range(4):
        bench.entry.open_orders = real  # type: ignore[method-assign]
        await bench.reconciler._search(order)
        bench.entry.open_orders = failing  # type: ignore[method-assign]
        await bench.reconciler._search(order)
    assert order.state.status is OrderStatus.UNKNOWN


async def test_the_pool_is_bounded_and_a_failing_task_costs_nobody_else(bench: Bench) -> None:
    pool = TaskPool(limit=2)

    async def failing() -> None:
        raise RuntimeError("oops")

    pool.spawn(failing(), "a")
    pool.spawn(failing(), "b")
    with pytest.raises(PoolFull):
        pool.spawn(failing(), "c")
    await pool.idle(1.0)
    assert (len(pool), pool.failures) == (0, 2)


async def test_accepting_and_sending_an_order_is_quick(bench: Bench) -> None:
    """A guard against an await or a scan creeping into the way of an order, with much room for a noisy machine."""
    commands = [place() for _ in range(300)]
    samples = []
    for command in commands:
        before_s = time.perf_counter()
        bench.gateway.take(command)
        samples.append(time.perf_counter() - before_s)
    assert len(bench.entry.sent) == 300
    assert sorted(samples)[150] < 0.001


def test_what_the_bus_was_not_told_is_told_after_a_restart(bench: Bench) -> None:
    bench.gateway.take(place())
    order = next(iter(bench.journal.orders.values()))
    bench.ledger.learn(order, [Reported(status=OrderStatus.OPEN, at_ns=1, exchange_order_id="9")])
    told = msgspec.structs.replace(bench.last(), ts_recv_ns=0)
    bench.journal.close()

    again = Journal(bench.path, sync=False)
    published: Any = Published()
    ledger = AccountLedger(again, published, Streams("simulation"), AccountName("binance", "main"), IDS)
    ledger.republish()
    ledger.republish()
    assert [msgspec.structs.replace(update, ts_recv_ns=0) for update in published.updates()] == [told]
    bench.journal = again
