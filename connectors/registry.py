"""Exchanges by name: the module `connectors.exchanges.NAME` and its EXCHANGE. Nothing is listed anywhere."""

from __future__ import annotations

import importlib
import pkgutil

from connectors import exchanges
from connectors.exchange import Exchange


class UnknownExchange(Exception):
    """No module of that name; the text lists those that exist."""


def exchange_names() -> list[str]:
    """Every exchange that this installation speaks."""
    return sorted(module.name for module in pkgutil.iter_modules(exchanges.__path__) if not module.name.startswith("_"))


def load_exchange(name: str) -> Exchange:
    """The exchange of that name; raises UnknownExchange."""
    if name not in exchange_names():
        raise UnknownExchange(f"no exchange named {name!r}; known: {', '.join(exchange_names())}")
    exchange = importlib.import_module(f"connectors.exchanges.{name}").EXCHANGE
    assert isinstance(exchange, Exchange)
    return exchange
