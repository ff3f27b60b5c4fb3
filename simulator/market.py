"""A synthetic market: agents that place real orders in the matching core, so that there is a book, a tape and a past.

Makers keep a ladder of about a hundred levels a side around a seeded price; takers come in bursts and sweep it. Sizes, spread,
depth and rates follow the recorded BTCUSDT of August 2024 (spread of one tick 89 % of the time; trades of 0.0007 at the median
and 0.32 at the 99th percentile; 11 takers a second; seven units within twenty levels of a side), at about half of its event rate.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from decimal import Decimal

from common_models.base import Side
from common_models.commands_events_models import OrderType, TimeInForce
from runtime.clock import monotonic_s, now_ns
from simulator.candles import MINUTE_NS, Bar
from simulator.exchange import MAKERS, TAKERS, Market, SimulatedExchange
from simulator.price_path import PricePath
from trading.matching_orders import NewOrder, Order

_LEVELS = 90
_LADDER_WIDTH = 6e-4  # of the price, on either side
_TAKERS_PER_S = 7.0
_CHANGES_PER_S = 45.0
_TOP_CHANGES_PER_S = 25.0
_STEP_S = 0.05
_DOLLARS_PER_UNIT = 60_000.0  # sizes below are in BTC and scale with the price


class SyntheticMarket:
    """The agents of one market."""

    def __init__(self, exchange: SimulatedExchange, market: Market, base_price: Decimal, seed: int) -> None:
        self._exchange = exchange
        self._market = market
        instrument = market.instrument
        # another run must not repeat the same flow from a different price
        run = f"{seed}:{market.symbol}:{market.tape.next_trade_id}"
        self._random = random.Random(f"flow:{run}")  # noqa: S311 a reproducible market, not a secret
        self._path = PricePath(float(base_price), f"path:{run}")
        self._tick = float(instrument.price_tick)
        self._step = float(instrument.quantity_step)
        self._unit = _DOLLARS_PER_UNIT / float(base_price)
        self._min_steps = int(float(instrument.min_notional) / (float(base_price) * self._step) * 1.5) + 1
        self._orders: dict[Side, dict[int, Order]] = {Side.BUY: {}, Side.SELL: {}}
        self._best: dict[Side, int] = {}

    # -- the past -------------------------------------------------------------------------------------------------------

    def make_history(self, bars: int) -> None:
        """Give the market its past: `bars` minutes the first time, the minutes that it was away for later."""
        candles = self._market.candles
        last_open_ns = now_ns() // MINUTE_NS * MINUTE_NS
        known = candles.closed[-1] if candles.closed else None
        if known is not None:
            missing = min(int((last_open_ns - known.open_ns) // MINUTE_NS) - 1, bars)
            self._path.anchor(float(self._market.book.last_price or known.close))
        else:
            missing = bars
        fresh = list(self._bars(last_open_ns - missing * MINUTE_NS, missing))
        if known is None and fresh:  # the past leads up to the base price; the present starts there
            self._rescale(fresh)
        candles.extend(fresh)
        if self._market.book.last_price is None and candles.closed:
            self._market.book.last_price = candles.closed[-1].close

    def _bars(self, first_open_ns: int, count: int) -> Iterator[Bar]:
        volume_unit = 20.0 * self._unit
        for number in range(count):
            prices = [self._path.price, *(self._path.advance(2.0) for _ in range(30))]
            volume = self._decimal_size(volume_unit * self._random.lognormvariate(0.0, 0.5))
            bought = self._decimal_size(float(volume) * self._random.uniform(0.4, 0.6))
            open_, high, low, close = (self._price(value) for value in (prices[0], max(prices), min(prices), prices[-1]))
            yield Bar(
                open_ns=first_open_ns + number * MINUTE_NS,
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=volume,
                quote_volume=volume * close,
                taker_buy_volume=bought,
                taker_buy_quote_volume=bought * close,
                trade_count=self._random.randint(400, 1200),
            )

    def _rescale(self, bars: list[Bar]) -> None:
        factor = self._path.base / float(bars[-1].close)
        for bar in bars:
            bar.open, bar.high, bar.low, bar.close = (
                self._price(float(value) * factor) for value in (bar.open, bar.high, bar.low, bar.close)
            )
            bar.quote_volume, bar.taker_buy_quote_volume = bar.volume * bar.close, bar.taker_buy_volume * bar.close
        self._path.anchor(float(bars[-1].close))

    # -- the present ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Trade for ever."""
        before_s = monotonic_s()
        while True:
            now_s = monotonic_s()
            self.step(min(now_s - before_s, 1.0))
            before_s = now_s
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * _STEP_S)

    def step(self, seconds: float) -> None:
        """What the agents do within `seconds`."""
        self._path.advance(max(seconds, 1e-3))
        for _ in range(self._count(_TAKERS_PER_S * seconds)):
            self._take()
        for side in self._best:
            self._quote(side)
        if not self._best or self._random.random() < 0.5:
            self._move_quotes()
        for _ in range(self._count(_TOP_CHANGES_PER_S * seconds)):
            self._change_top()
        for _ in range(self._count(_CHANGES_PER_S * seconds)):
            self._change_ladder()
        self._fill_ladders()

    def _take(self) -> None:
        """A taker crosses the spread, more often toward the fundamental price."""
        best_bid, best_ask = self._market.book.bids.best(), self._market.book.asks.best()
        if best_bid is None or best_ask is None:
            return
        mid = float(best_bid + best_ask) / 2
        lean = max(-0.35, min(0.35, (self._path.price / mid - 1) * 2_000))
        side = Side.BUY if self._random.random() < 0.5 + lean else Side.SELL
        self._send(TAKERS, side, OrderType.MARKET, self._decimal_size(self._taker_size()))

    def _taker_size(self) -> float:
        return self._unit * min(2.0, self._random.lognormvariate(-6.6, 2.1))

    def _move_quotes(self) -> None:
        """Bring the best bid and offer to where the price is: sweep what stands in the way, take back the rest, quote anew."""
        bid = int(self._path.price / self._tick)
        spread = 1 if self._random.random() < 0.9 else self._random.choice((2, 2, 3, 4, 6, 10, 16))
        rising = bid > self._best.get(Side.BUY, 0)
        self._best = {Side.BUY: bid, Side.SELL: bid + spread}
        behind, ahead = (Side.SELL, Side.BUY) if rising else (Side.BUY, Side.SELL)
        self._quote(behind)  # ready behind the old quotes, so that the spread stays open for as short as possible
        for taker_side in Side:
            self._sweep(taker_side, self._best[taker_side])
        self._quote(ahead)

    def _quote(self, side: Side) -> None:
        """Put size at the best price if there is none."""
        ticks = self._best[side]
        if not self._market.book.sides[side].size_at(self._ticks(ticks)):
            self._rest(side, ticks, self._unit * self._random.lognormvariate(-0.2, 1.3))

    def _sweep(self, taker_side: Side, wall: int) -> None:
        """Trade through a part of what rests up to `wall` ticks on the other side; makers take back the rest of theirs there."""
        maker_side = taker_side.opposite
        beyond = [order for order in self._orders[maker_side].values() if self._inside(order, taker_side, wall)]
        if not beyond:
            return
        if self._random.random() < 0.2:
            standing = sum(float(order.remaining) for order in beyond)
            size = min(standing * self._random.random() ** 3, 1.5 * self._unit)
            self._send(TAKERS, taker_side, OrderType.LIMIT, self._decimal_size(size), wall, TimeInForce.IOC)
        for order in sorted(beyond, key=lambda order: order.price or 0, reverse=maker_side is Side.SELL):  # the best last
            self._withdraw(maker_side, order)

    def _inside(self, order: Order, taker_side: Side, wall: int) -> bool:
        assert order.price is not None
        ticks = self._ticks(wall)
        return order.price <= ticks if taker_side is Side.BUY else order.price >= ticks

    def _change_top(self) -> None:
        side = self._random.choice((Side.BUY, Side.SELL))
        if self._random.random() < 0.6:
            self._rest(side, self._best[side], self._taker_size() * 3)
        else:
            at_best = [order for order in self._orders[side].values() if order.price == self._ticks(self._best[side])]
            if len(at_best) > 1:
                self._withdraw(side, self._random.choice(at_best))

    def _change_ladder(self) -> None:
        side = self._random.choice((Side.BUY, Side.SELL))
        orders = self._orders[side]
        if len(orders) < _LEVELS or self._random.random() < 0.5:
            self._rest_somewhere(side)
        else:
            self._withdraw(side, self._random.choice(list(orders.values())))

    def _fill_ladders(self) -> None:
        """Forget what has traded; keep the ladders between three quarters full and full."""
        for side, orders in self._orders.items():
            for order_id in [order_id for order_id, order in orders.items() if order.status.terminal]:
                del orders[order_id]
            while len(orders) < _LEVELS * 3 // 4:
                self._rest_somewhere(side)
            if len(orders) > _LEVELS + 20:
                far = sorted(orders.values(), key=lambda order: order.price or 0, reverse=side is Side.SELL)
                for order in far[: len(orders) - _LEVELS]:
                    self._withdraw(side, order)

    def _rest_somewhere(self, side: Side) -> None:
        width = _LADDER_WIDTH * self._path.price / self._tick
        away = int(width * self._random.random() ** 1.5) + 1
        ticks = self._best[side] - away if side is Side.BUY else self._best[side] + away
        self._rest(side, ticks, self._unit * self._random.lognormvariate(-2.6, 1.3))

    # -- orders ---------------------------------------------------------------------------------------------------------

    def _rest(self, side: Side, ticks: int, size: float) -> None:
        order = self._send(MAKERS, side, OrderType.LIMIT, self._decimal_size(size), ticks)
        if order is not None and not order.status.terminal:
            self._orders[side][order.order_id] = order

    def _withdraw(self, side: Side, order: Order) -> None:
        self._orders[side].pop(order.order_id, None)
        self._exchange.market_cancel(order)

    def _send(
        self,
        account: str,
        side: Side,
        order_type: OrderType,
        quantity: Decimal,
        ticks: int | None = None,
        time_in_force: TimeInForce = TimeInForce.GTC,
    ) -> Order | None:
        price = self._ticks(ticks) if ticks is not None else None
        return self._exchange.market_order(
            NewOrder(
                account=account,
                symbol=self._market.symbol,
                side=side,
                order_type=order_type,
                client_order_id="",
                quantity=quantity,
                price=price,
                time_in_force=time_in_force,
            )
        )

    def _ticks(self, ticks: int) -> Decimal:
        return ticks * self._market.instrument.price_tick

    def _price(self, value: float) -> Decimal:
        return self._ticks(max(1, round(value / self._tick)))

    def _decimal_size(self, value: float) -> Decimal:
        return max(self._min_steps, round(value / self._step)) * self._market.instrument.quantity_step

    def _count(self, expected: float) -> int:
        """How often something that happens `expected` times on average happens now (Poisson)."""
        count, left = 0, self._random.expovariate(1.0)
        while left < expected:
            count += 1
            left += self._random.expovariate(1.0)
        return count
