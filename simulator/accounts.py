"""Who may trade at a simulated venue: keys, secrets and the accounts behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

DEFAULT_KEY = "simulator"
DEFAULT_SECRET = "simulator"  # noqa: S105 published: it opens a local simulation only
DEFAULT_ACCOUNT = "simulator"


@dataclass(frozen=True, slots=True)
class Credential:
    """An API key of an account; `may_trade` False is a read-only key."""

    key: str
    secret: str
    account: str
    may_trade: bool = True


@dataclass(slots=True)
class Keyring:
    """All API keys of a venue."""

    credentials: dict[str, Credential] = field(default_factory=dict)

    def add(self, credential: Credential) -> None:
        self.credentials[credential.key] = credential

    def find(self, key: str) -> Credential | None:
        return self.credentials.get(key)


def default_keyring() -> Keyring:
    """The one account that is always there."""
    keyring = Keyring()
    keyring.add(Credential(DEFAULT_KEY, DEFAULT_SECRET, DEFAULT_ACCOUNT))
    return keyring


def funding(balances: Mapping[str, Decimal]) -> list[tuple[str, str, Decimal]]:
    """(account, asset, amount) deposited when a simulator starts for the first time."""
    return [(DEFAULT_ACCOUNT, asset.upper(), amount) for asset, amount in balances.items() if amount]
