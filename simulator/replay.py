"""Replay of recorded frames: sent to clients message for message, while the book and the tape follow them, so that orders match.

Frames keep their pace (1x, Nx, or 0: as fast as clients read) and their times, or carry the present time (`retime`). Playing
starts when the first client has subscribed, or on request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path

import structlog

from common_models.base import Side
from common_models.decimals import exact
from common_models.instruments import Instrument, InstrumentStatus, Symbol
from runtime.clock import monotonic_s, now_ns
from simulator.exchange import Market, SimulatedExchange
from simulator.listing import ORDER_TYPES
from simulator.recording import BookLevels, Frame, FrameError, FrameMeaning, RecordingError, read_frames
from simulator.venue import Venue
from trading.order_book import DepthBook

log = structlog.get_logger(__name__)

_SURVEYED_FRAMES = 20_000
_YIELD_EVERY = 50
_QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD", "BTC", "ETH", "BNB", "EUR", "BRL", "AUD", "GBP", "TRY", "DAI")
_EIGHT = Decimal("0.00000001")


@dataclass(slots=True)
class SymbolSurvey:
    """What the first frames say of one symbol: the finest price and size steps seen, a first snapshot, a typical price."""

    price_step: Decimal = Decimal(1)
    size_step: Decimal = Decimal(1)
    price: Decimal = Decimal(1)
    snapshot: BookLevels | None = None
    has_trades: bool = False


@dataclass(slots=True)
class Survey:
    """What a recording holds: symbols in the venue's spelling, and streams."""

    symbols: dict[str, SymbolSurvey] = field(default_factory=dict)
    streams: set[str] = field(default_factory=set)

    def see(self, meaning: FrameMeaning) -> None:
        if not meaning.native_symbol:
            return
        known = self.symbols.setdefault(meaning.native_symbol, SymbolSurvey())
        if meaning.stream:
            self.streams.add(meaning.stream)
        for price, size in _numbers(meaning):
            known.price_step = min(known.price_step, _step_of(price))
            known.size_step = min(known.size_step, _step_of(size))
            known.price = price
        if meaning.book is not None and meaning.book.snapshot and known.snapshot is None:
            known.snapshot = meaning.book
        known.has_trades = known.has_trades or (bool(meaning.trades) and not meaning.aggregate)


def survey(path: Path, venue: type[Venue]) -> Survey:
    """Look at the first frames of a recording; raises RecordingError when it holds no market."""
    found = Survey()
    for frame in islice(read_frames(path), _SURVEYED_FRAMES):
        try:
            found.see(venue.read_frame(frame))
        except FrameError as error:
            log.debug("replay.unreadable_frame", reason=str(error)[:200])  # counted when it is played
    if not found.symbols:
        raise RecordingError(f"{path}: none of its first frames speaks of a market")
    return found


def instruments(exchange: str, found: Survey) -> list[Instrument]:
    """Instruments with the steps that the recording shows."""
    return [_instrument(exchange, native, seen) for native, seen in sorted(found.symbols.items())]


def _instrument(exchange: str, native: str, seen: SymbolSurvey) -> Instrument:
    quote = next((name for name in _QUOTES if native.endswith(name) and native != name), native[-3:])
    symbol = Symbol(native.removesuffix(quote), quote)
    return Instrument(
        exchange=exchange,
        symbol=str(symbol),
        ts_event_ns=None,
        ts_recv_ns=0,
        native_symbol=native,
        base=symbol.base,
        quote=symbol.quote,
        status=InstrumentStatus.TRADING,
        price_tick=seen.price_step,
        quantity_step=seen.size_step,
        min_quantity=seen.size_step,
        max_quantity=Decimal(9_000_000),
        min_price=seen.price_step,
        max_price=Decimal(10_000_000),
        order_types=ORDER_TYPES,
    )


def _numbers(meaning: FrameMeaning) -> Iterator[tuple[Decimal, Decimal]]:
    for trade in meaning.trades:
        yield trade.price, trade.size
    if meaning.book is not None:
        for price, size in (*meaning.book.bids, *meaning.book.asks):
            yield exact(price), exact(size)


def _step_of(number: Decimal) -> Decimal:
    exponent = number.normalize().as_tuple().exponent
    return max(_EIGHT, Decimal(1).scaleb(min(0, int(exponent))))


