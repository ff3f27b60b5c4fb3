"""What a picture shows, and how it is drawn in a process of its own, so that matplotlib never lives in this one.

The data travel as JSON on standard input of `python -m alerts.telegram.charts`, the PNG on its standard output. Floats: pixels.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

if TYPE_CHECKING:
    from decimal import Decimal

    from common_models import Candle, Fill
    from postgres.reports import ProfitPoint

log = structlog.get_logger(__name__)

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"MPLBACKEND": "Agg", "PATH": os.defpath, "OPENBLAS_NUM_THREADS": "1"}
TIMEOUT_S = 40.0
MAX_PNG_BYTES = 5_000_000
MAX_BARS = 160
"""More candles than this cannot be told apart on a phone: neighbours are joined."""


class ChartError(Exception):
    """No picture: the text says why."""


class Curve(msgspec.Struct, tag="curve", kw_only=True):
    """The course of the profit in one quote currency. Times in UTC seconds."""

    title: str
    unit: str
    times_s: list[float]
    closed: list[float]
    total: list[float]


class Mark(msgspec.Struct, kw_only=True):
    """One fill on a chart of candles."""

    time_s: float
    price: float
    buys: bool


class Candles(msgspec.Struct, tag="candles", kw_only=True):
    """Candles with our fills; `bar_s` is how long one lasts. `entry` is the mean price of an open position."""

    title: str
    unit: str
    bar_s: float
    times_s: list[float]
    opens: list[float]
    highs: list[float]
    lows: list[float]
    closes: list[float]
    marks: list[Mark]
    entry: float | None = None
    note: str = ""


Chart = Curve | Candles


def curve(points: Sequence[ProfitPoint], quote: str, title: str) -> Curve:
    """The curve of one quote currency."""
    mine = [point for point in points if point.quote == quote]
    return Curve(
        title=title,
        unit=quote,
        times_s=[point.ts_ns / 1e9 for point in mine],
        closed=[float(point.closed) for point in mine],
        total=[float(point.closed + point.open) for point in mine],
    )


def candles(
    title: str, unit: str, found: Sequence[Candle], fills: Sequence[Fill], entry: Decimal | None = None, note: str = ""
) -> Candles:
    """Candles, oldest first, joined to at most MAX_BARS, with the fills on them."""
    joined = -(-len(found) // MAX_BARS) or 1
    groups = [found[start : start + joined] for start in range(0, len(found), joined)]
    bar_ns = joined * (found[0].close_ns - found[0].open_ns) if found else 0
    return Candles(
        title=title,
        unit=unit,
        bar_s=bar_ns / 1e9,
        times_s=[group[0].open_ns / 1e9 for group in groups],
        opens=[float(group[0].open) for group in groups],
        highs=[float(max(candle.high for candle in group)) for group in groups],
        lows=[float(min(candle.low for candle in group)) for group in groups],
        closes=[float(group[-1].close) for group in groups],
        marks=[
            Mark(time_s=(fill.ts_event_ns or fill.ts_recv_ns) / 1e9, price=float(fill.price), buys=fill.side.sign > 0)
            for fill in fills
        ],
        entry=None if entry is None else float(entry),
        note=note,
    )


class Drawer:
    """Draws one picture at a time. `cache` is a folder of our own for matplotlib's list of fonts, which takes seconds to make."""

    def __init__(self, cache: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._cache = cache.absolute()
        self._timeout_s = timeout_s
        self._busy = asyncio.Lock()

    async def draw(self, chart: Chart) -> bytes:
        """The picture as PNG; raises ChartError."""
        async with self._busy:
            return await self._draw(chart)

    async def _draw(self, chart: Chart) -> bytes:
        try:
            self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "alerts.telegram.charts"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=ROOT,
                env={**ENVIRONMENT, "MPLCONFIGDIR": str(self._cache)},
            )
        except OSError as error:
            raise ChartError(f"the picture could not be drawn: {error.strerror or error}") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                png, complaint = await process.communicate(msgspec.json.encode(chart))
        except TimeoutError:
            raise ChartError(f"the picture was not ready after {self._timeout_s:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode or not png or len(png) > MAX_PNG_BYTES:
            last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            log.warning("telegram.chart_failed", code=process.returncode, size=len(png), reason=last)
            raise ChartError("the picture could not be drawn; the log says why")
        return png
