"""What was read from the bus: durable before it is acknowledged, and its effects once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus.gaps import stream_gap
from bus.interfaces import Delivery, Retry
from common_models import Alert, AlertLevel, Gap
from tests.unit.alerts.desk import START_NS, Desk

STREAM = "simulation:alerts"


def deliveries(*numbers: int) -> list[Delivery]:
    return [Delivery(STREAM, f"{number}-0", trouble(number)) for number in numbers]


def trouble(number: int) -> Alert:
    return Alert(
        level=AlertLevel.ERROR,
        source="test",
        code="TROUBLE",
        text=f"trouble {number}",
        ts_event_ns=START_NS,
        numbers={"subject": str(number)},
    )


async def test_when_handling_returns_everything_is_on_the_disk(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.intake.handle(deliveries(1, 2))
    fresh = desk.reopened()
    assert [state.count for state in fresh.book.active()] == [1, 1]
    assert fresh.titles() == ["trouble 1", "trouble 2"]


async def test_what_is_delivered_again_after_a_crash_is_handled_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.intake.handle(deliveries(1, 2))
    fresh = desk.reopened()
    await fresh.intake.handle(deliveries(1, 2, 3))
    assert fresh.intake.known == 2
    assert [state.count for state in fresh.book.active()] == [1, 1, 1]
    assert fresh.titles() == ["trouble 1", "trouble 2", "trouble 3"]


async def test_a_full_disk_asks_for_the_same_again_and_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path)
    with monkeypatch.context() as full:
        full.setattr("runtime.append_log.AppendLog.append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(Retry, match="No space left"):
            await desk.intake.handle(deliveries(1))
    await desk.intake.handle(deliveries(1))
    fresh = desk.reopened()
    assert [state.count for state in fresh.book.active()] == [1]


async def test_a_server_that_lost_its_data_begins_a_new_count_and_the_loss_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.intake.handle(deliveries(7))
    await desk.intake.handle([Delivery(STREAM, "", stream_gap(STREAM, "the server lost the stream"))])
    await desk.intake.handle(deliveries(1))
    assert {state.code for state in desk.book.active()} == {"TROUBLE", "MESSAGES_LOST"}
    assert "trouble 1" in desk.titles()


def test_a_gap_of_our_own_reader_is_no_gap_in_the_market(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    seen: list[object] = []
    desk.rules.see = lambda message, _: iter(seen.append(message) or ())  # type: ignore[func-returns-value,method-assign]
    own = stream_gap("simulation:events:{binance}:trades", "trimmed before it was read")
    desk.intake.see_market(own.stream, own)
    desk.intake.see_market(
        own.stream, Gap(**{**{name: getattr(own, name) for name in own.__struct_fields__}, "message_id": "c:1:1"})
    )
    assert len(seen) == 1
