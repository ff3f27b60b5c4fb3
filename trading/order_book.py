"""The order book of one symbol, kept from absolute level updates: what an exchange's diff stream describes.

Levels are kept as the venue's own text, ordered by an exact integer key. The JSON of a level is made once, when it is first among
the best, so that publishing the best N levels is one join. Nothing is rounded and no float decides an order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from common_models.decimals import MAX_DIGITS, checked

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

    __slots__ = ("_depth", "_key_of", "_keys", "_levels", "_shown", "_sign", "_top_json")

    def __init__(self, sign: int, depth: int) -> None:
        self._sign = sign
        self._depth = depth
        self._keys: list[int] = []  # ascending: the best is last, where most of the changes are
        self._levels: dict[int, TextLevel] = {}
        self._key_of: dict[str, int] = {}
        self._shown: dict[int, str] = {}  # the JSON of levels that were among the best since they last changed
        self._top_json: str | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def clear(self) -> None:
        self.load(())

    def load(self, levels: Iterable[TextLevel]) -> None:
        """Replace everything by a snapshot."""
        self._levels = {}
        self._key_of = {}
        for price, size in levels:
            if not is_zero(size):
                key = self._sign * price_key(price)
                self._key_of[price] = key
                self._levels[key] = (price, size)
        self._keys = sorted(self._levels)
        self._shown = {}
        self._top_json = None

    def apply(self, changes: Iterable[TextLevel]) -> None:
        """Set the size at each price; a size of zero removes the level. Raises ValueError for text that is no number."""
        keys, levels, key_of = self._keys, self._levels, self._key_of
        worst_shown = keys[-self._depth] if len(keys) >= self._depth else None
        for change in changes:
            price, size = change
            key = key_of.get(price)
            if key is None:
                key = self._sign * price_key(price)
            if len(size) > MAX_DIGITS:
                checked(size)
            if float(size):  # is_zero(size), without the call
                if key not in levels:
                    keys.insert(bisect_left(keys, key), key)
                    key_of[price] = key
                levels[key] = change
            elif key in levels:
                del levels[key]
                key_of.pop(price, None)
                del keys[bisect_left(keys, key)]
            else:
                continue  # removing a level that we never knew is normal
            if worst_shown is None or key >= worst_shown:
                self._top_json = None
            self._shown.pop(key, None)

    def top_json(self) -> str:
        """The best levels as a JSON array of [price, size], best first, without trailing zeros: a third of the bytes less."""
        if self._top_json is None:
            best = self._keys[-self._depth :]
            best.reverse()
            shown = self._shown
            if len(shown) > 8 * self._depth:
                shown.clear()
            self._top_json = f"[{','.join([shown.get(key) or self._show(key) for key in best])}]"
        return self._top_json

    def _show(self, key: int) -> str:
        price, size = self._levels[key]
        text = f'["{_short(price)}","{_short(size)}"]'
        self._shown[key] = text
        return text

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


def _short(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


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
