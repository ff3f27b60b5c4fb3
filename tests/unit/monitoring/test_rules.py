"""What promtool does not check: rules, docs/metrics.md and the rules' own tests speak of the same things."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.metrics_table import documented, documented_records

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "monitoring" / "prometheus"
LEVELS = {"info", "warning", "error", "critical"}
CATEGORIES = {"market_data", "orders", "risk", "trading", "plugins", "system", "storage", "monitoring"}
DASHBOARDS = {"overview", "venues", "bus", "orders", "strategies", "portfolio"}
_METRIC = re.compile(r"\b(tradebot[_:][\w:]+|process_\w+)\b")


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """All rules of one kind, `alert` or `record`, by name."""
    groups = [group for path in FOLDER.glob("*.yml") for group in yaml.safe_load(path.read_text()).get("groups", ())]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


ALERTS, RECORDS = rules("alert"), rules("record")


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_is_about_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in LEVELS
    assert rule["labels"]["category"] in CATEGORIES
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"


def test_every_alert_has_a_runbook_and_no_runbook_is_about_nothing() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    runbooks = text.partition("## What to do at each alert")[2].partition("\n## ")[0]
    assert set(re.findall(r"^#### (\w+)$", runbooks, re.MULTILINE)) == ALERTS.keys()


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    tested: dict[str, bool] = {}
    for path in (FOLDER / "tests").glob("*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for question in test.get("promql_expr_test", ()):
                if found := re.search(r'alertname="(\w+)"', question["expr"]):
                    tested[found[1]] = tested.get(found[1], False) or bool(question["exp_samples"])
    assert {name for name, fires in tested.items() if fires} == ALERTS.keys()


@pytest.mark.parametrize("name", [*ALERTS, *RECORDS])
def test_a_rule_asks_for_documented_metrics_only(name: str) -> None:
    expression = (ALERTS.get(name) or RECORDS[name])["expr"]
    known = documented().keys() | RECORDS.keys()
    asked = {re.sub(r"_(bucket|count|sum)$", "", metric) for metric in _METRIC.findall(expression)}
    assert asked <= known


def test_the_page_has_every_recording_rule_and_no_other() -> None:
    assert documented_records() == RECORDS.keys()


def test_the_page_names_alerts_and_dashboards_that_exist() -> None:
    named = {word for row in documented().values() for word in row.used_by}
    assert named - DASHBOARDS <= ALERTS.keys()


def test_every_metric_that_the_code_names_is_on_the_page() -> None:
    """What a stack without Telegram or tracing does not expose is seen here too."""
    known = documented().keys()
    rooms = ("alerts", "bot", "bus", "connectors", "postgres", "runtime", "simulator", "tradebot")
    texts = [path.read_text() for room in rooms for path in (ROOT / room).rglob("*.py")]
    named = {name for text in texts for name in re.findall(r'[("]tradebot_(\w*[a-z])"', text)}
    module = {"plugin_files"}  # the name under which plugin files are imported
    assert {name for name in named - module if not {f"tradebot_{name}", f"tradebot_{name}_total"} & known} == set()


def test_no_two_metrics_differ_only_in_how_they_end() -> None:
    names = documented().keys()
    assert not [name for name in names if f"{name}_total" in names or f"{name}s" in names]
