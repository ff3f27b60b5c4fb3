"""Pictures: what is on them, and that drawing is a short-lived process that may fail without harm."""

from __future__ import annotations

import struct
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from alerts.telegram import chart_data
from alerts.telegram.chart_data import MAX_BARS, ChartError, Curve, Drawer, candles, curve
from alerts.telegram.charts import png_of
from postgres.reports import ProfitPoint
from tests.unit.postgres.samples import candle, fill

MINUTE_NS = 60_000_000_000


def some_candles(count: int) -> chart_data.Candles:
    found = [candle(n, open_ns=n * MINUTE_NS, close_ns=(n + 1) * MINUTE_NS) for n in range(count)]
    return candles("BTC/USDT", "USDT", found, [fill(1, ts_event_ns=5 * MINUTE_NS)], Decimal(64000), "long 0.5")


def test_many_candles_are_joined_without_losing_their_range() -> None:
    chart = some_candles(1_000)
    assert len(chart.times_s) <= MAX_BARS
    assert chart.bar_s == 7 * 60
    assert max(chart.highs) == float(max(candle(n).high for n in range(1_000)))
    assert chart.marks[0].buys
    assert chart.marks[0].time_s == 300


def test_a_curve_is_of_one_currency() -> None:
    points = [
        ProfitPoint(1_000_000_000, "BTC", Decimal(9), Decimal(9)),
        ProfitPoint(2_000_000_000, "USDT", Decimal("1.5"), Decimal(-2)),
    ]
    shown = curve(points, "USDT", "Profit")
    assert (shown.times_s, shown.closed, shown.total, shown.unit) == ([2.0], [1.5], [-0.5], "USDT")


@pytest.mark.parametrize(
    "chart",
    [
        some_candles(2),
        some_candles(90),
        Curve(title="t", unit="USDT", times_s=[1.0, 2.0], closed=[0, 0], total=[0, 0]),
        Curve(
            title="t" * 200, unit="USDT", times_s=[1e9 + n * 86_400 for n in range(400)], closed=[1e9] * 400, total=[-1e-8] * 400
        ),
        Curve(title="one", unit="USDT", times_s=[1.0], closed=[1.0], total=[1.0]),
    ],
    ids=["two", "ninety", "flat", "long", "one"],
)
def test_every_kind_of_data_becomes_a_picture(chart: chart_data.Chart) -> None:
    assert size_of(png_of(chart)) == (1080, 810)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where matplotlib keeps its list of fonts, made once."""
    return tmp_path_factory.mktemp("matplotlib") / "new"


async def test_a_process_of_its_own_draws(cache: Path) -> None:
    assert size_of(await Drawer(cache).draw(some_candles(30))) == (1080, 810)
    assert "matplotlib.pyplot" not in sys.modules


async def test_a_failed_or_slow_drawing_is_a_word_and_no_more(cache: Path) -> None:
    empty = Curve(title="t", unit="USDT", times_s=[], closed=[], total=[])
    with pytest.raises(ChartError, match="could not be drawn"):
        await Drawer(cache).draw(empty)
    with pytest.raises(ChartError, match="not ready"):
        await Drawer(cache, timeout_s=0.01).draw(empty)


def size_of(png: bytes) -> tuple[int, ...]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])
