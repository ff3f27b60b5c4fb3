"""Who holds what: free and locked amounts of each asset, conserved to the last digit."""

from __future__ import annotations

from decimal import Decimal

from common_models.decimals import ZERO
from trading.matching_orders import Order

FEES_ACCOUNT = "fees"
"""Receives every fee, so that nothing leaves the system."""
EXTERNAL_ACCOUNT = "external"
"""Owns the liquidity of a followed book: levels that were seen elsewhere and not placed here."""


class Holding:
    """One asset of one account."""

    __slots__ = ("free", "locked")

    def __init__(self, free: Decimal = ZERO, locked: Decimal = ZERO) -> None:
        self.free = free
        self.locked = locked

    @property
    def total(self) -> Decimal:
        return self.free + self.locked


class Accounts:
    """All holdings. An *unlimited* account may owe: it is the other side of a market that is not simulated order by order."""

    def __init__(self) -> None:
        self._holdings: dict[str, dict[str, Holding]] = {}
        self._unlimited: set[str] = set()

    def open(self, account: str, *, unlimited: bool = False) -> None:
        """Make an account known; opening it again changes nothing."""
        self._holdings.setdefault(account, {})
        if unlimited:
            self._unlimited.add(account)

    def names(self) -> tuple[str, ...]:
        return tuple(self._holdings)

    def limited(self, account: str) -> bool:
        return account not in self._unlimited

    def holding(self, account: str, asset: str) -> Holding:
        """The holding, made empty when there is none; KeyError for an account that was never opened."""
        assets = self._holdings[account]
        holding = assets.get(asset)
        if holding is None:
            holding = assets[asset] = Holding()
        return holding

    def holdings(self, account: str) -> dict[str, Holding]:
        """All holdings of an account by asset."""
        return self._holdings[account]

    def deposit(self, account: str, asset: str, amount: Decimal) -> None:
        """Money from outside: the only way in."""
        self.holding(account, asset).free += amount

    def total(self, asset: str) -> Decimal:
        """Sum of an asset over all accounts: changed by deposits only."""
        return sum((assets[asset].total for assets in self._holdings.values() if asset in assets), ZERO)

    def lock(self, order: Order, asset: str, amount: Decimal) -> None:
        """Set `amount` of the order's spend asset aside until it fills or ends. The caller has checked that it is free."""
        if order.account in self._unlimited:
            return
        holding = self.holding(order.account, asset)
        holding.free -= amount
        holding.locked += amount
        order.locked += amount

    def release(self, order: Order, asset: str) -> None:
        """Give back what the order still locks."""
        if order.locked:
            holding = self.holding(order.account, asset)
            holding.locked -= order.locked
            holding.free += order.locked
            order.locked = ZERO

    def pay(self, order: Order, asset: str, amount: Decimal) -> None:
        """Take what the order owes, from its locked part if it has one."""
        holding = self.holding(order.account, asset)
        if order.locked:
            holding.locked -= amount
            order.locked -= amount
        else:
            holding.free -= amount

    def receive(self, order: Order, asset: str, amount: Decimal, fee: Decimal) -> None:
        """Credit what a fill brought, less the fee, which goes to the fees account."""
        self.holding(order.account, asset).free += amount - fee
        if fee:
            self.holding(FEES_ACCOUNT, asset).free += fee
