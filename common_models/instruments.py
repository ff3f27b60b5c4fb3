"""What may be traded and in which steps, and the many spellings of its name."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import NamedTuple

import msgspec

from common_models.base import MarketEvent, Side
from common_models.decimals import ZERO


class SymbolError(ValueError):
    """Text that names no symbol."""


class Symbol(NamedTuple):
    """A market by its currencies: `BTC/USDT`, or `BTC/USDT:USDT` for a perpetual settled in USDT."""

    base: str
    quote: str
    settle: str = ""

    @classmethod
    def parse(cls, text: str) -> Symbol:
        """Read `BTC/USDT`, `BTC-USDT`, `btc_usdt` or `BTC/USDT:USDT`; raises SymbolError."""
        pair, _, settle = text.strip().upper().partition(":")
        for separator in "/-_":
            base, found, quote = pair.partition(separator)
            if found and base and quote and not any(mark in quote for mark in "/-_"):
                return cls(base, quote, settle)
        raise SymbolError(f"not a symbol like BTC/USDT or BTC-USDT: {text[:40]!r}")

    def __str__(self) -> str:
        return f"{self.base}/{self.quote}:{self.settle}" if self.settle else f"{self.base}/{self.quote}"

    @property
    def dashed(self) -> str:
        """`BTC-USDT`: the form for URLs and the command line."""
        return f"{self.base}-{self.quote}" + (f"-{self.settle}" if self.settle else "")


class InstrumentStatus(StrEnum):
    TRADING = "trading"
    CANCEL_ONLY = "cancel_only"
    HALTED = "halted"


class Instrument(MarketEvent, frozen=True, kw_only=True, tag="instrument"):
    """One market of one exchange and the rules that its orders must keep.

    Prices in quote per base, quantities in base, notionals (price x quantity) in quote currency. A bound of None is no bound.
    `native_symbol` is the venue's own spelling (`BTCUSDT`, `XXBTZUSD`).
    """

    native_symbol: str
    base: str
    quote: str
    status: InstrumentStatus
    price_tick: Decimal
    quantity_step: Decimal
    min_quantity: Decimal
    max_quantity: Decimal | None = None
    market_quantity_step: Decimal | None = None
    max_market_quantity: Decimal | None = None
    min_notional: Decimal = ZERO
    max_notional: Decimal | None = None
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    order_types: tuple[str, ...] = ()

    def price_down(self, price: Decimal) -> Decimal:
        """The nearest allowed price at or below."""
        return steps(price, self.price_tick, ROUND_FLOOR)

    def price_up(self, price: Decimal) -> Decimal:
        """The nearest allowed price at or above."""
        return steps(price, self.price_tick, ROUND_CEILING)

    def passive_price(self, price: Decimal, side: Side) -> Decimal:
        """Rounded away from the market: a limit is never made worse for us than was asked."""
        return self.price_down(price) if side is Side.BUY else self.price_up(price)

    def quantity_down(self, quantity: Decimal) -> Decimal:
        """Rounded toward less risk; may be zero, which is no order."""
        return steps(quantity, self.quantity_step, ROUND_FLOOR)


def steps(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    """`value` moved to a whole multiple of `step`; a step of zero leaves it as it is."""
    if not step:
        return value
    return (value / step).to_integral_value(rounding) * step


def same_rules(left: Instrument, right: Instrument) -> bool:
    """Whether two descriptions differ in nothing but identity and times."""
    plain = {"message_id": "", "causation_id": "", "correlation_id": "", "ts_pub_ns": 0, "ts_event_ns": None, "ts_recv_ns": 0}
    return msgspec.structs.replace(left, **plain) == msgspec.structs.replace(right, **plain)
