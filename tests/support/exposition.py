"""What a scrape would get, as numbers that a test can ask for."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime import metrics
from runtime.metrics import Metrics

Series = tuple[str, frozenset[tuple[str, str]]]


def samples(process: Metrics) -> dict[Series, float]:
    """Every series by name and labels; one that is there twice is an AssertionError."""
    found: dict[Series, float] = {}
    for family in text_string_to_metric_families(process.render()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(process: Metrics, name: str, **labels: str) -> float:
    """One series; KeyError when it is not there."""
    return samples(process)[name, frozenset(labels.items())]


def fresh_process(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """From now on whatever is exposed is exposed here."""
    fresh = Metrics()
    monkeypatch.setattr(metrics, "process", fresh)
    return fresh
