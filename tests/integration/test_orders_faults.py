"""What a venue can do to an order request, and what must come of it: one order or none with a reason, one request each, nothing guessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from bus.connection import Connection
from common_models import OrderType, Side
from tests.fakes.binance_fake import FakeBinance, Fault
from tests.fakes.trading_desk import Desk
from tests.support.waiting import eventually


@pytest.fixture
async def venue() -> AsyncIterator[FakeBinance]:
    async with FakeBinance().running() as fake:
        yield fake


@pytest.fixture
def desk(tmp_path: Path, valkey_url: str, venue: FakeBinance) -> Desk:
    return Desk(home=tmp_path, url=valkey_url, venue=venue)


LOST_ANSWERS = {
    "closed": Fault(close=True),
    "hangs": Fault(hang=True),
    "late": Fault(delay_s=0.8),
    "not json": Fault(raw="<html>502 Bad Gateway</html>"),
    "truncated": Fault(raw='{"id": 2, "status": 200, "result": {"symbol": "BTC'),
    "no order id": Fault(without="orderId"),
    "no status": Fault(without="status"),
    "no quantity": Fault(without="executedQty"),
    "no client id": Fault(without="clientOrderId"),
}


@pytest.mark.parametrize("fault", LOST_ANSWERS.values(), ids=LOST_ANSWERS.keys())
@pytest.mark.parametrize("silent", [False, True], ids=["event pushed", "no event"])
async def test_an_accepted_order_whose_answer_is_lost_is_found_and_never_sent_again(
    desk: Desk, venue: FakeBinance, fault: Fault, silent: bool
) -> None:
    fields = {name: getattr(fault, name) for name in ("delay_s", "close", "hang", "raw", "without")}
    venue.faults.append(Fault(**fields, silent=silent))
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        found = await desk.reaches(command, "OPEN")

    assert found.exchange_order_id == "1"
    assert venue.places == {desk.id_of(command): 1}
    assert len(venue.orders) == 1


@pytest.mark.parametrize("fault", [Fault(accept=False, close=True), Fault(accept=False, hang=True)], ids=["closed", "hangs"])
async def test_an_order_that_never_arrived_is_unknown_until_proved_dead(desk: Desk, venue: FakeBinance, fault: Fault) -> None:
    venue.faults.append(fault)
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        unknown = await desk.reaches(command, "UNKNOWN")
        blocked = desk.order()
        await desk.give(blocked)
        refused = await desk.reaches(blocked, "REJECTED")
        end = await desk.reaches(command, "REJECTED")
        free_again = desk.order()
        await desk.give(free_again)
        await desk.reaches(free_again, "OPEN")

    assert unknown.filled_quantity == 0
    assert refused.code == "UNKNOWN_EXPOSURE"
    assert end.code == "NOT_PLACED"
    assert venue.places[desk.id_of(command)] == 1


@pytest.mark.parametrize(
    "error", [(503, -1000, "Service Unavailable."), (500, -1006, "x"), (408, -1007, "Timeout"), (400, -1001, "Internal error")]
)
async def test_errors_that_do_not_say_what_happened_leave_the_order_unknown(
    desk: Desk, venue: FakeBinance, error: tuple[int, int, str]
) -> None:
    venue.faults.append(Fault(error=error))
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        await desk.reaches(command, "UNKNOWN")
        assert (await desk.reaches(command, "REJECTED")).code == "NOT_PLACED"
    assert venue.places[desk.id_of(command)] == 1


async def test_an_order_that_filled_before_its_lost_answer_is_one_order(desk: Desk, venue: FakeBinance) -> None:
    """Class C: the id of a filled order is free again, so a blind resend would buy twice (O06)."""
    venue.faults.append(Fault(close=True, fill=True, silent=True))
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        end = await desk.reaches(command, "FILLED")
        await eventually(lambda: sorted(desk.fills()) == ["1"])

    assert end.filled_quote == Decimal(100)
    assert len(venue.orders) == 1


async def test_failed_queries_are_no_evidence_of_absence(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        await eventually(lambda: desk.passes >= 2)  # the first, and the one after the subscription: no other way to find it
        venue.faults.append(Fault(hang=True, silent=True))
        venue.query_faults.extend([Fault(error=(503, -1000, "busy"))] * 12)
        command = desk.order()
        await desk.give(command)
        await desk.reaches(command, "OPEN")
        assert not venue.query_faults
        assert [update.status.value for update in desk.updates(command)] == ["UNKNOWN", "OPEN"]


async def test_an_order_hidden_by_a_lagging_store_is_not_declared_dead(desk: Desk, venue: FakeBinance) -> None:
    venue.faults.append(Fault(hang=True, silent=True))
    venue.hide_orders = True
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        await eventually(lambda: venue.requests["rest query"] >= 2)
        venue.hide_orders = False
        await desk.reaches(command, "OPEN")


async def test_a_refused_time_stamp_is_measured_anew_and_sent_once_more(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        venue.clock_offset_ms = 10_000
        command = desk.order()
        await desk.give(command)
        await desk.reaches(command, "OPEN")
    assert venue.places == {desk.id_of(command): 1}  # the refused one did not get that far


async def test_after_a_jump_of_the_venues_clock_questions_and_subscriptions_work_again(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        await desk.reaches(command, "OPEN")
        venue.clock_offset_ms = -20_000
        await venue.drop_sockets()
        venue.fill(venue.orders[0], "1", silent=True)
        await desk.reaches(command, "FILLED")
        await eventually(lambda: len(venue.subscribed) == 1)


async def test_a_clock_that_is_refused_again_and_again_stops_new_orders(desk: Desk, venue: FakeBinance) -> None:
    venue.faults.extend([Fault(error=(400, -1021, "Timestamp for this request is outside of the recvWindow."))] * 10)
    async with desk.serving():
        ends = []
        for _ in range(4):
            command = desk.order()
            await desk.give(command)
            ends.append((await desk.reaches(command, "REJECTED")).code)
    assert ends[0] == "-1021"
    assert ends[-1] == "CLOCK_UNTRUSTED"
    assert venue.requests["ws order.place"] <= 4


async def test_a_refused_signature_stops_all_orders_until_a_person_resumes(desk: Desk, venue: FakeBinance) -> None:
    venue.faults.append(Fault(error=(400, -1022, "Signature for this request is not valid.")))
    async with desk.serving():
        first, second = desk.order(), desk.order()
        await desk.give(first)
        assert (await desk.reaches(first, "REJECTED")).code == "-1022"
        await desk.give(second)
        assert (await desk.reaches(second, "REJECTED")).code == "VENUE_REFUSES_KEY"
    assert venue.requests["ws order.place"] == 1
    assert "VENUE_REFUSES_KEY" in desk.alerts()


async def test_a_rate_limit_answer_means_silence(desk: Desk, venue: FakeBinance) -> None:
    venue.faults.append(Fault(error=(429, -1003, "Too much request weight used.")))
    async with desk.serving():
        first, second = desk.order(), desk.order()
        await desk.give(first)
        assert (await desk.reaches(first, "REJECTED")).code == "RATE_LIMITED"
        before = venue.requests.total()
        await desk.give(second)
        assert (await desk.reaches(second, "REJECTED")).code == "RATE_LIMITED"
        assert venue.requests.total() == before


async def test_a_duplicate_answer_is_evidence_of_life(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        command = desk.order()
        params = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "100"}
        venue.place(params | {"newClientOrderId": desk.id_of(command)}, silent=True)
        await desk.give(command)
        found = await desk.reaches(command, "OPEN")
        await eventually(lambda: (desk.last(command) or found).exchange_order_id == "1")
    assert len(venue.orders) == 1


async def test_without_a_websocket_orders_go_by_rest_and_are_not_doubled(
    desk: Desk, venue: FakeBinance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.account.USER_DATA_WAIT_S", 0.1)
    venue.refuse_sockets = True
    async with desk.serving():
        plain, lost = desk.order(), desk.order()
        await desk.give(plain)
        await desk.reaches(plain, "OPEN")
        venue.faults.append(Fault(close=True))
        await desk.give(lost)
        await desk.reaches(lost, "OPEN")
        await desk.give(desk.cancel(plain))
        await desk.reaches(plain, "CANCELED")
    assert venue.places == {desk.id_of(plain): 1, desk.id_of(lost): 1}
    assert (venue.requests["rest order.place"], venue.requests["rest order.cancel"]) == (2, 1)


async def test_a_broken_socket_comes_back_and_what_was_missed_is_asked_for(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        await desk.reaches(command, "OPEN")
        await venue.drop_sockets()
        venue.fill(venue.orders[0], "0.25")
        venue.fill(venue.orders[0], "0.75")
        await desk.reaches(command, "FILLED")
        await eventually(lambda: sorted(desk.fills()) == ["1", "2"])
        legs = [status.state.value for status in desk.statuses("user_data")]
    assert "reconnecting" in legs


@pytest.mark.parametrize("event", ["eventStreamTerminated", "serverShutdown"])
async def test_an_ending_event_stream_is_subscribed_anew(desk: Desk, venue: FakeBinance, event: str) -> None:
    async with desk.serving():
        before = venue.requests["ws connect"]
        venue.push({"e": event, "E": 1})
        await eventually(lambda: venue.requests["ws connect"] > before and len(venue.subscribed) >= 1)
        command = desk.order()
        await desk.give(command)
        await desk.reaches(command, "OPEN")


@pytest.mark.parametrize(
    "event", [{"e": "executionReport", "E": 1}, {"e": "balanceUpdate", "a": "BTC", "d": "1"}, {"e": "externalLockUpdate"}]
)
async def test_events_that_tell_too_little_lead_to_asking(desk: Desk, venue: FakeBinance, event: dict[str, object]) -> None:
    async with desk.serving():
        await eventually(lambda: desk.passes >= 2)  # the first, and the one after the subscription
        venue.balances["BTC"] = Decimal(7)
        venue.push(event)
        await eventually(lambda: desk.balances()["BTC"].free == 7)


async def test_somebody_elses_orders_and_fills_are_recorded_as_external(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        params = {
            "symbol": "BTCUSDT",
            "side": "SELL",
            "type": "LIMIT",
            "quantity": "2",
            "price": "300",
            "newClientOrderId": "web_1",
        }
        by_hand = venue.place(params)
        venue.fill(by_hand, "1")
        venue.cancel("web_1")
        again = venue.place(params)  # the id is free again: another order under the same name
        venue.fill(again, "2")
        nameless = venue.place(params | {"newClientOrderId": ""})
        venue.fill(nameless, "2")
        await eventually(lambda: len(desk.fills()) == 3)
    assert sorted(fill.client_order_id for fill in desk.fills().values()) == ["external#3", "web_1", "web_1#2"]
    assert "OPERATOR_REVIEW" not in desk.alerts()
    fill = desk.fills()["1"]
    assert (fill.external, fill.client_order_id, fill.side) == (True, "web_1", Side.SELL)


async def test_when_the_bus_lost_its_data_all_facts_are_published_again(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        command = desk.order(order_type=OrderType.MARKET, price=None)
        await desk.give(command)
        await desk.reaches(command, "FILLED")
        await eventually(lambda: desk.journal.bus_epoch != "" and desk.journal.orders[desk.id_of(command)].published > 0)
        told = len(desk.updates(command))
        bus = await Connection.open(desk.url)
        await bus.command("SET", "simulation:bus-epoch", "another life")
        await eventually(lambda: len(desk.updates(command)) > told)
        bus.close()
    assert "BUS_LOST_DATA" in desk.alerts()


async def test_many_orders_under_random_faults_end_as_exactly_one_or_none(desk: Desk, venue: FakeBinance) -> None:
    faults = [
        Fault(),
        Fault(close=True),
        Fault(),
        Fault(hang=True, silent=True),
        Fault(without="orderId"),
        Fault(fill=True, close=True),
    ]
    async with desk.serving():
        commands = []
        for round_ in range(18):
            venue.faults.append(faults[round_ % len(faults)])
            command = desk.order()
            commands.append(command)
            await desk.give(command)
            await desk.reaches(command, "OPEN", "FILLED", "REJECTED")
            await asyncio.sleep(0)
        for command in commands:
            await desk.reaches(command, "OPEN", "FILLED", "REJECTED", timeout_s=20)
    for command in commands:
        accepted = venue.accepted(desk.id_of(command))
        assert len(accepted) == (0 if desk.status(command) == "REJECTED" else 1), desk.last(command)
        assert venue.places[desk.id_of(command)] <= 1
