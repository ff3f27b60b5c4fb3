"""Bars of one market: made of trades as they happen, kept one minute wide, joined to wider ones when asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec

from common_models.base import Side
from common_models.decimals import ZERO
from common_models.timestamps import NS_PER_S
from runtime.append_log import AppendLog, read_records
from simulator.tape import PublicTrade

MINUTE_NS = 60 * NS_PER_S
DAY_NS = 24 * 60 * MINUTE_NS
KEPT_BARS = 3000


class Bar(msgspec.Struct):
    """One interval, `open_ns` inclusive. Prices in quote per base, volumes in base, `quote_` ones in quote currency."""

    open_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    quote_volume: Decimal = ZERO
    taker_buy_volume: Decimal = ZERO
    taker_buy_quote_volume: Decimal = ZERO
    trade_count: int = 0
    first_trade_id: int = -1
    last_trade_id: int = -1

    def add(self, trade: PublicTrade) -> None:
        self.high = max(self.high, trade.price)
        self.low = min(self.low, trade.price)
        self.close = trade.price
        quote = trade.quote_size
        self.volume += trade.size
        self.quote_volume += quote
        if trade.taker_side is Side.BUY:
            self.taker_buy_volume += trade.size
            self.taker_buy_quote_volume += quote
        self.trade_count += 1
        if self.first_trade_id < 0:
            self.first_trade_id = trade.trade_id
        self.last_trade_id = trade.trade_id

    def join(self, later: Bar) -> None:
        """Widen this bar by the one that follows it."""
        self.high = max(self.high, later.high)
        self.low = min(self.low, later.low)
        self.close = later.close
        self.volume += later.volume
        self.quote_volume += later.quote_volume
        self.taker_buy_volume += later.taker_buy_volume
        self.taker_buy_quote_volume += later.taker_buy_quote_volume
        self.trade_count += later.trade_count
        if self.first_trade_id < 0:
            self.first_trade_id = later.first_trade_id
        if later.last_trade_id >= 0:
            self.last_trade_id = later.last_trade_id


def flat_bar(open_ns: int, price: Decimal) -> Bar:
    return Bar(open_ns, price, price, price, price)


def joined(bars: Iterable[Bar], width_ns: int) -> Iterator[Bar]:
    """Bars of `width_ns` (a multiple of theirs) made of consecutive narrower ones; the input is not changed."""
    wide: Bar | None = None
    for bar in bars:
        open_ns = bar.open_ns - bar.open_ns % width_ns
        if wide is not None and wide.open_ns == open_ns:
            wide.join(bar)
            continue
        if wide is not None:
            yield wide
        wide = msgspec.structs.replace(bar, open_ns=open_ns)
    if wide is not None:
        yield wide


class Candles:
    """The minute bars of one market. Closed ones go to a file (if there is one), so that a restart has the same past."""

    def __init__(self, path: Path | None) -> None:
        self.closed: deque[Bar] = deque(maxlen=KEPT_BARS)
        self.current: Bar | None = None
        self._log = self._reopen(path) if path is not None else None
        self._day: Bar | None = None  # closed bars of the last 24 hours, joined

    def _reopen(self, path: Path) -> AppendLog:
        """Read the past back; a file of much more than is kept is written anew."""
        records = 0
        for record in read_records(path):
            records += 1
            self.closed.append(msgspec.json.decode(record, type=Bar))
        if records > 4 * KEPT_BARS:
            fresh = path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            with AppendLog(fresh) as log:
                log.append_many([msgspec.json.encode(bar) for bar in self.closed])
            fresh.replace(path)
        return AppendLog(path)

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def extend(self, bars: Iterable[Bar]) -> None:
        """Append bars that happened before the current one."""
        fresh = list(bars)
        self.closed.extend(fresh)
        self._day = None
        if self._log is not None:
            self._log.append_many([msgspec.json.encode(bar) for bar in fresh])

    def add(self, trade: PublicTrade) -> None:
        """Count one trade; a new minute closes the bar before."""
        self.turn(trade.ts_ns)
        if self.current is None or not self.current.trade_count:  # the first trade opens the bar
            self.current = flat_bar(trade.ts_ns - trade.ts_ns % MINUTE_NS, trade.price)
        self.current.add(trade)

    def turn(self, now_ns: int) -> list[Bar]:
        """Close what ended before `now_ns`; minutes without a trade become flat bars. Returns the bars closed by this call."""
        done: list[Bar] = []
        while self.current is not None and now_ns >= self.current.open_ns + MINUTE_NS:
            done.append(self.current)
            if len(done) > KEPT_BARS:  # the clock jumped: do not count through years
                self.current = flat_bar(now_ns - now_ns % MINUTE_NS, self.current.close)
                break
            self.current = flat_bar(self.current.open_ns + MINUTE_NS, self.current.close)
        if done:
            self.extend(done)
        return done

    def bars(self) -> list[Bar]:
        """Closed bars and the running one, oldest first."""
        return [*self.closed, *([self.current] if self.current is not None else [])]

    def day(self, now_ns: int) -> Bar | None:
        """The last 24 hours as one bar, or None before the first trade."""
        if self._day is None:
            recent = [bar for bar in self.closed if bar.open_ns > now_ns - DAY_NS]
            for bar in recent:
                if self._day is None:
                    self._day = msgspec.structs.replace(bar)
                else:
                    self._day.join(bar)
        if self._day is None or self.current is None:
            return self._day or self.current
        whole = msgspec.structs.replace(self._day)
        whole.join(self.current)
        return whole

    def average_price(self, minutes: int) -> Decimal | None:
        """Volume-weighted price of the last minutes, cut to eight decimals; None when nothing traded."""
        recent = self.bars()[-minutes:]
        volume = sum((bar.volume for bar in recent), ZERO)
        if not volume:
            return recent[-1].close if recent else None
        return sum((bar.quote_volume for bar in recent), ZERO) * 10**8 // volume / 10**8
