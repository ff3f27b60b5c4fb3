"""Prometheus' own tools on what we hand it: configuration, rules, and the rules' unit tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.monitoring_servers import MONITORING

PROMETHEUS = MONITORING / "prometheus"
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_configuration_is_one_that_prometheus_takes(installed: dict[str, str]) -> None:
    said = run(installed["promtool"], "check", "config", "prometheus.yml")
    assert said.count("rules found") == len(list(PROMETHEUS.glob("alerts-*.yml"))) + 1


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_they_say(installed: dict[str, str], path: Path) -> None:
    assert "SUCCESS" in run(installed["promtool"], "test", "rules", str(path.relative_to(PROMETHEUS)))
