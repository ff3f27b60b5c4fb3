"""Request weights and order counts in fixed windows, 429 and then 418.

Source: https://github.com/binance/binance-spot-api-docs/blob/master/rest-api.md ("LIMITS"), read 2026-11-21.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from runtime.clock import now_ns
from simulator.venues.binance.errors import ApiError

_MINUTE_S, _TEN_S, _DAY_S = 60, 10, 86_400
_PATIENCE = 10
"""How many requests after a 429 within the same minute make it a ban."""
_BAN_S = 120


@dataclass(slots=True)
class _Window:
    """A counter that starts anew with each fixed interval."""

    seconds: int
    limit: int
    started: int = 0
    count: int = 0

    def add(self, amount: int, now_s: float) -> None:
        interval = int(now_s // self.seconds)
        if interval != self.started:
            self.started, self.count = interval, 0
        self.count += amount

    def left_s(self, now_s: float) -> int:
        return max(1, math.ceil((self.started + 1) * self.seconds - now_s))


@dataclass(slots=True)
class _Address:
    """One client address: its weight, how often it went on after a 429, and until when it is banned."""

    weight: _Window
    ignored: int = 0
    banned_until_s: float = 0.0


@dataclass(slots=True)
class _Orders:
    """Unfilled orders of one account."""

    ten_seconds: _Window
    day: _Window


@dataclass(slots=True)
class Limits:
    """Weights by address and order counts by account. The limits can be changed while running (the control address does)."""

    weight_per_minute: int = 6000
    orders_per_10_s: int = 100
    orders_per_day: int = 200_000
    _addresses: dict[str, _Address] = field(default_factory=dict)
    _orders: dict[str, _Orders] = field(default_factory=dict)

    def spend(self, address: str, weight: int) -> int:
        """Count a request's weight and return what the minute has used; raises 429, or 418 for those who do not stop."""
        now_s = now_ns() / 1e9
        state = self._addresses.get(address)
        if state is None:
            state = self._addresses[address] = _Address(_Window(_MINUTE_S, self.weight_per_minute))
        if now_s < state.banned_until_s:
            raise self._ban(state, now_s)
        state.weight.add(weight, now_s)
        if state.weight.count <= self.weight_per_minute:
            state.ignored = 0
            return state.weight.count
        state.ignored += 1
        if state.ignored > _PATIENCE:
            state.banned_until_s = now_s + _BAN_S
            raise self._ban(state, now_s)
        raise ApiError(
            -1003,
            f"Too much request weight used; current limit is {self.weight_per_minute} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API.",
            status=429,
            retry_after_s=state.weight.left_s(now_s),
        )

    def used_weight(self, address: str) -> int:
        state = self._addresses.get(address)
        if state is None:
            return 0
        state.weight.add(0, now_ns() / 1e9)
        return state.weight.count

    def count_order(self, account: str) -> None:
        """Count one new order of an account; raises -1015 (429) above a limit."""
        now_s = now_ns() / 1e9
        orders = self._of(account)
        for window, limit, label in (
            (orders.ten_seconds, self.orders_per_10_s, "10 SECOND"),
            (orders.day, self.orders_per_day, "1 DAY"),
        ):
            window.add(0, now_s)
            if window.count >= limit:
                raise ApiError(
                    -1015,
                    f"Too many new orders; current limit is {limit} orders per {label}.",
                    status=429,
                    retry_after_s=window.left_s(now_s),
                )
        orders.ten_seconds.count += 1
        orders.day.count += 1

    def forgive_order(self, account: str) -> None:
        """An order traded: only unfilled ones count."""
        orders = self._of(account)
        for window in (orders.ten_seconds, orders.day):
            window.add(0, now_ns() / 1e9)
            window.count = max(0, window.count - 1)

    def order_counts(self, account: str) -> tuple[int, int]:
        """Unfilled orders of the running ten seconds and of the day."""
        orders = self._of(account)
        now_s = now_ns() / 1e9
        orders.ten_seconds.add(0, now_s)
        orders.day.add(0, now_s)
        return orders.ten_seconds.count, orders.day.count

    def described(self) -> list[dict[str, object]]:
        """The limits as `exchangeInfo` lists them."""
        return [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.weight_per_minute},
            *self.described_orders(),
        ]

    def described_orders(self) -> list[dict[str, object]]:
        return [
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": self.orders_per_10_s},
            {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": self.orders_per_day},
        ]

    def _of(self, account: str) -> _Orders:
        orders = self._orders.get(account)
        if orders is None:
            orders = self._orders[account] = _Orders(_Window(_TEN_S, self.orders_per_10_s), _Window(_DAY_S, self.orders_per_day))
        return orders

    def _ban(self, state: _Address, now_s: float) -> ApiError:
        until_ms = int(state.banned_until_s * 1000)
        return ApiError(
            -1003,
            f"Way too much request weight used; IP banned until {until_ms}. "
            "Please use WebSocket Streams for live updates to avoid bans.",
            status=418,
            retry_after_s=max(1, math.ceil(state.banned_until_s - now_s)),
        )
