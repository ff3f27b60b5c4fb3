"""Whoever is woken by an alert finds what to do."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.support.compose_file import ROOT

RULES = [
    rule
    for path in sorted((ROOT / "monitoring/prometheus").glob("alerts-*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
SECTIONS = {title.lower(): text for title, text in re.findall(r"^#### (\w+)\n(.*?)(?=^#)", OPERATIONS, re.MULTILINE | re.DOTALL)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_rule_has_its_section(rule: dict[str, dict[str, str]]) -> None:
    text = SECTIONS[rule["alert"].lower()]

    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert [word for word in ("*Means*", "*Look*", "*Do*") if word not in text] == []


def test_no_section_is_about_an_alert_that_is_gone() -> None:
    assert SECTIONS.keys() == {rule["alert"].lower() for rule in RULES}


def test_links_inside_the_documents_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", OPERATIONS, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}

    for file, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", OPERATIONS):
        if file:
            assert (ROOT / "docs" / file).is_file(), file
        else:
            assert anchor in anchors
