"""The synthetic market: it looks like the recorded one, has a past, and the same seed makes the same past."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from common_models.base import Side
from common_models.commands_events_models import OrderType
from common_models.instruments import Symbol
from runtime.settings import ExchangeSettings, SimulatorSettings
from simulator.exchange import MAKERS, TAKERS, SimulatedExchange
from simulator.ledger import RequestIdentity
from simulator.listing import base_price, listing
from simulator.market import SyntheticMarket
from simulator.price_path import PricePath
from simulator.tape import PublicTrade
from trading.matching_orders import NewOrder

BTC = Symbol("BTC", "USDT")
SETTINGS = ExchangeSettings(port=8001, simulator=SimulatorSettings(history_bars=100))
REQUEST = RequestIdentity("test")


def market(seed: int = 1, home: Path | None = None) -> tuple[SimulatedExchange, SyntheticMarket]:
    price = base_price(BTC, SETTINGS)
    exchange = SimulatedExchange([listing("binance", BTC, "BTCUSDT", price)], SETTINGS.simulator, market_dir=home)
    agents = SyntheticMarket(exchange, exchange.markets[str(BTC)], price, seed)
    agents.make_history(SETTINGS.simulator.history_bars)
    return exchange, agents


def test_the_same_seed_makes_the_same_past_and_another_seed_another() -> None:
    pasts = [[bar.close for bar in market(seed)[0].markets[str(BTC)].candles.closed] for seed in (1, 1, 2)]
    assert pasts[0] == pasts[1] != pasts[2]
    assert len(pasts[0]) == 100
    assert pasts[0][-1] == base_price(BTC, SETTINGS)


def test_a_minute_of_it_looks_like_the_recorded_market() -> None:
    exchange, agents = market()
    spreads: Counter[Decimal] = Counter()
    trades: list[PublicTrade] = []
    exchange.trade_listeners.append(lambda _, new: trades.extend(new))
    book = exchange.markets[str(BTC)].book
    for _ in range(1200):
        agents.step(0.05)
        bid, ask = book.bids.best(), book.asks.best()
        assert bid is not None
        assert ask is not None
        spreads[ask - bid] += 1
    sizes = [float(trade.size) for trade in trades]
    assert spreads[Decimal("0.01")] > 0.6 * spreads.total()
    assert 300 < len(trades) < 3000
    assert 0.0001 < statistics.median(sizes) < 0.05
    assert 1 < float(sum(size for _, size in book.bids.top(20))) < 30
    assert len(book.bids) > 40
    assert len(book.asks) > 40


def test_its_money_is_conserved_and_its_accounts_may_owe() -> None:
    exchange, agents = market()
    totals = {asset: exchange.engine.accounts.total(asset) for asset in ("BTC", "USDT")}
    for _ in range(200):
        agents.step(0.05)
    assert {asset: exchange.engine.accounts.total(asset) for asset in totals} == totals
    assert exchange.engine.accounts.holding(TAKERS, "USDT").total != 0
    assert exchange.engine.accounts.holding(MAKERS, "USDT").total != 0


def test_a_resting_order_is_reached_as_the_price_moves() -> None:
    exchange, agents = market()
    agents.step(0.1)
    best = exchange.markets[str(BTC)].book.asks.best()
    assert best is not None
    order = exchange.place(
        NewOrder(
            account="simulator",
            symbol=str(BTC),
            side=Side.SELL,
            order_type=OrderType.LIMIT,
            client_order_id="",
            quantity=Decimal("0.01"),
            price=best,
        ),
        REQUEST,
    ).order
    assert order is not None
    for _ in range(20_000):
        agents.step(0.05)
        if order.status.terminal:
            break
    assert order.status.value == "FILLED"


def test_a_later_run_goes_on_from_the_last_price(tmp_path: Path) -> None:
    exchange, agents = market(home=tmp_path)
    for _ in range(400):
        agents.step(0.05)
    last = exchange.markets[str(BTC)].book.last_price
    assert last is not None
    exchange.close()

    again, agents = market(home=tmp_path)
    agents.step(0.05)

    resumed = again.markets[str(BTC)]
    assert resumed.book.bids.best() == pytest.approx(last, rel=Decimal("0.001"))
    assert resumed.tape.last(1)[0].trade_id >= exchange.markets[str(BTC)].book.next_trade_id - 1
    opens = [bar.open_ns for bar in resumed.candles.closed]
    assert opens == sorted(set(opens))


def test_the_path_moves_about_as_much_as_measured_in_a_second_and_more_in_a_minute() -> None:
    path = PricePath(60_000.0, "x")
    prices = [path.advance(1.0) for _ in range(20_000)]
    second = statistics.pstdev((b / a - 1) * 1e4 for a, b in itertools.pairwise(prices))
    minute = statistics.pstdev((b / a - 1) * 1e4 for a, b in zip(prices[::60], prices[60::60], strict=False))
    assert 0.8 < second < 3
    assert 8 < minute < 60
    assert max(prices) / min(prices) < 1.5
    path.anchor(50_000.0)
    assert path.price == pytest.approx(50_000.0)


@pytest.mark.parametrize(
    ("symbol", "tick", "step"),
    [
        ("BTC/USDT", "0.01", "0.00001"),
        ("ETH/USDT", "0.01", "0.0001"),
        ("DOGE/USDT", "0.00001", "1"),
        ("ETH/BTC", "0.00001", "0.001"),
    ],
)
def test_rules_are_in_proportion_to_the_price(symbol: str, tick: str, step: str) -> None:
    parsed = Symbol.parse(symbol)
    rules = listing("binance", parsed, "X", base_price(parsed, SETTINGS))
    assert (rules.price_tick, rules.quantity_step) == (Decimal(tick), Decimal(step))
    assert rules.min_notional > 0
