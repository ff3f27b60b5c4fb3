"""Indicators against TA-Lib on real and on invented prices, and against exact arithmetic where TA-Lib itself loses digits."""

from __future__ import annotations

import csv
import gzip
import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy import EMA, RSI, SMA, BollingerBands
from strategy.indicators.rolling import RollingSum

TOLERANCE = 1e-9
WIDTH_THAT_TALIB_CAN_TELL = 1e-5
LONGEST = 6_000  # closes of one file: the whole data set would take minutes in pure Python

prices = st.floats(min_value=1e-3, max_value=1e6, allow_nan=False)


def random_walk(seed: int, count: int = 300) -> list[float]:
    source = random.Random(seed)
    walk = [source.choice([0.05, 1.0, 60_000.0])]
    for _ in range(count - 1):
        walk.append(walk[-1] * math.exp(source.gauss(0.0, 0.002)))
    return walk


def series_of(indicator: SMA | EMA | RSI, values: Sequence[float]) -> list[float]:
    """One number per value, NaN while warming up, as TA-Lib gives them; checks on the way that peek foresees update."""
    out = []
    for value in values:
        foreseen = indicator.peek(value)
        got = indicator.update(value)
        assert foreseen == got or (foreseen is not None and got is not None and math.isclose(foreseen, got, rel_tol=1e-12))
        out.append(math.nan if got is None else got)
    return out


def assert_close(got: Any, expected: Any, floor: float = 0.0) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=TOLERANCE, atol=floor, equal_nan=True)


def check_all(closes: Sequence[float], period: int) -> None:
    # TA-Lib takes differences below 1e-14 for zero, which prices of 1e-5 reach: scaling by a power of two is exact
    scale = 2.0 ** -round(math.log2(closes[0]))
    scaled = [close * scale for close in closes]
    array = np.asarray(scaled, dtype=float)
    assert_close(series_of(SMA(period), scaled), talib.SMA(array, period))
    assert_close(series_of(EMA(period), scaled), talib.EMA(array, period))
    assert_close(series_of(RSI(period), scaled), talib.RSI(array, period), floor=TOLERANCE)
    bands = BollingerBands(period, 2.0)
    ours = []
    for value in scaled:
        foreseen, got = bands.peek(value), bands.update(value)
        assert (foreseen is None) == (got is None)
        if foreseen is not None and got is not None:
            assert tuple(foreseen) == pytest.approx(tuple(got), rel=TOLERANCE)
        ours.append(got or (math.nan,) * 3)
    upper, middle, lower = talib.BBANDS(array, period, 2.0, 2.0)
    lowers, middles, uppers = zip(*ours, strict=True)
    assert_close(middles, middle)
    # TA-Lib's variance is a difference of running sums of squares: below a width of 1e-5 of the price its own rounding shows
    sound = ~(upper - middle < WIDTH_THAT_TALIB_CAN_TELL)
    for got, expected in ((lowers, lower), (uppers, upper)):
        assert_close(np.asarray(got)[sound], expected[sound])
        assert_close(got, expected, floor=2 * WIDTH_THAT_TALIB_CAN_TELL)


def recorded_closes(path: Path) -> list[float]:
    with gzip.open(path, "rt") as file:
        return [float(row["close"]) for row, _ in zip(csv.DictReader(file), range(LONGEST), strict=False)]


@pytest.mark.recorded
@pytest.mark.parametrize("period", [2, 14, 20])
def test_indicators_agree_with_talib_on_the_real_candles(recorded_dir: Path, period: int) -> None:
    files = sorted((recorded_dir / "candles").glob("*.csv.gz"))
    assert len(files) > 20
    for path in files[:: 3 if period != 14 else 1]:
        check_all(recorded_closes(path), period)


@given(seed=st.integers(0, 2**32), period=st.integers(2, 60))
@settings(max_examples=40, deadline=None)
def test_indicators_agree_with_talib_on_random_walks(seed: int, period: int) -> None:
    check_all(random_walk(seed), period)


@given(values=st.lists(prices, min_size=1, max_size=60), period=st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_the_average_and_the_bands_are_those_of_exact_arithmetic(values: list[float], period: int) -> None:
    sma, bands = SMA(period), BollingerBands(max(period, 2), 2.0)
    for count, value in enumerate(values, start=1):
        sma.update(value)
        bands.update(value)
        if count >= period:
            window = [Fraction(number) for number in values[count - period : count]]
            assert sma.value == pytest.approx(float(sum(window) / period), rel=1e-14)
        if count >= bands.period:
            window = [Fraction(number) for number in values[count - bands.period : count]]
            mean = sum(window) / len(window)
            variance = sum((number - mean) ** 2 for number in window) / len(window)
            assert bands.value is not None
            width = bands.value.upper - bands.value.middle
            assert width == pytest.approx(2 * math.sqrt(variance), rel=1e-6, abs=1e-7 * max(values))


def test_a_rolling_sum_forgets_a_large_value_without_a_trace() -> None:
    window = RollingSum(3)
    for value in [0.1, 1e15, 0.2, 0.3, 0.4]:
        window.push(value)

    assert window.total() == pytest.approx(0.9, rel=1e-12)


def test_a_rolling_sum_does_not_drift_in_a_hundred_thousand_values() -> None:
    source = random.Random(7)
    window = RollingSum(20)
    for _ in range(100_000):
        window.push(source.uniform(1e-3, 1e5))

    assert window.total() == pytest.approx(math.fsum(window), rel=1e-15)


def test_bands_keep_their_width_for_a_large_price_that_hardly_moves() -> None:
    bands = BollingerBands(4, 1.0)
    for value in [1e9, 1e9 + 1e-3] * 10:
        bands.update(value)

    assert bands.value is not None
    assert bands.value.upper - bands.value.middle == pytest.approx(0.5e-3, rel=1e-3)


@pytest.mark.parametrize("make", [lambda: SMA(2), lambda: EMA(2), lambda: RSI(2), lambda: BollingerBands(2)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_refused_and_leaves_no_trace(make: Callable[[], SMA | EMA], value: float) -> None:
    indicator, clean = make(), make()
    for number in (1.0, 2.0, 4.0):
        indicator.update(number)
        clean.update(number)
        with pytest.raises(ValueError, match="finite"):
            indicator.update(value)

    assert indicator.update(3.0) == clean.update(3.0)


@pytest.mark.parametrize("period", [0, -1, True, 2.5])
def test_a_period_is_a_positive_whole_number(period: object) -> None:
    for kind in (SMA, EMA, RSI, BollingerBands):
        with pytest.raises(ValueError, match="period"):
            kind(period)  # type: ignore[arg-type]


def test_a_market_that_stands_still_is_flat_and_not_oversold() -> None:
    rsi = RSI(3)
    for _ in range(10):
        rsi.update(5.0)

    assert rsi.value == 0.0
    assert rsi.flat
