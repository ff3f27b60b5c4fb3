"""What a simulated market looks like when nobody says otherwise: base price, tick, step and limits."""

from __future__ import annotations

import math
from decimal import Decimal

from common_models.instruments import Instrument, InstrumentStatus, Symbol
from runtime.settings import ExchangeSettings

_DOLLARS = {"BTC": "61000", "ETH": "2600", "BNB": "520", "SOL": "150", "XRP": "0.6", "ADA": "0.35", "DOGE": "0.1", "LTC": "70"}
_PLAIN = ("USDT", "USDC", "USD", "FDUSD", "BUSD", "TUSD", "DAI", "EUR", "GBP")
_OTHERWISE = Decimal(10)

_DECIMALS = 8

ORDER_TYPES = ("market", "limit", "stop_limit")


def base_price(symbol: Symbol, settings: ExchangeSettings) -> Decimal:
    """The price around which a market moves, in quote per base: configured, or roughly that of the year 2024."""
    for spelling in (str(symbol), symbol.dashed, symbol.base + symbol.quote):
        if (configured := settings.simulator.base_prices.get(spelling)) is not None:
            return configured
    ratio = float(_dollars(symbol.base)) / float(_dollars(symbol.quote))
    return Decimal(f"{ratio:.6g}").normalize() + Decimal("0.00000000")


def listing(exchange: str, symbol: Symbol, native_symbol: str, price: Decimal) -> Instrument:
    """An instrument with rules in proportion to its price.

    The tick is a hundredth of a basis point up to a basis point of the price, the step is worth ten cents to a few dollars, the
    minimum notional about five dollars. A tick times a step has at most eight decimals, so that every amount is exact as printed.
    """
    tick, step = _steps(price, _dollars(symbol.base))
    return Instrument(
        exchange=exchange,
        symbol=str(symbol),
        ts_event_ns=None,
        ts_recv_ns=0,
        native_symbol=native_symbol,
        base=symbol.base,
        quote=symbol.quote,
        status=InstrumentStatus.TRADING,
        price_tick=tick,
        quantity_step=step,
        min_quantity=step,
        max_quantity=step * 10**9,
        max_market_quantity=step * 10**7,
        min_notional=_round_number(5 / float(_dollars(symbol.quote))),
        max_notional=Decimal(9_000_000),
        min_price=tick,
        max_price=Decimal(10_000_000),
        order_types=ORDER_TYPES,
    )


def _steps(price: Decimal, dollars: Decimal) -> tuple[Decimal, Decimal]:
    """Price tick and quantity step."""
    tick_exponent = min(-2, price.adjusted() - 4)
    step_exponent = -dollars.adjusted() - 1
    while tick_exponent + step_exponent < -_DECIMALS:
        step_exponent += 1
        if tick_exponent + step_exponent < -_DECIMALS:
            tick_exponent += 1
    return Decimal(1).scaleb(tick_exponent), Decimal(1).scaleb(min(step_exponent, 0))


def _dollars(asset: str) -> Decimal:
    return Decimal(1) if asset in _PLAIN else Decimal(_DOLLARS.get(asset, _OTHERWISE))


def _round_number(value: float) -> Decimal:
    """The nearest 1, 2 or 5 times a power of ten, at most."""
    magnitude = math.floor(math.log10(value) + 1e-9)
    leading = value / 10**magnitude
    digit = next(digit for digit in (5, 2, 1) if leading >= digit - 1e-9)
    return Decimal(digit).scaleb(max(magnitude, -_DECIMALS))
