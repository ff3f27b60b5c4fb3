"""The order path against the project's own simulator, which knows nothing of the connector: two readings of one documentation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from common_models import OrderType, Side, TimeInForce
from runtime.settings import ExchangeSettings
from simulator.service import Simulator, running
from tests.fakes.trading_desk import Desk
from tests.support.waiting import eventually


@dataclass
class SimulatedVenue:
    """Where the simulator listens."""

    simulator: Simulator

    @property
    def rest_url(self) -> str:
        return self.simulator.url

    @property
    def ws_api_url(self) -> str:
        return f"{self.simulator.url.replace('http', 'ws', 1)}/ws-api/v3"


@pytest.fixture
async def venue(tmp_path: Path) -> AsyncIterator[SimulatedVenue]:
    settings = ExchangeSettings(port=0)
    async with running("binance", settings, tmp_path / "venue") as simulator:
        stop = asyncio.Event()
        market = asyncio.create_task(simulator.until(stop))
        yield SimulatedVenue(simulator)
        stop.set()
        await market


async def test_orders_of_every_kind_live_and_end_as_the_simulator_says(
    tmp_path: Path, valkey_url: str, venue: SimulatedVenue
) -> None:
    rules = venue.simulator.exchange.markets["BTC/USDT"].instrument
    desk = Desk(
        home=tmp_path, url=valkey_url, venue=venue, instruments={"BTC/USDT": rules}, recv_window_ms=5000, answer_timeout_s=5.0
    )
    quantity = rules.quantity_down(Decimal("0.01"))
    async with desk.serving():
        buy = desk.order(order_type=OrderType.MARKET, price=None, quantity=quantity)
        await desk.give(buy)
        bought = await desk.reaches(buy, "FILLED")
        paid = bought.filled_quote / bought.filled_quantity
        low, high = rules.price_down(paid * Decimal("0.9")), rules.price_up(paid * Decimal("1.1"))

        resting, other = desk.order(price=low, quantity=quantity), desk.order(price=high, quantity=quantity, side=Side.SELL)
        ioc = desk.order(price=low, quantity=quantity, time_in_force=TimeInForce.IOC)
        crossing = desk.order(price=high, quantity=quantity, post_only=True)
        stop_limit = desk.order(
            order_type=OrderType.STOP_LIMIT,
            side=Side.SELL,
            quantity=quantity,
            price=low,
            stop_price=rules.price_down(paid * Decimal("0.95")),
        )
        huge = desk.order(price=low, quantity=Decimal(20))  # more than the account has
        await desk.give(resting, other, ioc, crossing, stop_limit, huge)
        for command in (resting, other, stop_limit):
            await desk.reaches(command, "OPEN")
        await desk.reaches(ioc, "EXPIRED")
        assert (await desk.reaches(crossing, "REJECTED")).code == "-2010"
        assert (await desk.reaches(huge, "REJECTED")).code == "-2010"

        await desk.give(desk.cancel(resting))
        await desk.reaches(resting, "CANCELED")
        await desk.give(desk.cancel_all())
        await desk.reaches(other, "CANCELED")
        await desk.reaches(stop_limit, "CANCELED")
        await eventually(lambda: desk.balances().get("BTC") and not desk.balances()["BTC"].locked)

    fills = list(desk.fills().values())
    assert sum(fill.quantity for fill in fills) == bought.filled_quantity == quantity
    assert sum(fill.quote_quantity for fill in fills) == bought.filled_quote
    start = venue.simulator.settings.balances
    fees = sum((fill.fee for fill in fills if fill.fee_asset == "BTC"), Decimal(0))
    assert desk.balances()["BTC"].total == start["BTC"] + quantity - fees
    assert desk.balances()["USDT"].total == start["USDT"] - bought.filled_quote
