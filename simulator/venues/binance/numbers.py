"""How the venue writes numbers and times."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

Payload = dict[str, Any]


def number(value: Decimal | None) -> str:
    """A number as the venue prints it: eight decimals; an absent one is zero."""
    return f"{value:.8f}" if value is not None else "0.00000000"


def ms(ns: int) -> int:
    return ns // 1_000_000


def levels(rows: Iterable[tuple[Decimal, Decimal]]) -> list[tuple[str, str]]:
    return [(number(price), number(size)) for price, size in rows]
