"""The rules that an order must keep before it may reach the book."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from common_models.base import Side
from common_models.commands_events_models import OrderType
from common_models.instruments import Instrument
from trading.matching_orders import NewOrder, Refusal, Refused


@dataclass(frozen=True, slots=True)
class PriceBand:
    """How far from the reference price a limit may be: factors, per side."""

    buy_down: Decimal
    buy_up: Decimal
    sell_down: Decimal
    sell_up: Decimal


@dataclass(frozen=True, slots=True)
class MarketRules:
    """One market: the instrument's own limits, the price band and how many orders an account may have open in it."""

    instrument: Instrument
    price_band: PriceBand | None = None
    max_open_orders: int | None = None

    def check(self, order: NewOrder, reference_price: Decimal | None, open_orders: int) -> None:
        """Raise Refused with the first rule that `order` breaks. `reference_price` in quote per base, None when nothing traded."""
        if order.price is not None:
            self._check_price(order.price)
            self._check_band(order.side, order.price, reference_price)
        if order.stop_price is not None:
            self._check_price(order.stop_price)
        if order.quantity is not None:
            self._check_quantity(order.quantity, market=order.order_type is OrderType.MARKET)
        self._check_notional(order, reference_price)
        if self.max_open_orders is not None and open_orders >= self.max_open_orders:
            raise Refused(Refusal.OPEN_ORDERS_RULE, f"{open_orders} orders are open")

    def _check_price(self, price: Decimal) -> None:
        rules = self.instrument
        if (
            price <= 0
            or price % rules.price_tick
            or (rules.min_price is not None and price < rules.min_price)
            or (rules.max_price is not None and price > rules.max_price)
        ):
            raise Refused(Refusal.PRICE_RULE, f"price {price}, tick {rules.price_tick}, range {rules.min_price}..{rules.max_price}")

    def _check_band(self, side: Side, price: Decimal, reference_price: Decimal | None) -> None:
        band = self.price_band
        if band is None or reference_price is None:
            return
        down, up = (band.buy_down, band.buy_up) if side is Side.BUY else (band.sell_down, band.sell_up)
        if not reference_price * down <= price <= reference_price * up:
            raise Refused(Refusal.PRICE_BAND_RULE, f"price {price}, reference {reference_price}, factors {down}..{up}")

    def _check_quantity(self, quantity: Decimal, *, market: bool) -> None:
        rules = self.instrument
        if (
            quantity <= 0
            or quantity < rules.min_quantity
            or quantity % rules.quantity_step
            or (rules.max_quantity is not None and quantity > rules.max_quantity)
        ):
            raise Refused(Refusal.LOT_RULE, f"quantity {quantity}, step {rules.quantity_step}, minimum {rules.min_quantity}")
        if market and (
            (rules.market_quantity_step and quantity % rules.market_quantity_step)
            or (rules.max_market_quantity is not None and quantity > rules.max_market_quantity)
        ):
            raise Refused(Refusal.MARKET_LOT_RULE, f"quantity {quantity}, maximum {rules.max_market_quantity}")

    def _check_notional(self, order: NewOrder, reference_price: Decimal | None) -> None:
        rules = self.instrument
        if order.quote_quantity is not None:
            notional = order.quote_quantity
        else:
            price = order.price if order.price is not None else reference_price
            if price is None or order.quantity is None:
                return
            notional = price * order.quantity
        if notional <= 0 or notional < rules.min_notional or (rules.max_notional is not None and notional > rules.max_notional):
            raise Refused(Refusal.NOTIONAL_RULE, f"notional {notional}, range {rules.min_notional}..{rules.max_notional}")
