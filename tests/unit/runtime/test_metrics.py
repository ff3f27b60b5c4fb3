"""What /metrics says, read back by the client library's own parser."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from runtime import metrics
from runtime.metrics import BOUNDS_NS, Metrics
from tests.support.exposition import fresh_process, samples, value

NS = 1_000_000_000


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    return fresh_process(monkeypatch)


@given(st.lists(st.integers(-(10**9), 10**12)))
def test_each_bucket_counts_what_is_not_longer_than_its_bound(durations_ns: list[int]) -> None:
    process = Metrics()
    histogram = process.histogram("tradebot_x_seconds", "x", {"hop": "a"})
    for duration_ns in durations_ns:
        histogram.observe_ns(duration_ns)
    found = samples(process)
    for bound_ns in BOUNDS_NS:
        key = ("tradebot_x_seconds_bucket", frozenset({("hop", "a"), ("le", repr(bound_ns / NS))}))
        assert found[key] == sum(duration_ns <= bound_ns for duration_ns in durations_ns)
    assert value(process, "tradebot_x_seconds_bucket", hop="a", le="+Inf") == len(durations_ns)
    assert value(process, "tradebot_x_seconds_count", hop="a") == len(durations_ns)
    expected = sum(max(duration_ns, 0) for duration_ns in durations_ns) / NS
    assert math.isclose(value(process, "tradebot_x_seconds_sum", hop="a"), expected)


def test_whoever_asks_for_a_histogram_again_goes_on_with_the_same(process: Metrics) -> None:
    metrics.hop("bus_to_bot", "binance").observe_ns(5)
    metrics.hop("bus_to_bot", "binance").observe_ns(5)
    metrics.hop("bus_to_bot", "kraken").observe_ns(5)
    assert value(process, "tradebot_hop_seconds_count", hop="bus_to_bot", exchange="binance") == 2
    assert value(process, "tradebot_hop_seconds_count", hop="bus_to_bot", exchange="kraken") == 1


def test_the_newest_owner_of_a_series_is_read_and_the_series_is_there_once(process: Metrics) -> None:
    metrics.expose_gauge("tradebot_connected", "x", {"a": "1", "b": "2"}, lambda: 0)
    metrics.expose_gauge("tradebot_connected", "x", {"b": "2", "a": "1"}, lambda: True)
    assert value(process, "tradebot_connected", a="1", b="2") == 1


def test_totals_end_in_total_once(process: Metrics) -> None:
    metrics.expose_counter("tradebot_frames", "x", {}, lambda: 7)
    metrics.expose_counter("tradebot_rows_total", "x", {}, lambda: 8)
    assert value(process, "tradebot_frames_total") == 7
    assert value(process, "tradebot_rows_total") == 8


def test_series_that_come_and_go_are_those_of_the_moment(process: Metrics) -> None:
    counts: dict[tuple[str, ...], float] = {("a", "x"): 1}
    metrics.expose_counters("tradebot_signals", "x", {"shadow": "no"}, ("plugin", "side"), lambda: counts)
    counts["b", "y"] = 2
    assert value(process, "tradebot_signals_total", plugin="b", side="y", shadow="no") == 2
    del counts["a", "x"]
    assert len(samples(process)) == 1


@given(st.text(), st.text())
def test_any_label_value_and_help_text_survives(label: str, help_text: str) -> None:
    process = Metrics()
    process.add("gauge", "tradebot_x", help_text, {"text": label}, lambda: math.inf)
    # lines end with a line feed and nothing else, whatever else Unicode calls the end of a line
    lines = process.render().split("\n")
    assert len(lines) == 4
    assert lines[2].startswith('tradebot_x{text="')
    assert lines[2].endswith('"} +Inf')
    written = lines[2].removeprefix('tradebot_x{text="').removesuffix('"} +Inf')
    assert re.sub(r"\\(.)", lambda mark: "\n" if mark[1] == "n" else mark[1], written) == label


def test_a_number_that_cannot_be_read_costs_its_own_series_only(process: Metrics) -> None:
    metrics.expose_gauge("tradebot_bad", "x", {"n": "1"}, lambda: 1 / 0)
    metrics.expose_gauge("tradebot_bad", "x", {"n": "2"}, lambda: 2)
    metrics.expose_gauge("tradebot_good", "x", {}, lambda: 3)
    assert sorted(samples(process).values()) == [2, 3]
    assert process.failures > 0


def test_labels_of_all_are_on_every_series(process: Metrics) -> None:
    metrics.label_all({"mode": "simulation"})
    metrics.expose_gauge("tradebot_a", "x", {"b": "c"}, lambda: 1)
    metrics.expose_gauges("tradebot_d", "x", {}, ("e",), lambda: {("f",): 1})
    metrics.hop("g")
    assert all(("mode", "simulation") in labels for _, labels in samples(process))


def test_the_process_tells_of_itself_beside_our_own_series(process: Metrics) -> None:
    metrics.expose_gauge("tradebot_a", "x", {}, lambda: 1)
    names = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    assert {"tradebot_a", "process_resident_memory_bytes", "process_start_time_seconds", "python_info"} <= names
