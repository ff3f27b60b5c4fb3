"""Who hears of what, when: de-duplication, digest, quiet hours, switches, escalation; CRITICAL gets through everything."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.alert_state import AlertPhase
from alerts.interfaces import NoSuchAlert
from alerts.router import CRITICAL_DEDUPE_S
from common_models import AlertLevel
from runtime.service import ServiceError
from tests.unit.alerts.desk import SECOND, Desk

INFO, WARNING, ERROR, CRITICAL = AlertLevel


def test_repeats_of_one_trouble_count_and_the_count_is_told_afterwards(tmp_path: Path) -> None:
    desk = Desk(tmp_path, dedupe_s=300)
    for _ in range(38):
        desk.take("FEED_LOST", ERROR)
    assert desk.titles() == ["FEED_LOST"]
    desk.after(301)
    [again] = desk.sent()
    assert "37 times more, 38 in all since 14:00:00 UTC" in again.text
    assert desk.book.active()[0].count == 38
    assert desk.router.suppressed["duplicate"] == 37


def test_two_troubles_of_one_code_are_told_apart(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.take("PLUGIN_QUARANTINED", ERROR, "plugin=sma")
    desk.take("PLUGIN_QUARANTINED", ERROR, "plugin=ema")
    assert len(desk.sent()) == 2


def test_a_repeat_of_a_higher_level_is_told_at_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.take("LIMIT", WARNING)
    desk.take("LIMIT", ERROR)
    assert [message.level for message in desk.sent()] == [WARNING, ERROR]


def test_the_first_of_an_event_is_told_at_once_and_the_rest_in_a_digest(tmp_path: Path) -> None:
    desk = Desk(tmp_path, digest_s=60)
    for number in range(38):
        desk.take("FILL", INFO, f"trade {number}")
    assert desk.titles() == ["FILL trade 0"]
    desk.after(61)
    assert desk.titles() == ["37 more: 37 x FILL: FILL trade 37"]


def test_a_digest_groups_by_code_and_puts_the_worst_first(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for number in range(3):
        desk.take("FILL", INFO, str(number))
        desk.take("GAP", WARNING, str(number))
    desk.sent()
    desk.after(61)
    [digest] = desk.sent()
    assert digest.title == "4 more"
    assert digest.text.splitlines() == ["2 x GAP: GAP 2", "2 x FILL: FILL 2"]
    assert digest.level is WARNING


def test_a_single_message_that_was_held_back_comes_as_itself(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.take("GAP", WARNING, "a")
    desk.take("GAP", WARNING, "b")
    desk.sent()
    desk.after(61)
    [held] = desk.sent()
    assert held.title == "GAP b"
    assert held.alert_id in desk.book.states


def test_events_that_are_off_are_not_told_but_listed_and_silent_ones_make_no_sound(tmp_path: Path) -> None:
    desk = Desk(tmp_path, notify={"gap": "off", "fill": "silent"})
    desk.take("GAP", WARNING)
    desk.take("FILL", INFO)
    [fill] = desk.sent()
    assert fill.silent
    assert [state.code for state in desk.book.active()] == ["GAP"]
    assert desk.router.suppressed["off"] == 1


def test_what_alerts_notify_does_not_mention_is_told_as_the_rule_says(tmp_path: Path) -> None:
    desk = Desk(tmp_path, notify={"b": "on"})
    desk.take("A", ERROR, notify="off")
    desk.take("B", ERROR, notify="off")
    assert desk.titles() == ["B"]


@pytest.mark.parametrize(
    ("hours", "quiet"),
    [
        ({"start": "13:00", "end": "15:00"}, True),
        ({"start": "22:00", "end": "07:00"}, False),
        ({"start": "22:00", "end": "07:00", "timezone": "Asia/Tokyo"}, True),  # 23:00 there
        ({"start": "14:01", "end": "15:00"}, False),
    ],
)
def test_in_quiet_hours_only_the_grave_makes_a_sound(tmp_path: Path, hours: dict[str, str], quiet: bool) -> None:
    desk = Desk(tmp_path, quiet_hours={**hours, "min_level": "error"})
    desk.take("GAP", WARNING)
    desk.take("REJECTED", ERROR)
    assert [message.silent for message in desk.sent()] == [quiet, False]


def test_secrets_and_control_characters_in_an_alert_are_not_passed_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    url = "redis://:canary@host/ https://api.telegram.org/bot123456789:canary_canary_canary/getMe"
    desk.take("LOST", ERROR, title=f"no way to {url}\n\x1b[31m", text=f"\x00token=canary {url}", details={"dsn": "password=canary"})
    [message] = desk.sent()
    state = desk.book.active()[0]
    shown = f"{message} {state}"
    assert "canary" not in shown
    assert "\\x" not in repr(message.title + message.text)


def test_what_happened_long_ago_is_told_with_its_time(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.take("FILL", INFO, ts_ns=desk.now_ns - 3600 * SECOND)
    desk.take("BAD_TIME", ERROR, ts_ns=2**62)
    old, bad = desk.sent()
    assert "happened at 13:00:00 UTC" in old.text
    assert (old.created_ns, bad.created_ns) == (desk.now_ns, desk.now_ns)


def test_a_timezone_that_does_not_exist_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="alerts.quiet_hours.timezone: 'Mars/Olympus'"):
        Desk(tmp_path, quiet_hours={"start": "22:00", "end": "07:00", "timezone": "Mars/Olympus"})


def test_a_resolution_closes_the_alert_and_is_told_where_the_alert_was(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"phone": INFO, "hook": ERROR})
    desk.take("FEED_LOST", ERROR, "binance|market")
    desk.take("GAP", WARNING, "binance")
    assert (desk.titles("phone"), desk.titles("hook")) == (
        ["FEED_LOST binance|market", "GAP binance"],
        ["FEED_LOST binance|market"],
    )
    desk.after(130)
    desk.take("FEED_LOST", INFO, resolves=True, key="FEED_LOST||", title="connected")
    desk.take("NEVER_TOLD", INFO, resolves=True)
    for channel in ("phone", "hook"):
        [over] = desk.sent(channel)
        assert over.title == "Over: FEED_LOST binance|market"
        assert "after 2 min" in over.text
    assert [state.code for state in desk.book.active()] == ["GAP"]


def test_an_open_error_is_said_again_louder_everywhere_until_somebody_acknowledges(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"phone": INFO, "pager": CRITICAL}, escalate_after_s=900, notify={"order_lost": "silent"})
    desk.take("ORDER_LOST", ERROR)
    assert desk.sent()[0].silent
    desk.after(901)
    [again] = desk.sent("phone")
    assert again.title == "Still open after 15 min: ORDER_LOST"
    assert not again.silent
    assert len(desk.sent("pager")) == 1
    desk.after(1801)
    assert len(desk.sent()) == 1  # the second time after twice as long
    desk.book.acknowledge(again.alert_id, "anna", desk.now_ns)
    desk.after(4000)
    assert desk.sent() == []
    state = desk.book.active()[0]
    assert (state.phase, state.changed_by, state.escalations) == (AlertPhase.ACKNOWLEDGED, "anna", 2)


def test_many_unacknowledged_alerts_are_escalated_in_one_message(tmp_path: Path) -> None:
    desk = Desk(tmp_path, escalate_after_s=60, dedupe_s=10_000)
    for number in range(5):
        desk.take("ORDER_LOST", ERROR, str(number))
    desk.sent()
    desk.after(61)
    [again] = desk.sent()
    assert again.title.startswith("5 alerts are still open")
    assert again.text.count("[") == 5


def test_an_unknown_id_cannot_be_acknowledged(tmp_path: Path) -> None:
    with pytest.raises(NoSuchAlert):
        Desk(tmp_path).book.acknowledge("zzzz", "anna", 1)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_nothing_suppresses_a_critical_alert(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    desk = Desk(
        tmp_path_factory.mktemp("desk"),
        {"phone": data.draw(st.sampled_from(list(AlertLevel)))},
        notify={"doom": data.draw(st.sampled_from(["on", "silent", "off"]))},
        dedupe_s=data.draw(st.sampled_from([1, 300, 80_000])),
        digest_s=data.draw(st.sampled_from([1, 60, 80_000])),
        quiet_hours={"start": "00:00", "end": "23:59", "min_level": data.draw(st.sampled_from(["warning", "error", "critical"]))},
    )
    for number in range(data.draw(st.integers(0, 50))):
        desk.take("NOISE", data.draw(st.sampled_from([WARNING, ERROR])), str(number))
    desk.take("DOOM", CRITICAL)
    doom = [message for message in desk.sent() if message.event == "doom"]
    assert len(doom) == 1
    assert not doom[0].silent
    desk.take("DOOM", CRITICAL)
    desk.after(CRITICAL_DEDUPE_S + 1)
    [again] = [message for message in desk.sent() if message.event == "doom" and not message.title.startswith("Still")]
    assert "1 times more, 2 in all" in again.text


def test_a_storm_becomes_few_messages_and_hides_no_critical_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path, digest_s=60)
    for number in range(10_000):
        desk.take("ORDER_REJECTED", ERROR, str(number))
        if number % 500 == 0:
            desk.take("DOOM", CRITICAL, str(number))
    messages = desk.sent()
    desk.after(61)
    messages += desk.sent()
    assert len([message for message in messages if message.event == "doom"]) == 20
    assert len(messages) <= 20 + 10 + 1
    assert f"{10_000 - 10} more" in messages[-1].title


def test_states_digest_and_repeats_survive_a_crash(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for _ in range(3):
        desk.take("FEED_LOST", ERROR)
    for number in range(3):
        desk.take("FILL", INFO, str(number))
    desk.tables.commit()
    desk.take("NOT_COMMITTED", ERROR)
    fresh = desk.reopened()
    assert fresh.titles() == ["FEED_LOST", "FILL 0"]
    fresh.take("FEED_LOST", ERROR)
    assert fresh.titles() == []
    fresh.after(61)
    assert fresh.titles() == ["2 more: 2 x FILL: FILL 2"]
    fresh.after(300)
    assert ["3 times more, 4 in all" in message.text for message in fresh.sent() if message.event == "feed_lost"] == [True]


def test_a_warning_that_nobody_repeats_ends_by_itself_and_an_error_does_not(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.take("GAP", WARNING)
    desk.take("LOST", ERROR)
    desk.now_ns += 25 * 3600 * 1_000_000_000
    desk.router.tick(desk.now_ns)
    assert [state.code for state in desk.book.active()] == ["LOST"]


def test_the_number_of_states_stays_bounded_and_the_worst_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.alert_book.MAX_KNOWN", 100)
    desk = Desk(tmp_path)
    desk.take("DOOM", CRITICAL)
    for number in range(500):
        desk.take("GAP", WARNING, str(number))
        desk.now_ns += 1
    assert len(desk.book.states) <= 100
    assert desk.book.active()[0].code == "DOOM"
    assert desk.book.active()[1].title == "GAP 499"
