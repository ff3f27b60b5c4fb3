"""Orders end to end inside one process: real bus, real journal, a scripted Binance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from common_models import AmendOrder, ConnectionState, Control, ControlAction, OrderStatus, OrderType, Side, TimeInForce
from runtime import emergency_stop
from runtime.clock import now_ns
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


async def test_an_order_is_placed_filled_and_told_with_its_fills_and_cause(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        opened = await desk.reaches(command, "OPEN")
        venue.fill(venue.orders[0], "0.4")
        await desk.reaches(command, "PARTIALLY_FILLED")
        venue.fill(venue.orders[0], "0.6")
        done = await desk.reaches(command, "FILLED")

    assert opened.causation_id.startswith("bot-")
    assert (done.filled_quantity, done.filled_quote, done.exchange_order_id) == (Decimal(1), Decimal(100), "1")
    assert sorted(desk.fills()) == ["1", "2"]
    assert venue.requests["ws order.place"] == 1
    assert desk.balances()["USDT"].free == Decimal(100000)
    assert [status.state for status in desk.statuses("orders")][-1] is ConnectionState.STOPPED


@pytest.mark.parametrize(
    ("changes", "wire"),
    [
        ({"order_type": OrderType.MARKET, "price": None}, {"type": "MARKET"}),
        ({"time_in_force": TimeInForce.IOC}, {"type": "LIMIT", "timeInForce": "IOC", "price": "100"}),
        ({"time_in_force": TimeInForce.FOK}, {"type": "LIMIT", "timeInForce": "FOK"}),
        ({"post_only": True}, {"type": "LIMIT_MAKER"}),
        (
            {"order_type": OrderType.STOP_LIMIT, "stop_price": Decimal("101.5"), "side": Side.SELL},
            {"type": "STOP_LOSS_LIMIT", "stopPrice": "101.5", "side": "SELL", "timeInForce": "GTC"},
        ),
    ],
)
async def test_every_kind_of_order_reaches_the_venue_in_its_own_words(
    desk: Desk, venue: FakeBinance, changes: dict[str, object], wire: dict[str, str]
) -> None:
    async with desk.serving():
        command = desk.order(**changes)
        await desk.give(command)
        await desk.reaches(command, "OPEN", "FILLED")

    sent = venue.orders[0].params
    assert {name: sent.get(name) for name in wire} == wire
    assert ("timeInForce" in sent) == (sent["type"] in ("LIMIT", "STOP_LOSS_LIMIT"))
    assert sent["newClientOrderId"] == desk.id_of(command)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": "DOGE/USDT"}, "UNKNOWN_SYMBOL"),
        ({"quantity": Decimal("0.000001")}, "BAD_QUANTITY"),
        ({"price": Decimal("100.001")}, "BAD_PRICE"),
        ({"quantity": Decimal("0.01")}, "BAD_NOTIONAL"),
        ({"price": None}, "BAD_PRICE"),
        ({"post_only": True, "time_in_force": TimeInForce.IOC}, "BAD_POST_ONLY"),
        ({"reduce_only": True}, "BAD_REDUCE_ONLY"),
        ({"expires_at_ns": 1}, "EXPIRED_LOCALLY"),
    ],
)
async def test_a_command_that_cannot_become_an_order_is_closed_with_its_reason_and_never_sent(
    desk: Desk, venue: FakeBinance, changes: dict[str, object], code: str
) -> None:
    async with desk.serving():
        command = desk.order(**changes)
        await desk.give(command)
        end = await desk.reaches(command, "REJECTED", "EXPIRED")

    assert end.code == code
    assert end.reason
    assert end.status is (OrderStatus.EXPIRED if code == "EXPIRED_LOCALLY" else OrderStatus.REJECTED)
    assert not venue.orders


async def test_a_repeated_command_gets_the_same_result_and_a_changed_one_is_a_conflict(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        command = desk.order()
        await desk.give(command, msgspec.structs.replace(command, expires_at_ns=command.expires_at_ns + 1))
        await desk.reaches(command, "OPEN")
        await eventually(lambda: len(desk.updates(command)) >= 2)
        await desk.give(msgspec.structs.replace(command, quantity=Decimal(2)))
        await eventually(lambda: desk.updates(command)[-1].code == "CONFLICT")

    assert len(venue.orders) == 1
    assert desk.updates(command)[-1].status is OrderStatus.OPEN
    assert "COMMAND_CONFLICT" in desk.alerts()


async def test_a_refusal_by_the_venue_is_the_end(desk: Desk, venue: FakeBinance) -> None:
    venue.faults.append(Fault(error=(400, -2010, "Account has insufficient balance for requested action.")))
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        end = await desk.reaches(command, "REJECTED")

    assert (end.code, end.reason) == ("-2010", "Account has insufficient balance for requested action.")
    assert venue.places[desk.id_of(command)] == 1


async def test_cancel_amend_and_cancel_all(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        one, two, three = desk.order(), desk.order(), desk.order()
        await desk.give(one, two, three)
        for command in (one, two, three):
            await desk.reaches(command, "OPEN")
        venue.place(
            {"symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT", "quantity": "1", "price": "200", "newClientOrderId": "by-hand"}
        )

        base = desk.order()
        amend = AmendOrder(
            command_id=base.command_id, exchange="binance", account=desk.account, strategy="test", created_at_ns=base.created_at_ns,
            expires_at_ns=base.expires_at_ns, symbol="BTC/USDT", client_order_id=desk.id_of(one), price=Decimal(90),
        )  # fmt: skip
        await desk.give(amend)
        await eventually(lambda: desk.updates(one)[-1].code == "NOT_SUPPORTED")

        cancel = desk.cancel(one)
        await desk.give(cancel)
        await desk.reaches(one, "CANCELED")
        await desk.give(desk.cancel_all())
        await eventually(lambda: any(status.subject == "cancel_all" for status in desk.statuses("orders")))

    assert not [order for order in venue.orders if order.open]
    assert desk.status(two) == desk.status(three) == "CANCELED"
    externals = [m for m in desk.messages if getattr(m, "external", False)]
    assert {message.client_order_id for message in externals} == {"by-hand"}  # type: ignore[union-attr]


async def test_a_cancel_that_lost_the_race_against_a_fill_ends_filled(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        await desk.reaches(command, "OPEN")
        venue.push_events = False
        venue.fill(venue.orders[0], "1")
        await desk.give(desk.cancel(command))  # answered "Unknown order sent.": look, do not believe
        await desk.reaches(command, "FILLED")
        await eventually(lambda: sorted(desk.fills()) == ["1"])


async def test_a_cancel_answered_with_unknown_order_never_makes_it_cancelled(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        await desk.reaches(command, "OPEN")
        venue.hide_orders = True
        venue.faults.append(Fault(error=(400, -2011, "Unknown order sent.")))
        await desk.give(desk.cancel(command))
        await eventually(lambda: desk.updates(command)[-1].code == "-2011")
    assert desk.status(command) == "OPEN"


async def test_a_fill_after_the_cancel_is_applied_and_told(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        command = desk.order()
        await desk.give(command)
        await desk.reaches(command, "OPEN")
        await desk.give(desk.cancel(command))
        await desk.reaches(command, "CANCELED")
        venue.fill(venue.orders[0], "0.5")
        await eventually(lambda: (desk.last(command) or 0) and desk.last(command).filled_quantity == Decimal("0.5"))  # type: ignore[union-attr]
        await eventually(lambda: "LATE_FILL" in desk.alerts())

    assert list(desk.fills()) == ["1"]


async def test_the_emergency_stop_forbids_new_risk_and_lets_cancels_and_reductions_pass(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        resting = desk.order()
        await desk.give(resting)
        await desk.reaches(resting, "OPEN")
        emergency_stop.press(desk.home, "test", "tester")

        risky, reducing = desk.order(), desk.order(side=Side.SELL, reduce_only=True)
        await desk.give(risky, reducing, desk.cancel(resting))
        assert (await desk.reaches(risky, "REJECTED")).code == "HALTED"
        await desk.reaches(reducing, "OPEN")
        await desk.reaches(resting, "CANCELED")

        (desk.home / "stop" / "state.json").write_text("{")  # unreadable: fail closed
        risky = desk.order()
        await desk.give(risky)
        assert (await desk.reaches(risky, "REJECTED")).code == "HALTED"

        emergency_stop.release(desk.home, "tester")
        allowed = desk.order()
        await desk.give(allowed)
        await desk.reaches(allowed, "OPEN")
    assert len(venue.orders) == 3


async def test_halt_and_resume_from_the_bus_press_and_release_the_stop(desk: Desk) -> None:
    from bus.publisher import StreamPublisher

    async with desk.serving():
        people = StreamPublisher(desk.url, f"people-{desk.account}")
        await people.start()
        for action, pressed in ((ControlAction.HALT, True), (ControlAction.RESUME, False)):
            control = Control(action=action, actor="p", reason="r", created_at_ns=now_ns(), target=desk.account)
            people.put(desk.streams.control, control)
            await eventually(lambda: emergency_stop.read(desk.home).pressed is pressed)  # noqa: B023
        await people.close()


async def test_balances_follow_the_push_and_never_go_back_in_time(desk: Desk, venue: FakeBinance) -> None:
    async with desk.serving():
        await eventually(lambda: "USDT" in desk.balances() and venue.subscribed)
        later = now_ns() // 1_000_000 + 5
        for at_ms, free in ((later, "5"), (later - 1, "7")):
            venue.push({"e": "outboundAccountPosition", "E": at_ms, "u": at_ms, "B": [{"a": "USDT", "f": free, "l": "1"}]})
        await eventually(lambda: desk.balances()["USDT"].free == Decimal(5))
        venue.push({"e": "outboundAccountPosition", "E": later, "u": later + 1, "B": [{"a": "ETH", "f": "2", "l": "0"}]})
        await eventually(lambda: "ETH" in desk.balances())
    assert desk.balances()["USDT"].free == Decimal(5)
