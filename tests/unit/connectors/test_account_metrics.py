"""What an account tells of itself: orders by state, refusals by cause, how long the venue took, and what it lets us ask."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from common_models import Liquidity, OrderStatus
from connectors.account_metrics import AccountCounts, expose_gateway, expose_ledger, expose_safety, expose_venue
from connectors.errors import AnswerLost, OrderRejected
from connectors.journal_records import TrackedOrder
from connectors.order_entry import OrderReport
from connectors.rate_budget import Lane, RateBudget
from runtime.clock import now_ns
from runtime.emergency_stop import press
from runtime.metrics import Metrics
from tests.support.exposition import fresh_process, samples, value
from tests.unit.connectors.test_gateway import Bench, place
from trading.order_state import Executed, Reported

VENUE = {"exchange": "binance"}


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    return fresh_process(monkeypatch)


@pytest.fixture
def bench(process: Metrics, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    expose_gateway("binance", bench.gateway)
    expose_ledger("binance", bench.ledger)
    yield bench
    bench.journal.close()
    bench.switch.close()


def sent(bench: Bench, **changes: Any) -> TrackedOrder:
    bench.gateway.take(place(**changes))
    return bench.journal.unfinished[-1]


def report(order: TrackedOrder, status: OrderStatus, filled: int = 0) -> OrderReport:
    """The venue's word, with its fill when something is filled."""
    fills = [
        Executed(
            trade_id=order.client_order_id, price=Decimal(100), quantity=Decimal(filled), quote_quantity=Decimal(100 * filled),
            fee=Decimal(0), fee_asset="USDT", liquidity=Liquidity.TAKER, at_ns=now_ns(), exchange_order_id="7",
        )
    ]  # fmt: skip
    said = Reported(status=status, at_ns=now_ns(), exchange_order_id="7", filled_quantity=Decimal(filled))
    return OrderReport(client_order_id=order.client_order_id, terms=order.terms, report=said, fills=tuple(fills if filled else ()))


def test_an_order_is_timed_from_the_frame_that_moved_us_to_its_first_fill(bench: Bench, process: Metrics) -> None:
    read = partial(value, process, exchange="binance")
    order = sent(bench, ts_pub_ns=now_ns() - 5_000_000, triggered_ns=now_ns() - 8_000_000)
    assert 0.005 <= read("tradebot_hop_seconds_sum", hop="command_to_wire") < 1
    assert 0.008 <= read("tradebot_hop_seconds_sum", hop="event_to_wire") < 1
    assert read("tradebot_hop_seconds_count", hop="wire_to_ack") == 0

    bench.entry.answers[-1](report(order, OrderStatus.OPEN))
    assert read("tradebot_hop_seconds_count", hop="wire_to_ack") == 1
    assert read("tradebot_hop_seconds_count", hop="ack_to_fill") == 0
    assert read("tradebot_orders", status="OPEN") == 1

    bench.ledger.take(report(order, OrderStatus.FILLED, filled=1))
    bench.ledger.take(report(order, OrderStatus.FILLED, filled=1))
    assert read("tradebot_hop_seconds_count", hop="ack_to_fill") == 1
    assert read("tradebot_fills_total") == 1
    assert read("tradebot_orders_finished_total", status="FILLED") == 1
    assert read("tradebot_orders_unfinished") == 0


def test_a_fill_that_comes_with_the_acknowledgement_took_no_time(bench: Bench, process: Metrics) -> None:
    order = sent(bench)
    bench.entry.answers[-1](report(order, OrderStatus.FILLED, filled=1))
    bucket = {**VENUE, "hop": "ack_to_fill", "le": "0.001"}
    assert value(process, "tradebot_hop_seconds_bucket", **bucket) == 1


def test_a_command_without_times_is_not_timed(bench: Bench, process: Metrics) -> None:
    sent(bench)
    assert value(process, "tradebot_hop_seconds_count", hop="event_to_wire", **VENUE) == 0
    assert value(process, "tradebot_orders_sent_total", **VENUE) == 1


