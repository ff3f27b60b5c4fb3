"""Fills of orders that carry our id and that nobody remembers deciding: they were decided after the backup we were restored from."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from bot.records import STRATEGY
from common_models import Position

D = Decimal


def test_the_deciding_strategy_inherits_what_nobody_remembers(bot: Any) -> None:
    bot.bought(50_000)
    held = bot.held
    forgotten = replace(bot.fill(bot.orders[-1], 50_100, fee="0"), trade_id="90001", client_order_id="5" + "0" * 31, strategy="")
    bot.told(forgotten)

    assert bot.held == held + forgotten.quantity
    assert bot.said(Position)[-1].strategy == STRATEGY
    bot.told(forgotten)
    assert bot.held == held + forgotten.quantity


def test_what_another_hand_did_is_still_nobodys(bot: Any) -> None:
    bot.bought(50_000)
    held = bot.held
    theirs = replace(bot.fill(bot.orders[-1], 50_100), trade_id="90002", client_order_id="web_1", strategy="", external=True)
    bot.told(theirs)

    assert bot.held == held
