"""Binance spot."""

from __future__ import annotations

from connectors.exchange import Exchange
from connectors.exchanges.binance.capture import BinanceCapture
from connectors.exchanges.binance.channels import EXCHANGE_NAME
from connectors.exchanges.binance.feed import BinanceFeed

EXCHANGE = Exchange(name=EXCHANGE_NAME, feed=BinanceFeed, decoder=BinanceCapture)
