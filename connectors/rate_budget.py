"""One request budget per venue and machine, in lanes: cancels may use all of it, history only half.

Venues count in fixed windows and say in a header how much they counted, so foreign use on the same address is seen: the
header wins over our own sum. After 429 or 418 nothing at all is sent until `Retry-After` has passed, since going on is
what turns a warning into a ban of days.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum

from connectors.errors import RateLimited
from runtime.clock import monotonic_s, now_ns


class Lane(IntEnum):
    """Who asks; the first named is served longest. The value is the percentage of the budget that the lane may use."""

    CANCEL = 100
    ORDER = 80
    ACCOUNT = 70
    HISTORY = 50


class Window:
    """A fixed window of the venue's clock: `limit` units every `length_s` seconds, starting at multiples of its length."""

    __slots__ = ("_index", "length_s", "limit", "used")

    def __init__(self, limit: int, length_s: int) -> None:
        self.limit = limit
        self.length_s = length_s
        self.used = 0
        self._index = -1

    def roll(self, now_s: float) -> None:
        """Start from nothing when the wall clock has entered another window."""
        index = int(now_s // self.length_s)
        if index != self._index:
            self._index = index
            self.used = 0

    def fits(self, units: int, share: Lane) -> bool:
        return (self.used + units) * 100 <= self.limit * share

    def left_s(self, now_s: float) -> float:
        """Seconds until the next window."""
        return self.length_s - now_s % self.length_s


class RateBudget:
    """Weight per minute and, for orders, counts per interval. All methods but `take` are synchronous and cheap."""

    def __init__(self, weight_per_minute: int, order_limits: tuple[tuple[int, int], ...] = ()) -> None:
        """`order_limits` are (count, seconds) pairs, such as (50, 10)."""
        self._weight = Window(weight_per_minute, 60)
        self._orders = tuple(Window(limit, length_s) for limit, length_s in order_limits)
        self._silent_until_s = 0.0
        self.refusals = 0
        self.waits = 0

    @property
    def used_weight(self) -> int:
        """Units counted in the present minute."""
        self._weight.roll(_wall_s())
        return self._weight.used

    def windows(self) -> dict[str, Window]:
        """Every window as it is now, by name: `weight_60s`, `orders_10s` ..."""
        now_s, named = _wall_s(), {f"weight_{self._weight.length_s}s": self._weight}
        named |= {f"orders_{window.length_s}s": window for window in self._orders}
        for window in named.values():
            window.roll(now_s)
        return named

    @property
    def silent_s(self) -> float:
        """Seconds for which the venue asked for silence; 0 when it did not."""
        return max(0.0, self._silent_until_s - monotonic_s())

    def wait_s(self, weight: int, lane: Lane, *, orders: int = 0) -> float:
        """Seconds until such a request fits; 0 means now."""
        wait_s = self.silent_s
        now_s = _wall_s()
        self._weight.roll(now_s)
        if not self._weight.fits(weight, lane):
            wait_s = max(wait_s, self._weight.left_s(now_s))
        if orders:
            for window in self._orders:
                window.roll(now_s)
                if not window.fits(orders, Lane.CANCEL):
                    wait_s = max(wait_s, window.left_s(now_s))
        return wait_s

    def take_now(self, weight: int, lane: Lane, *, orders: int = 0) -> None:
        """Count a request that is about to be sent; raises RateLimited (nothing counted) when it does not fit."""
        wait_s = self.wait_s(weight, lane, orders=orders)
        if wait_s > 0:
            raise RateLimited(f"no budget left in lane {lane.name.lower()}", retry_after_s=wait_s)
        self._weight.used += weight
        if orders:
            for window in self._orders:
                window.used += orders

    async def take(self, weight: int, lane: Lane, *, max_wait_s: float = 60.0) -> None:
        """Wait for room, at most `max_wait_s`; raises RateLimited when that is not enough."""
        deadline_s = monotonic_s() + max_wait_s
        while (wait_s := self.wait_s(weight, lane)) > 0:
            if monotonic_s() + wait_s > deadline_s:
                raise RateLimited(f"no budget left in lane {lane.name.lower()}", retry_after_s=wait_s)
            self.waits += 1
            await asyncio.sleep(wait_s + 0.01)  # just into the next window
        self.take_now(weight, lane)

    def adopt(self, used_weight: int) -> None:
        """Take over the venue's own count of the present minute (answers may overtake each other, so it only rises)."""
        self._weight.roll(_wall_s())
        self._weight.used = max(self._weight.used, used_weight)

    def adopt_orders(self, used: int, length_s: int, limit: int) -> None:
        """Take over the venue's own limit and count of unfilled orders in the window of `length_s` seconds.

        A limit that is none (zero, negative) would forbid every order for good, so it is not believed.
        """
        for window in self._orders:
            if window.length_s == length_s and limit > 0:
                window.roll(_wall_s())
                window.limit = limit
                window.used = max(window.used, used)

    def silence(self, retry_after_s: float) -> None:
        """The venue answered 429 or 418: send nothing for so long."""
        self.refusals += 1
        self._silent_until_s = max(self._silent_until_s, monotonic_s() + retry_after_s)


def _wall_s() -> float:
    return now_ns() / 1e9
