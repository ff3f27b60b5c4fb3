"""Alertmanager's webhook: firing opens an alert, resolved ends it, and what cannot be stored is sent again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from alerts.alertmanager import MAX_BYTES, PATH, AlertmanagerIntake
from alerts.report import Report
from common_models import AlertLevel
from runtime.health import Health, HealthServer
from tests.unit.alerts.desk import Desk


def payload(status: str = "firing", **labels: str) -> bytes:
    """What Alertmanager 0.28 sends for one alert."""
    alert: dict[str, Any] = {
        "status": status,
        "labels": {"alertname": "FeedStale", "severity": "critical", "exchange": "binance", "job": "connector-binance", **labels},
        "annotations": {"summary": "binance is silent", "description": "for 2 min", "runbook_url": "docs/operations.md#feedstale"},
        "startsAt": "2026-11-21T15:04:05.678Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
        "fingerprint": "1a30ba71cca2921f",
    }
    group = {
        "receiver": "tradebot",
        "status": status,
        "alerts": [alert],
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
    }
    return json.dumps(
        {**group, "externalURL": "http://alertmanager:9093", "version": "4", "groupKey": "{}", "truncatedAlerts": 0}
    ).encode()


async def test_what_fires_is_open_until_it_is_resolved(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    def take(reports: Sequence[Report]) -> None:
        for report in reports:
            desk.router.take(report, desk.now_ns)

    intake = AlertmanagerIntake(take)
    for _ in range(3):
        assert (await intake.take(payload()))[0] is HTTPStatus.OK
    [state] = desk.book.active()
    assert (state.code, state.level, state.event, state.exchange, state.count) == (
        "FeedStale",
        AlertLevel.CRITICAL,
        "feed_stale",
        "binance",
        3,
    )
    [message] = desk.sent()
    assert message.title == "binance is silent"
    assert "docs/operations.md#feedstale" in message.text
    await intake.take(payload("resolved"))
    assert desk.book.active() == []
    assert desk.titles() == ["Over: binance is silent"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"alerts": 3}', b'{"alerts": [{"status": 1}]}', b"\xff", b"[" * 100_000])
async def test_anything_else_is_refused_and_counted(body: bytes) -> None:
    intake = AlertmanagerIntake(lambda _: None)
    assert (await intake.take(body))[0] is HTTPStatus.BAD_REQUEST
    assert intake.malformed == 1


async def test_what_cannot_be_written_down_is_asked_for_again() -> None:
    def full(_: Sequence[Report]) -> None:
        raise OSError(28, "No space left on device")

    assert (await AlertmanagerIntake(full).take(payload()))[0] is HTTPStatus.SERVICE_UNAVAILABLE


async def test_the_port_takes_posts_of_json_only_and_within_bounds() -> None:
    import aiohttp

    taken: list[Report] = []
    health = Health("alerts")
    server = HealthServer(health, "127.0.0.1", 0)
    await server.start()
    url = f"http://127.0.0.1:{server.port}"
    try:
        async with aiohttp.ClientSession() as session:

            async def post(path: str, body: bytes, kind: str = "application/json") -> int:
                async with session.post(f"{url}{path}", data=body, headers={"Content-Type": kind}) as reply:
                    return reply.status

            assert await post(PATH, payload()) == 404  # not ready to take any yet
            health.take_posts(PATH, AlertmanagerIntake(taken.extend).take, MAX_BYTES)
            assert await post(PATH, payload()) == 200
            assert await post(PATH, payload(), "text/plain") == 415  # what a web page could send without asking
            assert await post(PATH, b" " * (MAX_BYTES + 1)) == 413
            assert await post("/health", payload()) == 404
    finally:
        await server.stop()
    assert [report.title for report in taken] == ["binance is silent"]
