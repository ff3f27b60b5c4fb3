"""Ids, the emergency stop, the market's rules and crash points: the small parts that the promise rests on."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from common_models import Instrument, InstrumentStatus, OrderType, PlaceOrder, Side, TimeInForce
from connectors.client_order_id import ClientOrderIds, installation_id
from connectors.order_rules import violation
from runtime import crash_points, emergency_stop
from runtime.emergency_stop import StopSwitch, press, read, release
from runtime.service import ServiceError
from runtime.settings import Mode

# ids


def test_a_client_order_id_follows_from_the_command_and_names_mode_and_installation(tmp_path: Path) -> None:
    installation = installation_id(tmp_path)
    assert installation == installation_id(tmp_path)
    assert ((tmp_path / "installation").stat().st_mode & 0o777) == 0o600
    ids = ClientOrderIds(Mode.SIMULATION, installation)
    made = ids.of("c" * 64)
    assert made == ids.of("c" * 64) != ids.of("d" * 64)
    assert (len(made), made[:8]) == (32, "5" + installation)
    assert made == made.lower()
    assert ids.is_ours(made)
    for foreign in ("web_abc", made.upper(), made[:-1], "1" + made[1:], "x-" + made[2:], made[:-1] + "g"):
        assert not ids.is_ours(foreign)


def test_a_damaged_installation_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "installation").write_text("hello")
    with pytest.raises(ServiceError, match="restore"):
        installation_id(tmp_path)


def test_many_processes_agree_on_one_installation(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert len(set(pool.map(installation_id, [tmp_path] * 16))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["installation"]


# the emergency stop


def test_a_stop_is_durable_and_says_who_and_why(tmp_path: Path) -> None:
    assert not read(tmp_path).pressed
    press(tmp_path, "drawdown", "governor")
    state = read(tmp_path)
    assert (state.pressed, state.reason, state.actor) == (True, "drawdown", "governor")
    switch = StopSwitch(tmp_path)
    assert switch.state.pressed
    release(tmp_path, "person")
    assert not switch.state.pressed
    switch.close()


@pytest.mark.parametrize("damage", ["unlink", "garbage", "directory"])
def test_a_stop_that_cannot_be_read_counts_as_pressed(tmp_path: Path, damage: str) -> None:
    switch = StopSwitch(tmp_path)
    assert not switch.state.pressed
    path = tmp_path / "stop" / "state.json"
    path.unlink()
    if damage == "garbage":
        path.write_text("{")
    elif damage == "directory":
        path.mkdir()
    assert switch.state.pressed
    assert read(tmp_path).pressed
    if damage == "directory":
        path.rmdir()
    release(tmp_path, "person")
    assert not switch.state.pressed
    switch.close()


def test_press_waits_for_the_sender_that_has_looked_already(tmp_path: Path) -> None:
    switch = StopSwitch(tmp_path)
    pressed = threading.Event()
    with switch.sending() as state:
        assert not state.pressed
        presser = threading.Thread(target=lambda: (press(tmp_path, "now", "me"), pressed.set()))
        presser.start()
        assert not pressed.wait(0.1)
    presser.join(5)
    assert pressed.is_set()
    with switch.sending() as state:
        assert state.pressed
    switch.close()


def test_a_frozen_sender_does_not_hold_up_the_stop_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emergency_stop, "WAIT_FOR_SENDERS_S", 0.05)
    switch = StopSwitch(tmp_path)
    with switch.sending():
        assert press(tmp_path, "now", "me").pressed
    switch.close()


def test_while_the_stop_is_being_changed_it_counts_as_pressed(tmp_path: Path) -> None:
    switch = StopSwitch(tmp_path)
    lock = os.open(tmp_path / "stop" / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with switch.sending() as state:
        assert state.pressed
    os.close(lock)
    with switch.sending() as state:
        assert not state.pressed
    switch.close()


# the market's rules

MARKET = Instrument(
    exchange="binance", symbol="BTC/USDT", ts_event_ns=None, ts_recv_ns=0, native_symbol="BTCUSDT", base="BTC", quote="USDT",
    status=InstrumentStatus.TRADING, price_tick=Decimal("0.01"), quantity_step=Decimal("0.001"), min_quantity=Decimal("0.01"),
    max_quantity=Decimal(100), max_market_quantity=Decimal(10), min_notional=Decimal(5), max_notional=Decimal(100_000),
    min_price=Decimal("0.01"), max_price=Decimal(1_000_000),
)  # fmt: skip
ORDER = PlaceOrder(
    command_id="c" * 64, exchange="binance", account="main", strategy="s", created_at_ns=1, expires_at_ns=2, symbol="BTC/USDT",
    side=Side.BUY, order_type=OrderType.LIMIT, quantity=Decimal(1), price=Decimal(100),
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"quantity": Decimal("0.0105")}, "BAD_QUANTITY"),
        ({"quantity": Decimal("0.001")}, "BAD_QUANTITY"),
        ({"quantity": Decimal(101)}, "BAD_QUANTITY"),
        ({"quantity": Decimal(0)}, "BAD_QUANTITY"),
        ({"quantity": Decimal(-1)}, "BAD_QUANTITY"),
        ({"order_type": OrderType.MARKET, "price": None, "quantity": Decimal(11)}, "BAD_QUANTITY"),
        ({"order_type": OrderType.MARKET, "price": None, "quantity": Decimal(10)}, ""),
        ({"order_type": OrderType.MARKET}, "BAD_PRICE"),
        ({"price": Decimal("100.005")}, "BAD_PRICE"),
        ({"price": Decimal(2_000_000)}, "BAD_PRICE"),
        ({"price": Decimal("0.00")}, "BAD_PRICE"),
        ({"price": None}, "BAD_PRICE"),
        ({"quantity": Decimal("0.01")}, "BAD_NOTIONAL"),
        ({"price": Decimal(50_000), "quantity": Decimal(3)}, "BAD_NOTIONAL"),
        ({"stop_price": Decimal(1)}, "BAD_STOP_PRICE"),
        ({"order_type": OrderType.STOP_LIMIT}, "BAD_STOP_PRICE"),
        ({"order_type": OrderType.STOP_LIMIT, "stop_price": Decimal("1.001")}, "BAD_PRICE"),
        ({"post_only": True, "time_in_force": TimeInForce.FOK}, "BAD_POST_ONLY"),
        ({"post_only": True}, ""),
        ({"reduce_only": True}, "BAD_REDUCE_ONLY"),
        ({"reduce_only": True, "side": Side.SELL}, ""),
    ],
)
def test_an_order_that_breaks_a_rule_is_named_and_never_rounded(changes: dict[str, object], code: str) -> None:
    broken = violation(msgspec.structs.replace(ORDER, **changes), MARKET)
    assert (broken[0] if broken else "") == code


@pytest.mark.parametrize("status", [InstrumentStatus.HALTED, InstrumentStatus.CANCEL_ONLY])
def test_a_market_that_does_not_trade_takes_no_orders(status: InstrumentStatus) -> None:
    assert violation(ORDER, msgspec.structs.replace(MARKET, status=status)) is not None
    assert violation(ORDER, None) is not None


# crash points


def test_crash_points_work_in_simulation_only_and_count_visits() -> None:
    program = (
        "from runtime import crash_points as c; from runtime.settings import Mode; c.arm(Mode({!r}))\n"
        "for _ in range(5): c.crash_point('other'); c.crash_point('here'); print('past', flush=True)"
    )
    for mode, code, passed in (("simulation", 137, 2), ("live", 0, 5), ("paper", 0, 5)):
        done = subprocess.run(
            [sys.executable, "-c", program.format(mode)],
            env={**os.environ, "CHAOS_CRASH": "here:3"},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout.count(b"past")) == (code, passed)


def test_a_malformed_crash_point_is_refused() -> None:
    with pytest.raises(ValueError, match="CHAOS_CRASH"):
        crash_points.arm(Mode.SIMULATION, {"CHAOS_CRASH": "x:y"})
    crash_points.arm(Mode.SIMULATION, {})
