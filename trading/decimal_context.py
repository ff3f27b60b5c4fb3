"""Arithmetic to the last digit: wide enough for every product that occurs here, and an error instead of a rounding."""

from __future__ import annotations

import decimal
from contextlib import AbstractContextManager

_PRECISION = 80
"""Digits: a number here has at most 18 on either side of the point (`common_models.decimals`), a product of two twice that."""

_EXACT = decimal.Context(
    prec=_PRECISION,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)


def exact_context() -> decimal.Context:
    """A fresh context that raises `decimal.Inexact` where a digit would be lost."""
    return _EXACT.copy()


def exact_arithmetic() -> AbstractContextManager[decimal.Context]:
    """`with exact_arithmetic():` computes in the exact context and restores the caller's afterwards.

    Quotients rarely fit: display code divides outside of it, and `rounded_down` cuts a number to a step without dividing.
    """
    return decimal.localcontext(_EXACT)


def rounded_down(value: decimal.Decimal, step: decimal.Decimal) -> decimal.Decimal:
    """The multiple of `step` at or below a non-negative `value`, exactly."""
    return value - value % step
