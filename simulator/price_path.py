"""Where a synthetic price goes: a seeded walk with cycles and regimes at the scale of tens of seconds.

Measured on BTCUSDT in August 2024 the logarithm of the mid moved by 1.2 basis points (standard deviation) in a second, 3.8 in ten
and 6.7 in a minute. This path is livelier from ten seconds on, so that minute bars cross their averages within a minute.
"""

from __future__ import annotations

import math
import random

_NOISE_BP = 1.0  # per square root of a second
_PULL_PER_S = 1 / 7200  # back to the base price, within hours
_REGIME_BP_PER_S = 1.6
_REGIME_S = 12.0
_REGIME_SHARE = 0.5
_CYCLES = ((47.0, 8.0), (173.0, 14.0), (611.0, 18.0))  # period in seconds, amplitude in basis points


class PricePath:
    """The seeded fundamental price of one market; `advance` moves it on."""

    def __init__(self, base: float, seed: str) -> None:
        self.base = base
        self._random = random.Random(seed)  # noqa: S311 a reproducible market, not a secret
        self._walk_bp = 0.0
        self._phases = [self._random.uniform(0, 2 * math.pi) for _ in _CYCLES]
        self._drift_bp_per_s = 0.0
        self._regime_left_s = 0.0

    @property
    def price(self) -> float:
        return self.base * math.exp((self._walk_bp + self._cycles_bp()) / 1e4)

    def anchor(self, price: float) -> None:
        """Continue from `price`: what is unexplained becomes part of the walk."""
        self._walk_bp = 1e4 * math.log(price / self.base) - self._cycles_bp()

    def advance(self, seconds: float) -> float:
        """The price `seconds` later (steps of at most a few seconds keep its statistics)."""
        if self._regime_left_s <= 0:
            self._regime_left_s = self._random.expovariate(1 / _REGIME_S)
            active = self._random.random() < _REGIME_SHARE
            self._drift_bp_per_s = self._random.choice((-1, 1)) * _REGIME_BP_PER_S * self._random.random() if active else 0.0
        self._regime_left_s -= seconds
        noise = self._random.gauss(0.0, _NOISE_BP * math.sqrt(seconds))
        self._walk_bp += noise + (self._drift_bp_per_s - self._walk_bp * _PULL_PER_S) * seconds
        for index, (period_s, _) in enumerate(_CYCLES):
            self._phases[index] += 2 * math.pi * seconds / period_s * self._random.uniform(0.6, 1.4)
        return self.price

    def _cycles_bp(self) -> float:
        return sum(amplitude * math.sin(phase) for phase, (_, amplitude) in zip(self._phases, _CYCLES, strict=True))
