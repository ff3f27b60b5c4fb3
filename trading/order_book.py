"""The order book of one symbol, kept from absolute level updates: what an exchange's diff stream describes.

Levels are kept as the venue's own text, ordered by an exact integer key. The JSON of the best N levels is kept beside them and
changed in place, so that publishing is one join. Nothing is rounded and no float decides an order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from common_models.decimals import MAX_DIGITS, checked

MAX_FORGOTTEN = 4_096
"""Prices without a level whose keys are remembered, beside as many as there are levels."""

TextLevel = tuple[str, str]
"""(price, size) as the venue writes them."""


def price_key(price: str) -> int:
    """The price as a whole number of 1e-18, exact; raises ValueError for text that is no positive number of so few digits."""
    whole, _, fraction = price.partition(".")
    if len(price) > MAX_DIGITS:
        checked(price)
    key = int(whole + fraction.ljust(MAX_DIGITS, "0"))
    if key <= 0:
        raise ValueError(f"not a price: {price!r}")
    return key


def is_zero(size: str) -> bool:
    """Whether a level goes away; raises ValueError for text that is no number of at most MAX_DIGITS digits a side."""
    if len(size) > MAX_DIGITS:  # shorter text cannot have too many digits
        checked(size)
    return not float(size)


class BookSide:
    """One side. `sign` is +1 for bids and -1 for asks, so that the best price always has the greatest key."""

    __slots__ = ("_depth", "_keys", "_known", "_levels", "_sign", "_top", "_top_json")

    def __init__(self, sign: int, depth: int) -> None:
        self._sign = sign
        self._depth = depth
        self.load(())

    def __len__(self) -> int:
        return len(self._keys)

    def load(self, levels: Iterable[TextLevel]) -> None:
        """Replace everything by a snapshot."""
        self._levels: dict[int, TextLevel] = {}
        self._known: dict[str, tuple[int, str]] = {}  # key and beginning of the JSON by price, gone ones too: most come back
        for level in levels:
            if not is_zero(level[1]):
                self._levels[self._learn(level[0])[0]] = level
        self._keys = sorted(self._levels)  # ascending: the best is last, where most of the changes are
        self._top = [self._json(key) for key in reversed(self._keys[-self._depth :])]  # the JSON of the best levels
        self._top_json: str | None = None

    def apply(self, changes: Iterable[TextLevel]) -> None:
        """Set the size at each price; a size of zero removes the level. Raises ValueError for text that is no number."""
        keys, levels, known_prices, top, depth = self._keys, self._levels, self._known, self._top, self._depth
        for change in changes:
            price, size = change
            key, start = known_prices.get(price) or self._learn(price)
            if len(size) > MAX_DIGITS:
                checked(size)
            count = len(keys)
            shown = count < depth or key >= keys[-depth]
            at = bisect_left(keys, key, count - depth if shown and count > depth else 0)
            if float(size):  # is_zero(size), without the call
                if key not in levels:
                    keys.insert(at, key)
                    if shown:
                        top.insert(count - at, f'{start}{short(size)}"]')
                        del top[depth:]
                elif shown:
                    top[count - 1 - at] = f'{start}{short(size)}"]'
                levels[key] = change
            elif key in levels:
                del levels[key]
                del keys[at]
                if shown:
                    del top[count - 1 - at]
                    if count > depth:
                        top.append(self._json(keys[-depth]))
            else:
                continue  # removing a level that we never knew is normal
            if shown:
                self._top_json = None

    def _learn(self, price: str) -> tuple[int, str]:
        """Note the key of a price that is not known yet, and how its JSON begins; raises ValueError."""
        known = self._sign * price_key(price), f'["{short(price)}","'
        if len(self._known) > 2 * len(self._levels) + MAX_FORGOTTEN:
            self._known.clear()
        self._known[price] = known
        return known

    def _json(self, key: int) -> str:
        price, size = self._levels[key]
        return f'["{short(price)}","{short(size)}"]'

    def top_json(self) -> str:
        """The best levels as a JSON array of [price, size], best first, without trailing zeros: a third of the bytes less."""
        if self._top_json is None:
            self._top_json = f"[{','.join(self._top)}]"
        return self._top_json

    def forget_beyond(self, levels: int) -> None:
        """Drop all but the best `levels`."""
        self.load(self.levels()[:levels])

    @property
    def best_key(self) -> int | None:
        """The best price as a key of the same sign on both sides, None when the side is empty."""
        return self._sign * self._keys[-1] if self._keys else None

    def levels(self) -> list[TextLevel]:
        """Every level, best first, in the venue's own text."""
        return [self._levels[key] for key in reversed(self._keys)]


def short(number: str) -> str:
    """A plain decimal without its trailing zeros: `5897.80000000` is `5897.8`."""
    if "." not in number:
        return number
    number = number.rstrip("0")
    return number[:-1] if number[-1:] == "." else number


class DepthBook:
    """Both sides and the venue's number of the last update in them."""

    __slots__ = ("asks", "bids", "sequence")

    def __init__(self, depth: int) -> None:
        self.bids = BookSide(1, depth)
        self.asks = BookSide(-1, depth)
        self.sequence = 0

    def load(self, bids: Iterable[TextLevel], asks: Iterable[TextLevel], sequence: int) -> None:
        self.bids.load(bids)
        self.asks.load(asks)
        self.sequence = sequence

    def apply(self, bids: Iterable[TextLevel], asks: Iterable[TextLevel], sequence: int) -> None:
        self.bids.apply(bids)
        self.asks.apply(asks)
        self.sequence = sequence

    def forget_beyond(self, levels: int) -> None:
        """Keep only the best levels: what lies far away is not published, and a venue may send any number of it."""
        self.bids.forget_beyond(levels)
        self.asks.forget_beyond(levels)

    @property
    def crossed(self) -> bool:
        """The best bid is at or above the best ask."""
        bids, asks = self.bids._keys, self.asks._keys  # one class in two parts: a property call a side costs as much as the rest
        return bool(bids and asks) and bids[-1] >= -asks[-1]
