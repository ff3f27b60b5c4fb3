"""What was appended is there in the next life: whole, compacted or with a torn end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.portfolio import Portfolio
from bot.storage import Storage, StorageError
from common_models import OrderStatus, RoundTrip
from runtime.append_log import AppendLog, AppendLogError


def state_of(portfolio: Portfolio) -> Any:
    return portfolio.snapshot()


def reopened(path: Path, **options: Any) -> tuple[Storage, Portfolio]:
    portfolio = Portfolio(lambda *_: None)
    storage = Storage(path.parent, portfolio, **options)
    storage.open()
    return storage, portfolio


def a_busy_day(bot: Any) -> None:
    bot.bought(50_000)
    bot.tick(49_000)
    bot.filled(bot.orders[-1], 49_000)
    bot.bought(49_000)
    bot.tick(2_000, word=1, symbol="ETH/USDT")
    order = bot.orders[-1]
    bot.told(bot.update(order, OrderStatus.CANCELED, order.quantity), bot.fill(order, 2_000, quantity=order.quantity / 2))


def test_the_state_is_the_same_after_reading_it_back_and_after_compacting(bot: Any) -> None:
    a_busy_day(bot)
    before, path = state_of(bot.loop.portfolio), bot.loop.storage.path
    assert before.orders
    assert before.ledgers
    bot.loop.close()

    storage, portfolio = reopened(path)
    assert state_of(portfolio) == before
    size = path.stat().st_size
    storage.compact()
    assert path.stat().st_size < size
    storage.append()  # the new file takes records
    storage.close()
    storage, portfolio = reopened(path)
    assert state_of(portfolio) == before
    storage.close()


def test_a_large_file_is_compacted_at_the_start_and_while_running(bot: Any) -> None:
    a_busy_day(bot)
    before, path = state_of(bot.loop.portfolio), bot.loop.storage.path
    bot.loop.close()
    storage, portfolio = reopened(path, compact_bytes=100)
    assert len(path.read_bytes().splitlines()) == 1
    assert state_of(portfolio) == before
    storage.close()


def test_a_fill_that_comes_again_after_compacting_still_tells_its_round_trip(bot: Any) -> None:
    bot.bought(50_000)
    bot.tick(49_000)
    fill = bot.filled(bot.orders[-1], 49_000)
    bot.loop.storage.compact()
    bot.told(fill)

    assert len(bot.said(RoundTrip)) == 2


def test_a_torn_last_record_is_left_out(bot: Any) -> None:
    bot.bought(50_000)
    before, path = state_of(bot.loop.portfolio), bot.loop.storage.path
    bot.loop.close()
    with open(path, "ab") as file:
        file.write(b'12345678 {"record":"fi')
    storage, portfolio = reopened(path)

    assert state_of(portfolio) == before
    storage.close()


def test_a_second_bot_on_the_same_home_is_refused(bot: Any) -> None:
    with pytest.raises(AppendLogError, match="another process"):
        reopened(bot.loop.storage.path)


def test_a_record_of_another_version_is_an_error_that_says_where(tmp_path: Path) -> None:
    with AppendLog(tmp_path / "state.log") as log:
        log.append(b'{"record":"from the future"}')

    with pytest.raises(StorageError, match=r"state\.log:1: not a record"):
        reopened(tmp_path / "state.log")
