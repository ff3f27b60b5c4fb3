"""One channel's way out: urgent first, no faster than allowed, kept until taken; and the queues behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.delivery import Delivery, Pace
from alerts.notification import Notification, RetryLater, Undeliverable
from alerts.report import Report
from common_models import AlertLevel
from tests.support.waiting import eventually
from tests.unit.alerts.desk import Desk

INFO, WARNING, ERROR, CRITICAL = AlertLevel


class Phone:
    """A channel that does what the test says."""

    name = "phone"

    def __init__(self) -> None:
        self.taken: list[Notification] = []
        self.troubles: list[Exception] = []
        self.hangs = False
        self.dislikes = ""

    async def deliver(self, notification: Notification) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.dislikes and self.dislikes in f"{notification.title} {notification.text}":
            raise Undeliverable("400")
        if self.troubles:
            raise self.troubles.pop(0)
        self.taken.append(notification)


@contextlib.asynccontextmanager
async def delivering(desk: Desk, phone: Phone, per_minute: int = 60) -> AsyncIterator[tuple[Delivery, list[Report]]]:
    told: list[Report] = []
    delivery, stop = Delivery(phone, desk.outbox, desk.tables, per_minute, told.append), asyncio.Event()
    task = asyncio.create_task(delivery.run(stop))
    try:
        yield delivery, told
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


def test_the_last_quarter_of_a_minute_is_for_critical_messages() -> None:
    pace, now_s, sent = Pace(20), 0.0, 0
    while not (wait_s := pace.wait_s(now_s, critical=False)) or now_s + wait_s < 60:
        now_s += wait_s
        pace.note(now_s)
        sent += 1
    assert sent == 15
    assert pace.wait_s(now_s, critical=True) == pytest.approx(6)


@given(gaps=st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=200), per_minute=st.integers(1, 60))
def test_no_minute_has_more_messages_than_allowed(gaps: list[tuple[float, bool]], per_minute: int) -> None:
    pace, now_s = Pace(per_minute), 0.0
    sent: list[float] = []
    for gap_s, critical in gaps:
        now_s += gap_s
        wait_s = pace.wait_s(now_s, critical=critical)
        assert wait_s < 60.001
        now_s += wait_s
        pace.note(now_s)
        sent.append(now_s)
    for index, start_s in enumerate(sent):
        assert sum(start_s <= moment_s < start_s + 59.999 for moment_s in sent[index:]) <= per_minute


async def test_what_is_urgent_goes_first_and_what_waits_goes_together(tmp_path: Path) -> None:
    desk, phone = Desk(tmp_path), Phone()
    for number in range(6):
        desk.take("LOST", ERROR, str(number))
    desk.take("DOOM", CRITICAL)
    async with delivering(desk, phone):
        await eventually(lambda: len(phone.taken) == 2)
    assert phone.taken[0].title == "DOOM"
    assert phone.taken[1].title == "6 messages"
    assert phone.taken[1].text.count("\n") == 5


async def test_a_message_is_tried_until_it_is_taken(tmp_path: Path) -> None:
    desk, phone = Desk(tmp_path), Phone()
    phone.troubles = [RetryLater(0.01, "busy"), RuntimeError("a mistake in the channel"), RetryLater(0.01, "busy")]
    desk.take("LOST", ERROR)
    async with delivering(desk, phone) as (delivery, _):
        await eventually(lambda: phone.taken)
        assert (delivery.delivered, delivery.failed) == (1, 3)
    assert dict(desk.outbox.receipts)["1/phone"].attempts == 4


async def test_what_is_refused_for_ever_is_given_up_unless_it_is_critical_and_nobody_else_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.delivery.REFUSED_CRITICAL_S", 0.02)
    desk, phone = Desk(tmp_path), Phone()
    phone.troubles = [Undeliverable("400")]
    desk.take("LOST", ERROR)
    async with delivering(desk, phone) as (delivery, _):
        await eventually(lambda: delivery.refused == 1 and not desk.outbox.waiting("phone"))
        phone.troubles = [Undeliverable("400"), Undeliverable("400")]
        desk.take("DOOM", CRITICAL)
        await eventually(lambda: phone.taken)
    assert [message.title for message in phone.taken] == ["DOOM"]
    assert desk.outbox.receipts["1/phone"].outcome == "refused: 400"


async def test_one_bad_message_among_many_is_found_and_the_others_are_told(tmp_path: Path) -> None:
    desk, phone = Desk(tmp_path), Phone()
    phone.dislikes = "LOST 3"
    for number in range(6):
        desk.take("LOST", ERROR, str(number))
    async with delivering(desk, phone) as (delivery, _):
        await eventually(lambda: not desk.outbox.waiting("phone"))
        assert (delivery.delivered, delivery.refused) == (5, 1)


async def test_a_mistake_in_the_channel_s_own_code_at_one_message_is_given_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.delivery.Backoff.next_s", lambda _: 0.001)
    desk, phone = Desk(tmp_path), Phone()
    phone.troubles = [KeyError("x")] * 5
    desk.take("LOST", ERROR)
    async with delivering(desk, phone):
        await eventually(lambda: not desk.outbox.waiting("phone"))
    assert desk.outbox.receipts["1/phone"].outcome == "refused: KeyError in the channel"


async def test_a_channel_that_is_down_hands_over_what_is_grave_and_is_told_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.delivery.DOWN_AFTER_S", 0.05)
    desk, phone = Desk(tmp_path, {"phone": INFO, "pager": CRITICAL}), Phone()
    phone.troubles = [RetryLater(0.02, "away")] * 5
    desk.take("LOST", ERROR)
    assert desk.outbox.waiting("pager") == 0
    async with delivering(desk, phone) as (_, told):
        await eventually(lambda: phone.taken)
    assert [(report.code, report.resolves) for report in told] == [("CHANNEL_DOWN", False), ("CHANNEL_DOWN", True)]
    assert desk.titles("pager") == ["LOST"]


async def test_a_channel_that_never_answers_holds_up_nobody_and_its_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.delivery.DELIVER_S", 0.05)
    desk, phone = Desk(tmp_path), Phone()
    phone.hangs = True
    desk.take("LOST", ERROR)
    async with delivering(desk, phone) as (delivery, _):
        await eventually(lambda: delivery.failed)
    monkeypatch.setattr("alerts.delivery.DELIVER_S", 60)
    monkeypatch.setattr("alerts.delivery.STOP_GRACE_S", 0.05)
    async with delivering(desk, phone) as (delivery, _):
        await eventually(lambda: desk.outbox.next("phone")[0].attempts["phone"] == 2)
    assert (desk.outbox.waiting("phone"), delivery.delivered) == (1, 0)


def test_when_too_many_wait_the_oldest_are_dropped_and_their_number_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.outbox.MAX_WAITING", 20)
    desk = Desk(tmp_path, digest_s=1)
    desk.take("DOOM", CRITICAL)
    for number in range(50):
        desk.take(f"CODE_{number}", WARNING)
    assert desk.outbox.waiting("phone") == 21
    assert desk.outbox.dropped["phone"] == 30
    [doom] = desk.outbox.next("phone")
    assert "30 older messages were dropped" in desk.outbox.compose("phone", [doom]).text
    desk.outbox.done("phone", [doom], 1)
    assert "dropped" not in desk.outbox.compose("phone", desk.outbox.next("phone")).text


def test_the_queue_and_what_was_delivered_survive_a_crash(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"phone": INFO, "hook": INFO})
    for number in range(3):
        desk.take("LOST", ERROR, str(number))
    [first] = desk.outbox.next("phone")
    desk.outbox.done("phone", [first], 1)
    desk.tables.commit()
    fresh = desk.reopened()
    assert fresh.titles("phone") == ["LOST 1", "LOST 2"]
    assert fresh.titles("hook") == ["LOST 0", "LOST 1", "LOST 2"]
    fresh.take("LOST", ERROR, "new")
    assert [message.number for message in fresh.sent("phone")] == [4]


def test_critical_messages_of_a_channel_that_is_configured_no_more_go_to_the_others(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"old": INFO})
    desk.take("DOOM", CRITICAL)
    desk.take("LOST", ERROR)
    desk.tables.commit()
    desk.tables.close()
    assert Desk(tmp_path, {"new": INFO}).titles("new") == ["DOOM"]
