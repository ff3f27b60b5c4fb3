"""A real Prometheus takes our configuration and our rules, finds every process of the stack, and every rule has something to say."""

from __future__ import annotations

import pytest

from tests.support.answers import Answers, reasons
from tests.support.fleet import Fleet
from tests.support.monitoring_servers import MONITORING, rule_expressions, until

RULES = rule_expressions(MONITORING / "prometheus")


async def test_every_process_of_the_stack_is_found_and_answers(fleet: Fleet) -> None:
    expected = {name for name, entry in (await fleet.stack.status()).items() if entry["port"]} - {"valkey", "postgres"}

    async def healthy() -> bool:
        found = await fleet.prometheus.get("/api/v1/targets")
        return {target["labels"]["job"] for target in found["activeTargets"] if target["health"] == "up"} >= expected

    await until(healthy, 30, f"targets {sorted(expected)}")


async def test_prometheus_evaluates_every_rule_without_an_error(fleet: Fleet, answers: Answers) -> None:
    groups = (await fleet.prometheus.get("/api/v1/rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(RULES)
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}


@pytest.mark.parametrize("name", RULES)
async def test_a_rule_has_something_to_say(name: str, answers: Answers) -> None:
    place = f"rules / {name}"
    answer = answers.found[place]
    assert not answer.error, answer.error
    assert bool(answer.rows) != (place in reasons()), f"{answer.rows} rows; without_data.yml: {reasons().get(place)}: {RULES[name]}"


async def test_every_metric_that_is_spoken_of_exists(answers: Answers) -> None:
    asked = {place: answer for place, answer in answers.found.items() if place.startswith("metric / ")}
    assert {place for place, answer in asked.items() if not answer.rows} == {place for place in reasons() if place in asked}
