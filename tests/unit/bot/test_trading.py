"""From an event to an order and back: entries, exits, restarts, and why nothing was done."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from bus.errors import BufferFull
from bus.interfaces import Retry
from common_models import (
    Alert,
    ConnectionState,
    ConnectorStatus,
    Control,
    ControlAction,
    Decision,
    InstrumentStatus,
    OrderStatus,
    OrderType,
    Position,
    RoundTrip,
    Side,
    Signal,
    TimeInForce,
    Verdict,
)

D = Decimal
SECOND_NS = 1_000_000_000


def control(action: ControlAction, target: str | None = None) -> Control:
    return Control(action=action, actor="test", reason="because", created_at_ns=1, target=target)


def test_a_signal_becomes_a_decision_and_an_order_in_the_same_turn(bot: Any) -> None:
    ticker = bot.tick(50_000, word=1)

    (order,) = bot.orders
    assert (order.side, order.order_type, order.time_in_force) == (Side.BUY, OrderType.MARKET, TimeInForce.IOC)
    assert order.quantity == D("0.03999")  # 2 % of 100,000 at the offer of 50,000.02, in whole steps
    assert not order.reduce_only
    (signal,), (decision,) = bot.said(Signal), bot.said(Decision)
    assert (signal.strategy, signal.causation_id) == ("obedient", ticker.message_id)
    assert (decision.verdict, decision.code, decision.command_id) == (Verdict.TAKEN, "ENTRY_CONSENSUS", order.command_id)
    assert (decision.causation_id, decision.signals) == (signal.message_id, (signal.message_id,))
    assert (order.causation_id, order.correlation_id) == (decision.message_id, ticker.message_id)
    assert [name for name, _ in bot.publisher.put_messages[-3:]] == [
        "simulation:signals",
        "simulation:decisions",
        "simulation:commands:{binance}:main",
    ]


def test_fills_make_a_position_and_its_end_a_round_trip_that_adds_up(bot: Any) -> None:
    bot.bought(50_000)
    assert bot.held == D("0.03999") * D("0.999")
    bot.tick(50_300, word=2)
    bot.tick(50_300)
    exit_order = bot.orders[-1]
    assert (exit_order.side, exit_order.reduce_only, exit_order.quantity) == (Side.SELL, True, D("0.03995"))
    bot.filled(exit_order, 50_300)

    (trip,) = bot.said(RoundTrip)
    assert (trip.side, trip.exit_reason, trip.quantity, trip.trade_ids) == (Side.BUY, "exit_signal", D("0.03995"), ("1", "2"))
    assert trip.profit == trip.exit_proceeds - trip.entry_cost - trip.fees
    assert trip.entry_cost == D("0.03995") * 50_000
    last = bot.said(Position)[-1]
    paid, received = D("0.03999") * 50_000, D("0.03995") * 50_300 * D("0.999")
    assert last.quantity == bot.held == D("0.00000001")  # dust
    assert last.realised + last.unrealised - last.fees == received - paid + bot.held * 50_300


@pytest.mark.parametrize(
    ("price", "reason"),
    [(49_700, "stop_loss"), (50_500, "take_profit")],
)
def test_a_position_is_closed_at_its_levels(bot: Any, price: int, reason: str) -> None:
    bot.bought(50_000)
    bot.tick(50_000 + (price - 50_000) // 2)
    assert len(bot.orders) == 1
    bot.tick(price)

    assert len(bot.orders) == 2
    assert bot.orders[-1].reduce_only
    assert bot.said(Decision)[-1].code == f"EXIT_{reason.upper()}"


def test_one_exit_at_a_time_and_the_rest_is_tried_again_until_all_is_sold(bot: Any) -> None:
    bot.bought(50_000)
    bot.tick(49_000)
    bot.tick(49_000)
    first = bot.orders[-1]
    assert len(bot.orders) == 2
    part = D("0.01")
    bot.told(bot.fill(first, 49_000, quantity=part), bot.update(first, OrderStatus.CANCELED, part))
    bot.tick(50_000)  # the price is back, but an exit that was begun is finished

    assert len(bot.orders) == 3
    assert bot.orders[-1].quantity == D("0.02995")
    bot.filled(bot.orders[-1], 50_000)
    assert [trip.exit_reason for trip in bot.said(RoundTrip)] == ["stop_loss"]
    bot.tick(40_000)
    assert len(bot.orders) == 3


def test_an_exit_that_does_not_fill_is_tried_again_after_growing_waits_and_told(bot: Any) -> None:
    bot.bought(50_000)
    tried_at = []
    for _ in range(400):
        before = len(bot.orders)
        bot.tick(49_000)
        if len(bot.orders) > before:
            tried_at.append(bot.now_ns)
            bot.told(bot.update(bot.orders[-1], OrderStatus.EXPIRED))
        bot.now_ns += SECOND_NS // 10

    waits = [(later - earlier) / SECOND_NS for earlier, later in pairwise(tried_at)]
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16], abs=0.11)
    assert [alert.code for alert in bot.said(Alert)] == ["EXIT_REPEATED"]


def test_an_order_is_over_only_when_its_fills_were_seen(bot: Any) -> None:
    bot.tick(50_000, word=1)
    (order,) = bot.orders
    fill = bot.fill(order, 50_000)
    bot.told(bot.update(order, OrderStatus.FILLED, order.quantity))  # the fills come by another stream, later
    bot.tick(50_000, word=1)
    assert bot.denials == ["ORDER_IN_FLIGHT"]
    assert len(bot.orders) == 1
    bot.told(fill)
    bot.tick(49_000)
    exit_order = bot.orders[-1]
    bot.told(bot.update(exit_order, OrderStatus.FILLED, exit_order.quantity))
    bot.now_ns += 100 * SECOND_NS
    bot.tick(49_000)

    assert len(bot.orders) == 2, "a second exit was sent while the fills of the first were on their way"


def test_a_fill_that_comes_again_changes_nothing_but_is_told_again(bot: Any) -> None:
    bot.bought(50_000)
    bot.tick(49_000)
    fill = bot.filled(bot.orders[-1], 49_000)
    held, size = bot.held, bot.loop.storage.path.stat().st_size
    bot.told(fill)

    assert bot.held == held
    assert bot.loop.storage.path.stat().st_size == size
    assert len({trip.closed_ns for trip in bot.said(RoundTrip)}) == 1
    assert len(bot.said(RoundTrip)) == 2


def test_what_the_account_held_and_what_others_trade_is_not_ours(bot: Any) -> None:
    bot.told(bot.balance("BTC", "3"))
    bot.tick(50_000, word=1)
    foreign = bot.fill(bot.orders[0], 50_000, client_order_id="web_123", strategy="", external=True)
    bot.told(foreign)

    assert bot.held == 0


@pytest.mark.parametrize(
    ("code", "prepare"),
    [
        ("TRADING_HALTED", lambda bot: bot.hear(control(ControlAction.HALT))),
        ("QUOTE_CROSSED", None),
        ("INSTRUMENT_CLOSED", lambda bot: bot.instrument(status=InstrumentStatus.HALTED)),
        ("BALANCE_INSUFFICIENT", lambda bot: bot.told(bot.balance("USDT", "1000", locked="99000"))),
        ("NOTIONAL_TOO_SMALL", lambda bot: bot.told(bot.balance("USDT", "100"))),
        (
            "VENUE_NOT_READY",
            lambda bot: bot.told(
                ConnectorStatus(
                    exchange="binance",
                    account="main",
                    ts_event_ns=None,
                    ts_recv_ns=1,
                    leg="orders",
                    state=ConnectionState.RECONCILING,
                    reason="starting",
                )
            ),
        ),
    ],
)
def test_each_gate_says_why_nothing_was_ordered(bot: Any, code: str, prepare: Any) -> None:
    if prepare is None:
        bot.tick(50_000, crossed=True)
        signal = Signal(
            strategy="other",
            exchange="binance",
            symbol="BTC/USDT",
            direction="buy",
            confidence=1,
            strength=1,
            reason="",
            ts_event_ns=1,
        )
        bot.loop.decision_maker.decide(bot.loop.provider.ticker("binance", "BTC/USDT"), [signal])
    else:
        prepare(bot)
        bot.tick(50_000, word=1)

    assert bot.orders == []
    assert bot.denials == [code]


def test_without_rules_or_balance_nothing_is_bought(make_bot: Any) -> None:
    bot = make_bot()
    bot.tick(50_000, word=1)
    assert bot.denials == ["INSTRUMENT_UNKNOWN"]
    bot.instrument()
    bot.tick(50_000, word=1)
    assert bot.denials == ["INSTRUMENT_UNKNOWN", "BALANCE_UNKNOWN"]


def test_a_halt_lets_positions_be_closed_and_a_resume_lets_new_ones_in(bot: Any) -> None:
    bot.bought(50_000)
    bot.hear(control(ControlAction.HALT, "binance"))
    bot.tick(49_000)
    assert bot.orders[-1].reduce_only
    bot.filled(bot.orders[-1], 49_000)
    bot.tick(49_000, word=1)
    assert bot.denials == ["TRADING_HALTED"]
    bot.hear(control(ControlAction.RESUME, "binance"))
    bot.tick(49_000, word=1)
    assert len(bot.orders) == 3


def test_no_more_trades_at_the_same_time_than_allowed(make_bot: Any) -> None:
    bot = make_bot(max_concurrent_trades=1).ready()
    bot.tick(50_000, word=1)  # on its way, and not yet held, counts
    bot.tick(2_000, word=1, symbol="ETH/USDT")

    assert bot.denials == ["TRADES_AT_LIMIT"]
    assert len(bot.orders) == 1


def test_a_cooldown_follows_every_order(make_bot: Any) -> None:
    bot = make_bot(cooldown_s=5).ready()
    bot.bought(50_000)
    bot.tick(49_000)
    bot.filled(bot.orders[-1], 49_000)
    bot.tick(49_000, word=1)
    bot.now_ns += 5 * SECOND_NS
    bot.tick(49_000, word=1)

    assert bot.denials == ["COOLDOWN_RUNNING"]
    assert len(bot.orders) == 3


def test_money_of_an_order_on_its_way_is_not_spent_twice(make_bot: Any) -> None:
    bot = make_bot(position_size_percentage=60).ready()
    bot.tick(50_000, word=1)
    bot.told(bot.update(bot.orders[0], OrderStatus.UNKNOWN))
    bot.tick(2_000, word=1, symbol="ETH/USDT")

    assert bot.denials == ["BALANCE_INSUFFICIENT"]
    numbers = bot.said(Decision)[-1].numbers
    assert D(numbers["reserved"]) == pytest.approx(D(60_000), abs=1)


def test_old_events_warm_up_but_never_trade(bot: Any) -> None:
    bot.now_ns += 60 * SECOND_NS
    old = bot.tick(50_000, word=1)
    bot.now_ns += 6 * SECOND_NS
    signals = len(bot.said(Signal))
    bot.hear(old)

    assert len(bot.said(Signal)) == signals
    assert len(bot.orders) == 1  # only the one when it was young


def test_repeated_denials_are_told_once_and_counted(bot: Any) -> None:
    bot.hear(control(ControlAction.HALT))
    for _ in range(50):
        bot.tick(50_000, word=1)
        bot.now_ns += SECOND_NS // 10
    assert bot.denials == ["TRADING_HALTED"]
    bot.now_ns += 10 * SECOND_NS
    bot.loop.tidy(tell_positions=False)

    assert bot.denials == ["TRADING_HALTED"] * 2
    assert bot.said(Decision)[-1].numbers["repeats"] == "49"


def test_a_restart_goes_on_with_the_position_and_its_levels(bot: Any) -> None:
    bot.bought(50_000)
    held = bot.held
    bot = bot.again()
    bot.instrument()
    assert bot.held == held
    bot.tick(49_000)

    assert bot.orders[-1].reduce_only


def test_a_restart_asks_for_the_fate_of_orders_and_orders_nothing_twice(bot: Any) -> None:
    ticker = bot.tick(50_000, word=1)
    (order,) = bot.orders
    bot = bot.again()
    bot.instrument()
    assert [again.command_id for again in bot.orders] == [order.command_id], "the unanswered command was not sent again"
    bot.hear(ticker)
    bot.told(bot.update(order, OrderStatus.REJECTED))
    bot.hear(ticker)  # the same event decides the same command, which was decided before

    assert len({again.command_id for again in bot.orders}) == 1
    assert len(bot.orders) == 1


def test_a_command_that_the_bus_did_not_take_is_sent_later(bot: Any) -> None:
    bot.publisher.refuses = BufferFull("the server is away")
    bot.tick(50_000, word=1)
    bot.publisher.refuses = None
    assert bot.orders == []
    bot.now_ns += 16 * SECOND_NS
    bot.loop.tidy(tell_positions=False)
    bot.loop.tidy(tell_positions=False)

    assert len(bot.orders) == 1


def test_an_answered_order_is_not_asked_for(bot: Any) -> None:
    bot.tick(50_000, word=1)
    bot.told(bot.update(bot.orders[0], OrderStatus.OPEN))
    bot.now_ns += 600 * SECOND_NS
    bot.loop.tidy(tell_positions=False)

    assert len(bot.orders) == 1


def test_nothing_is_ordered_that_could_not_be_written_down(bot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("runtime.append_log.AppendLog.append_many", full)
    bot.tick(50_000, word=1)
    assert bot.orders == []
    assert bot.denials == ["STORAGE_UNWRITABLE"]
    with pytest.raises(Retry):
        bot.told(bot.balance("USDT", "1"))


def test_positions_are_told_again_when_the_mark_moves(bot: Any) -> None:
    bot.bought(50_000)
    before = len(bot.said(Position))
    for price in (50_010, 50_010, 50_020):
        bot.tick(price)
        bot.loop.tidy(tell_positions=True)

    assert [position.mark_price for position in bot.said(Position)[before:]] == [50_010, 50_020]


@pytest.mark.parametrize("action", [ControlAction.DISABLE, ControlAction.SHADOW])
def test_a_plugin_that_loses_its_say_by_word_loses_it_at_once(bot: Any, action: ControlAction) -> None:
    bot.hear(control(action, "obedient"))
    bot.tick(50_000, word=1)

    assert bot.orders == []


def test_a_denied_entry_is_tried_again_while_the_plugins_want_it(make_bot: Any) -> None:
    bot = make_bot()
    bot.instrument()
    bot.tick(50_000, word=1)
    assert bot.denials == ["BALANCE_UNKNOWN"]
    bot.told(bot.balance("USDT", "100000"))
    bot.tick(50_000)
    assert bot.orders == []  # not with every tick
    bot.now_ns += SECOND_NS // 2
    ticker = bot.tick(50_000)

    (order,) = bot.orders
    assert order.correlation_id == ticker.message_id


@pytest.mark.parametrize(("word", "wait_s"), [(3, 1), (2, 1), (9, 31)])
def test_a_denied_entry_is_forgotten_when_the_opinion_turns_or_after_a_while(make_bot: Any, word: int, wait_s: int) -> None:
    bot = make_bot()
    bot.instrument()
    bot.tick(50_000, word=1)
    bot.tick(50_000, word=word)
    bot.told(bot.balance("USDT", "100000"))
    for _ in range(3):
        bot.now_ns += wait_s * SECOND_NS
        bot.tick(50_000)

    assert bot.orders == []


def test_an_order_without_an_answer_is_asked_for_ever_more_seldom_and_told(bot: Any) -> None:
    bot.tick(50_000, word=1)
    for _ in range(3600):
        bot.now_ns += SECOND_NS
        bot.loop.tidy(tell_positions=False)

    assert 5 < len(bot.orders) < 10
    assert [alert.code for alert in bot.said(Alert)] == ["ORDER_UNANSWERED"]
