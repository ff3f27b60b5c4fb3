"""State is a function of the records: repeats change nothing, and what is over leaves no trace that matters."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from bot.records import CommandDecided, FillApplied
from common_models import OrderStatus, Position

D = Decimal


def test_a_record_that_was_applied_before_changes_nothing(bot: Any) -> None:
    bot.tick(50_000, word=1)
    (order,) = bot.orders
    portfolio = bot.loop.portfolio
    record = FillApplied(fill=bot.fill(order, 50_000, quantity=order.quantity / 2), strategy="consensus")
    bot.loop.storage.append(record)
    before = msgspec.json.encode(portfolio.snapshot())
    portfolio.apply(record)
    portfolio.apply(CommandDecided(command=order, expected_price=D(50_000)))

    assert msgspec.json.encode(portfolio.snapshot()) == before


def test_an_entry_forgets_why_an_earlier_exit_left_dust(bot: Any) -> None:
    bot.bought(50_000)
    bot.tick(49_000)
    stop = bot.orders[-1]
    # the rules of the market were not known when the fill came: what is left could not be told from a position
    bot.loop.storage.append(FillApplied(fill=bot.fill(stop, 49_000), strategy="consensus", ends_trip=False))
    bot.told(bot.update(stop, OrderStatus.FILLED, stop.quantity))
    assert bot.loop.portfolio.exit_reasons
    bot.bought(49_000)
    bot.tick(49_010)

    assert [order.reduce_only for order in bot.orders] == [False, True, False]


def test_equity_is_the_money_and_our_positions_at_the_mark(bot: Any) -> None:
    assert bot.loop.portfolio.equity("binance", "main", "USDT") == 100_000
    assert bot.loop.portfolio.equity("binance", "main", "EUR") is None
    bot.bought(50_000)
    bot.told(bot.balance("USDT", "98000", locked="0.5"), bot.balance("BTC", "7"))
    bot.tick(50_100)

    assert bot.loop.portfolio.equity("binance", "main", "USDT") == D("98000.5") + bot.held * 50_100


def test_fees_in_a_third_asset_are_valued_at_its_price_when_there_is_one(bot: Any) -> None:
    bot.tick(50_000, word=1)
    (order,) = bot.orders
    bot.told(bot.fill(order, 50_000, fee="0.5", fee_asset="ETH"))
    assert bot.said(Position)[-1].fees == 0  # no price of ETH yet: left out, and logged
    bot.tick(2_000, symbol="ETH/USDT")
    bot.tick(50_010)
    bot.loop.tidy(tell_positions=True)

    assert bot.said(Position)[-1].fees == 1_000
    assert bot.held == order.quantity


@pytest.mark.parametrize("named", ["command_id", "client_order_id"])
def test_an_answer_is_matched_by_either_of_its_ids(bot: Any, named: str) -> None:
    bot.tick(50_000, word=1)
    update = bot.update(bot.orders[0], OrderStatus.REJECTED)
    if named == "client_order_id":
        update = msgspec.structs.replace(update, command_id="")
    else:
        update = msgspec.structs.replace(update, client_order_id="f" * 32)
    bot.told(update)

    assert bot.loop.portfolio.orders == {}


def test_a_fill_without_a_strategy_belongs_to_the_order_that_we_sent(bot: Any) -> None:
    bot.tick(50_000, word=1)
    bot.told(bot.fill(bot.orders[0], 50_000, strategy=""))

    assert bot.held > 0
