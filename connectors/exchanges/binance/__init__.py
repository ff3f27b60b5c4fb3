"""Binance spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from common_models import Instrument
from connectors.exchange import Credentials, Exchange, Venue, VenueUrls
from connectors.exchanges.binance.account import BinanceAccount
from connectors.exchanges.binance.capture import BinanceCapture
from connectors.exchanges.binance.channels import EXCHANGE_NAME
from connectors.exchanges.binance.error_codes import read_error
from connectors.exchanges.binance.feed import BinanceFeed
from connectors.exchanges.binance.signing import BinanceSigner
from connectors.rate_budget import RateBudget
from connectors.rest import RestClient
from connectors.venue_clock import VenueClock
from runtime.settings import ExchangeSettings

URLS = VenueUrls(
    rest="https://api.binance.com",
    market="wss://stream.binance.com:9443/stream",
    orders="wss://ws-api.binance.com:443/ws-api/v3",
)
WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
ORDER_LIMITS = ((50, 10), (160_000, 86_400))
"""(orders, seconds), as the documentation's example has them; the answers' own counts correct our sum."""


def local_urls(base: str) -> VenueUrls:
    """The same three places on a simulator at `http://host:port`."""
    socket = base.replace("http", "ws", 1)
    return VenueUrls(rest=base, market=f"{socket}/stream", orders=f"{socket}/ws-api/v3")


def connect(
    urls: VenueUrls, settings: ExchangeSettings, credentials: Credentials, instruments: Callable[[], Mapping[str, Instrument]]
) -> Venue:
    """The parts that speak to Binance; see `connectors.exchange.Connect`."""
    budget = RateBudget(settings.weight_per_minute, ORDER_LIMITS)
    clock = VenueClock()
    signer = BinanceSigner(
        credentials.key.get_secret_value(), credentials.secret.get_secret_value(), clock, settings.recv_window_ms
    )
    rest = RestClient(urls.rest, budget, read_error=read_error, signer=signer, weight_header=WEIGHT_HEADER)
    return Venue(rest, budget, BinanceAccount(rest, urls.orders, budget, signer, clock, instruments))


EXCHANGE = Exchange(
    name=EXCHANGE_NAME,
    urls=URLS,
    local_urls=local_urls,
    credentials=("BINANCE_API_KEY", "BINANCE_API_SECRET"),
    connect=connect,
    feed=BinanceFeed,
    decoder=BinanceCapture,
)