class Replay:
    """Play one recording through a venue."""

    def __init__(self, exchange: SimulatedExchange, venue: Venue, found: Survey, path: Path, *, speed: float, retime: bool) -> None:
        self._exchange = exchange
        self._venue = venue
        self._found = found
        self._path = path
        self._speed = speed
        self._retime = retime
        self._market_ns = 0
        self._by_native = {market.instrument.native_symbol: market for market in exchange.markets.values()}
        self._go = asyncio.Event()
        self.frames = 0
        self.unreadable = 0
        self.finished = False
        venue.will_play(found.streams)
        if not retime:
            exchange.market_clock = lambda: self._market_ns or now_ns()
        for native, seen in found.symbols.items():
            self._follow(self._by_native[native], seen)

    def _follow(self, market: Market, seen: SymbolSurvey) -> None:
        """Begin with the recorded snapshot: it is what clients ask for first."""
        market.book.followed = True
        market.followed = DepthBook(20)
        if seen.snapshot is not None:
            self._load(market, seen.snapshot)
        if self._retime and market.book.last_price is None:
            market.book.last_price = seen.price

    def start(self) -> None:
        """Do not wait for a client."""
        self._go.set()

    async def run(self) -> None:
        """Play from the first frame to the last."""
        await self._wait_for_start()
        log.info("replay.started", file=str(self._path), speed=self._speed, retime=self._retime)
        started_s = monotonic_s()
        first_t: float | None = None
        for frame in read_frames(self._path):
            if first_t is None:
                first_t = frame.t
            if self._speed and frame.t is not None and first_t is not None:
                wait_s = started_s + (frame.t - first_t) / self._speed - monotonic_s()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
            await self._play(frame)
            if self.frames % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        self.finished = True
        log.info("replay.finished", frames=self.frames, unreadable=self.unreadable, seconds=round(monotonic_s() - started_s, 1))

    async def _wait_for_start(self) -> None:
        waits = [asyncio.create_task(self._go.wait()), asyncio.create_task(self._venue.listened())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _play(self, frame: Frame) -> None:
        self.frames += 1
        try:
            meaning = self._venue.read_frame(frame)
        except FrameError as error:
            self.unreadable += 1
            log.warning("replay.unreadable_frame", number=self.frames, reason=str(error)[:200])
            return
        market = self._by_native.get(meaning.native_symbol)
        if market is None:
            return
        shift_ms = now_ns() // 1_000_000 - meaning.event_ms if self._retime and meaning.event_ms is not None else 0
        if meaning.event_ms is not None:
            self._market_ns = (meaning.event_ms + shift_ms) * 1_000_000
        if meaning.book is not None:
            self._apply(market, meaning.book)
        if not (meaning.aggregate and self._found.symbols[meaning.native_symbol].has_trades):  # or everything would count twice
            for trade in meaning.trades:
                self._exchange.outside_trade(market.symbol, trade._replace(ts_ns=trade.ts_ns + shift_ms * 1_000_000))
        if meaning.stream:
            await self._venue.play(frame, meaning, shift_ms)

    def _apply(self, market: Market, change: BookLevels) -> None:
        followed = market.followed
        assert followed is not None
        if change.snapshot:
            if followed.sequence == 0:
                self._load(market, change)
            return
        if change.last_id <= followed.sequence:
            return
        followed.apply(change.bids, change.asks, change.last_id)
        market.book.update_id = change.last_id
        for side, levels in ((Side.BUY, change.bids), (Side.SELL, change.asks)):
            for price, size in levels:
                self._exchange.outside_level(market.symbol, side, Decimal(price), Decimal(size))

    def _load(self, market: Market, snapshot: BookLevels) -> None:
        assert market.followed is not None
        market.followed.load(snapshot.bids, snapshot.asks, snapshot.last_id)
        market.book.update_id = snapshot.last_id
        for side, levels in ((Side.BUY, snapshot.bids), (Side.SELL, snapshot.asks)):
            for price, size in levels:
                self._exchange.outside_level(market.symbol, side, Decimal(price), Decimal(size))

    def report(self) -> dict[str, object]:
        return {"file": str(self._path), "frames": self.frames, "unreadable": self.unreadable, "finished": self.finished}
