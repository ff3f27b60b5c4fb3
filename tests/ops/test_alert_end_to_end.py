"""A connector dies, and a person's phone says so: rule, Prometheus, Alertmanager, alerts process, Telegram."""

from __future__ import annotations

from tests.support.fleet import CONNECTOR, Fleet, Incident
from tests.support.monitoring_servers import until


async def test_a_killed_connector_is_told_on_telegram(incident: Incident) -> None:
    assert incident.told_s - incident.killed_s < 30  # one scrape, two seconds of `for`, and the queue of a channel
    assert "ProcessDown" in incident.message


async def test_prometheus_takes_the_alert_back_when_the_connector_lives_again(fleet: Fleet, incident: Incident) -> None:
    async def over() -> bool:
        found = await fleet.prometheus.ask("/api/v1/query", query=f'ALERTS{{alertname="ProcessDown",job="{CONNECTOR}"}}')
        return not found["result"]

    await until(over, 60, "no alert about the connector")
