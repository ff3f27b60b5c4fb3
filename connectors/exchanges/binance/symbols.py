"""Binance's spelling of symbols: `BTCUSDT` is BTC/USDT, and only the list of markets tells where to cut."""

from __future__ import annotations

from common_models import Symbol, SymbolError

QUOTES = (
    "FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USDP", "DOGE", "IDRT", "BIDR", "BVND", "BKRW",
    "AUD", "BRL", "EUR", "GBP", "JPY", "MXN", "NGN", "PLN", "RON", "RUB", "TRY", "UAH", "ZAR", "ARS", "COP", "CZK", "USD", "DAI",
    "PAX", "VAI", "BNB", "BTC", "ETH", "SOL", "TRX", "XRP", "DOT",
)  # fmt: skip
"""Quote currencies of Binance spot, the longer first, for frames that come without a list of markets."""


def native_symbol(symbol: str) -> str:
    """`BTCUSDT` of `BTC/USDT`."""
    parsed = Symbol.parse(symbol)
    return parsed.base + parsed.quote


def split_native(native: str) -> str:
    """`BTC/USDT` of `BTCUSDT`, by the known quote currencies; raises SymbolError."""
    for quote in QUOTES:
        if native.endswith(quote) and len(native) > len(quote):
            return f"{native.removesuffix(quote)}/{quote}"
    raise SymbolError(f"no known quote currency at the end of {native[:40]!r}")
