"""Every stream name, its class and its bound (DESIGN.md §4). No other file spells a stream name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MARKET_ENTRIES = 50_000
"""Default length bound of one market stream (`bus.market_entries`)."""

INSTRUMENTS_ENTRIES = 20_000
"""Readers take instruments from the start of their stream, so its bound is wide: a venue lists some thousands."""


class StreamClass(Enum):
    """What may happen to unread entries."""

    MARKET = "market"  # bounded by length: the oldest are dropped first, and each loss is counted and told
    TRADES = "trades"  # kept until the recorder has them, up to a bound in bytes, then dropped and told
    LOSSLESS = "lossless"  # trimmed only behind the slowest required group


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream. `max_entries` is the length bound that each XADD applies; 0 is none (the janitor trims)."""

    name: str
    stream_class: StreamClass
    max_entries: int = 0

    @property
    def mode(self) -> str:
        return self.name.partition(":")[0]

    @property
    def exchange(self) -> str:
        """The exchange in the name, or an empty text for streams of the whole system."""
        return exchange_of(self.name)

    @property
    def label(self) -> str:
        """The name without mode and marks, as a part of message ids: `binance.trades`, `commands.binance.main`, `signals`."""
        rest = self.name.partition(":")[2].removeprefix("events:")
        return rest.replace("{", "").replace("}", "").replace(":", ".")


class Streams:
    """The streams of one mode; two modes share none."""

    MARKET_KINDS = ("tickers", "daystats", "books", "candles", "funding", "metrics", "instruments", "trades")
    ACCOUNT_KINDS = ("orders", "fills", "balances", "positions", "status")

    def __init__(self, mode: str, market_entries: int = MARKET_ENTRIES) -> None:
        if not mode or ":" in mode:
            raise ValueError(f"not a mode for stream names: {mode!r}")
        self.mode = mode
        self._market_entries = market_entries

    def market(self, exchange: str, kind: str) -> Stream:
        """Public data of one exchange; `kind` is one of MARKET_KINDS."""
        if kind not in self.MARKET_KINDS:
            raise ValueError(f"no market stream of kind {kind!r}; known: {', '.join(self.MARKET_KINDS)}")
        name = f"{self.mode}:events:{{{_word(exchange)}}}:{kind}"
        if kind == "trades":
            return Stream(name, StreamClass.TRADES)
        return Stream(name, StreamClass.MARKET, INSTRUMENTS_ENTRIES if kind == "instruments" else self._market_entries)

    def account(self, exchange: str, account: str, kind: str) -> Stream:
        """Facts about one account; `kind` is one of ACCOUNT_KINDS."""
        if kind not in self.ACCOUNT_KINDS:
            raise ValueError(f"no account stream of kind {kind!r}; known: {', '.join(self.ACCOUNT_KINDS)}")
        return self._lossless(f"events:{{{_word(exchange)}}}:{_word(account)}:{kind}")

    def commands(self, exchange: str, account: str) -> Stream:
        """What the connector of this account is asked to do."""
        return self._lossless(f"commands:{{{_word(exchange)}}}:{_word(account)}")

    @property
    def signals(self) -> Stream:
        return self._lossless("signals")

    @property
    def decisions(self) -> Stream:
        return self._lossless("decisions")

    @property
    def alerts(self) -> Stream:
        return self._lossless("alerts")

    @property
    def control(self) -> Stream:
        return self._lossless("control")

    @property
    def round_trips(self) -> Stream:
        return self._lossless("round-trips")

    @property
    def dead_letters(self) -> Stream:
        return self._lossless("dead-letters")

    @property
    def plugins(self) -> Stream:
        """The state of every plugin; the newest of each name counts."""
        return Stream(f"{self.mode}:plugins", StreamClass.MARKET, 5000)

    @property
    def heartbeats(self) -> Stream:
        """Only the newest beats matter, so this one is bounded by length."""
        return Stream(f"{self.mode}:heartbeats", StreamClass.MARKET, 1000)

    def all_of(self, exchange: str, account: str) -> tuple[Stream, ...]:
        """Every stream of one exchange account: for retention, lag and the recorder."""
        market = (self.market(exchange, kind) for kind in self.MARKET_KINDS)
        private = (self.account(exchange, account, kind) for kind in self.ACCOUNT_KINDS)
        return (*market, *private, self.commands(exchange, account))

    @property
    def shared(self) -> tuple[Stream, ...]:
        """Every stream that belongs to no exchange."""
        lossless = (self.signals, self.decisions, self.alerts, self.control, self.round_trips, self.dead_letters)
        return (*lossless, self.plugins, self.heartbeats)

    def _lossless(self, rest: str) -> Stream:
        return Stream(f"{self.mode}:{rest}", StreamClass.LOSSLESS)


def dead_letters_beside(stream_name: str) -> Stream:
    """The dead letters of the mode that a stream belongs to."""
    return Streams(stream_name.partition(":")[0]).dead_letters


def exchange_of(stream_name: str) -> str:
    """The exchange between the braces of a stream name; empty when there is none."""
    return stream_name.partition("{")[2].partition("}")[0]


def _word(text: str) -> str:
    """A part of a stream name, free of the marks that structure it."""
    if text and not set(text) & set(":{}* \r\n"):
        return text
    raise ValueError(f"not a name of an exchange or account: {text!r}")