def test_refusals_are_told_by_cause_and_the_venues_codes_are_one(bench: Bench, process: Metrics) -> None:
    for number in range(30):
        sent(bench)
        bench.entry.answers[-1](OrderRejected("no", code=f"-{number}"))
    bench.gateway.take(place(quantity=Decimal(0)))
    press(bench.home, "stop", "test")
    bench.gateway.take(place())
    read = partial(value, process, "tradebot_orders_rejected_total", **VENUE)
    assert {code: read(code=code) for code in ("venue", "BAD_QUANTITY", "HALTED")} == {"venue": 30, "BAD_QUANTITY": 1, "HALTED": 1}
    assert len([name for name, _ in samples(process) if name == "tradebot_orders_rejected_total"]) == 3
    assert value(process, "tradebot_orders_refused_total", **VENUE) == 32
    assert value(process, "tradebot_orders_finished_total", status="REJECTED", **VENUE) == 32


def test_the_age_of_the_oldest_unknown_order_grows_until_it_is_settled(bench: Bench, process: Metrics) -> None:
    read = partial(value, process, exchange="binance")
    assert read("tradebot_orders_unknown_age_seconds") == 0
    order = sent(bench)
    order.accepted_ns -= 90 * 10**9
    bench.entry.answers[-1](AnswerLost("the socket broke"))
    assert read("tradebot_orders_unknown") == 1
    assert read("tradebot_orders", status="UNKNOWN") == 1
    assert 90 <= read("tradebot_orders_unknown_age_seconds") < 100
    bench.ledger.take(report(order, OrderStatus.FILLED, filled=1))
    assert read("tradebot_orders_unknown_age_seconds") == 0


def test_lease_stop_and_reconciliation_are_told(bench: Bench, process: Metrics) -> None:
    read, counts = partial(value, process, exchange="binance"), AccountCounts()
    lease: Any = type("Lease", (), {"held": True, "epoch": 4, "failures": 2})()
    expose_safety("binance", counts, bench.reconciler, lease, bench.switch)
    assert (read("tradebot_lease_held"), read("tradebot_lease_epoch"), read("tradebot_emergency_stop")) == (1, 4, 0)
    counts.reconciled_s -= 400
    counts.note_reconciled(False)
    assert read("tradebot_reconciled_age_seconds") >= 400
    counts.note_reconciled(True)
    assert read("tradebot_reconciled_age_seconds") < 1
    assert [read("tradebot_reconciliations_total", outcome=outcome) for outcome in ("ok", "failed")] == [1, 1]
    lease.held = False
    press(bench.home, "stop", "test")
    assert (read("tradebot_lease_held"), read("tradebot_emergency_stop")) == (0, 1)


def test_the_budget_is_told_window_by_window_and_a_ban_for_as_long_as_it_lasts(bench: Bench, process: Metrics) -> None:
    budget = RateBudget(1000, ((50, 10), (160_000, 86_400)))
    entry: Any = bench.entry
    entry.unreadable = 0
    expose_venue("binance", entry, budget, bench.pool)
    budget.take_now(40, Lane.ORDER, orders=1)
    used = {
        name: value(process, "tradebot_rate_used", budget=name, **VENUE) for name in ("weight_60s", "orders_10s", "orders_86400s")
    }
    assert used == {"weight_60s": 40, "orders_10s": 1, "orders_86400s": 1}
    assert value(process, "tradebot_rate_limit", budget="orders_10s", **VENUE) == 50
    assert value(process, "tradebot_rate_silence_seconds", **VENUE) == 0
    budget.silence(30)
    assert 29 < value(process, "tradebot_rate_silence_seconds", **VENUE) <= 30
    assert value(process, "tradebot_clock_bound_seconds", **VENUE) == float("inf")
