"""The journal answers after any crash what was accepted, what may have been sent and what is known."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from common_models import CancelOrder, Liquidity, OrderStatus, OrderType, PlaceOrder, Side
from connectors import journal as journal_module
from connectors.journal import Journal, JournalError
from connectors.journal_records import WireRequest
from runtime.clock import now_ns
from trading.order_state import Attempted, Closed, Doubted, Executed, OrderTerms, Reported

REQUEST = WireRequest(method="order.place", params={"symbol": "BTCUSDT", "quantity": "1"}, orders=1)


def place(number: int, expires_at_ns: int = 0) -> PlaceOrder:
    return PlaceOrder(
        command_id=f"{number:064x}", exchange="binance", account="main", strategy="s", created_at_ns=1,
        expires_at_ns=expires_at_ns or now_ns() + 10**10, symbol="BTC/USDT", side=Side.BUY, order_type=OrderType.LIMIT,
        quantity=Decimal("1.50"), price=Decimal("100.10"),
    )  # fmt: skip


def fill(trade_id: str, quantity: str) -> Executed:
    return Executed(
        trade_id=trade_id, price=Decimal(100), quantity=Decimal(quantity), quote_quantity=Decimal(quantity) * 100, fee=Decimal(0),
        fee_asset="BNB", liquidity=Liquidity.TAKER, at_ns=5, exchange_order_id="7",
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "binance-main.journal"


def test_everything_recorded_is_there_again_after_a_crash(path: Path) -> None:
    before = Journal(path, sync=True)
    order = before.accept_order("a" * 32, place(1), REQUEST, epoch=3)
    before.about_to_send(order, Attempted(attempt=1, deadline_ns=77, epoch=3, timestamp_ms=5))
    before.learn(order, fill("1", "0.5"))
    assert not before.learn(order, fill("1", "0.5"))
    cancel = CancelOrder(
        command_id="c" * 64, exchange="binance", account="main", strategy="s", created_at_ns=1, expires_at_ns=2, symbol="BTC/USDT",
        client_order_id="a" * 32,
    )  # fmt: skip
    before.accept_command(cancel, epoch=3)
    before.saw_trades("BTC/USDT", 9)
    before.published("life", {"a" * 32: 2})
    os.close(before._log._file.fileno())  # as a killed process does: nothing is flushed or said

    after = Journal(path, sync=True)
    read = after.orders["a" * 32]
    assert (read.command, read.request, read.revision, read.published) == (order.command, REQUEST, 3, 2)
    assert read.state == order.state
    assert read.state.status is OrderStatus.PARTIALLY_FILLED
    assert read.knowledge.deadline_ns == 77
    assert after.pending_commands == [cancel]
    assert (after.trades_seen, after.bus_epoch) == ({"BTC/USDT": 9}, "life")


def test_the_exact_request_and_the_deadline_are_on_disk_before_anything_is_sent(path: Path) -> None:
    journal = Journal(path, sync=False)
    order = journal.accept_order("a" * 32, place(1), REQUEST, epoch=1)
    assert '"params":{"symbol":"BTCUSDT","quantity":"1"}' in path.read_text()
    journal.about_to_send(order, Attempted(attempt=1, deadline_ns=123456))
    assert "123456" in path.read_text()


def test_a_torn_last_line_is_cut_and_a_damaged_one_refused(path: Path) -> None:
    with_order = Journal(path, sync=False)
    with_order.accept_order("a" * 32, place(1), REQUEST, epoch=1)
    with_order.close()
    whole = path.read_bytes()

    path.write_bytes(whole + b"1234")
    torn = Journal(path, sync=False)
    assert (torn.torn_bytes, list(torn.orders)) == (4, ["a" * 32])
    torn.close()

    path.write_bytes(whole.replace(b"BTCUSDT", b"BTCUSDC"))
    with pytest.raises(JournalError, match="damaged"):
        Journal(path, sync=False)


def test_two_processes_cannot_write_the_same_journal(path: Path) -> None:
    first = Journal(path, sync=False)
    with pytest.raises(JournalError, match="in use"):
        Journal(path, sync=False)
    first.close()


def test_a_journal_of_a_newer_version_is_refused_and_not_guessed(path: Path) -> None:
    from runtime.append_log import AppendLog

    with AppendLog(path) as log:
        log.append(b'{"record":"from-the-future"}')
    with pytest.raises(JournalError, match="newer version"):
        Journal(path, sync=False)


def filled_journal(path: Path) -> Journal:
    journal = Journal(path, sync=False)
    for number in range(6):
        order = journal.accept_order(f"{number:032x}", place(number, expires_at_ns=1 + number), REQUEST, epoch=1)
        if number < 4:
            journal.learn(order, Closed(status=OrderStatus.EXPIRED, code="EXPIRED_LOCALLY", reason="late"))
            journal.published("life", {order.client_order_id: order.revision})
    journal.about_to_send(order, Attempted(attempt=1, deadline_ns=5))
    journal.learn(order, Doubted(attempt=1, reason="time-out"))
    terms = OrderTerms(symbol="BTC/USDT", side=Side.SELL, order_type=OrderType.LIMIT, quantity=Decimal(1))
    external = journal.adopt("by-hand", terms, external=True)
    journal.learn(external, Reported(status=OrderStatus.OPEN, at_ns=1, exchange_order_id="8"))
    return journal


def test_rotation_keeps_what_matters_and_forgets_old_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "KEEP_FINISHED", 1)
    journal = filled_journal(path)
    states = {key: order.state for key, order in journal.orders.items()}
    size = path.stat().st_size
    journal.keep_small(now=True)
    assert path.stat().st_size < size
    journal.learn(journal.orders["by-hand"], fill("5", "1"))
    journal.close()

    again = Journal(path, sync=False)
    assert list(again.orders) == [f"{number:032x}" for number in (3, 4, 5)] + ["by-hand"]
    assert again.orders[f"{5:032x}"].state == states[f"{5:032x}"]
    assert again.orders["by-hand"].state.status is OrderStatus.FILLED
    assert again.forgot_until_ns == 3
    assert {order.client_order_id for order in again.unfinished} == {f"{4:032x}", f"{5:032x}"}


@pytest.mark.parametrize("instant", ["before the file is whole", "before the rename"])
def test_a_crash_during_rotation_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, instant: str) -> None:
    journal = filled_journal(path)
    expected = {key: msgspec.json.encode(order.knowledge) for key, order in journal.orders.items()}

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    if instant == "before the rename":
        monkeypatch.setattr(Path, "replace", crash)
    else:
        monkeypatch.setattr(journal_module.AppendLog, "sync", crash)
    with pytest.raises(KeyboardInterrupt):
        journal._rotate()
    monkeypatch.undo()
    os.close(journal._log._file.fileno())

    again = Journal(path, sync=False)
    assert {key: msgspec.json.encode(order.knowledge) for key, order in again.orders.items()} == expected
    assert not path.with_name(f"{path.name}.new").exists()


def test_an_order_that_proves_alive_after_its_end_is_unfinished_again(path: Path) -> None:
    journal = Journal(path, sync=False)
    order = journal.accept_order("a" * 32, place(1), REQUEST, epoch=1)
    journal.learn(order, Closed(status=OrderStatus.REJECTED, code="X", reason="y"))
    assert not journal.unfinished
    journal.learn(order, Reported(status=OrderStatus.OPEN, at_ns=1, exchange_order_id="8"))
    assert journal.unfinished == [order]
