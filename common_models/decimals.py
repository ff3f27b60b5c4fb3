"""Exact numbers from untrusted text: bounded before anything computes with them.

`int(Decimal("1e9999999"))` holds a CPU for minutes and cannot be interrupted, so nothing from outside becomes a
Decimal before its length and its exponent are known to be small.
"""

from __future__ import annotations

from decimal import Decimal

MAX_TEXT = 40
MAX_DIGITS = 18
"""Digits on either side of the point, as wide as the database's numeric(38, 18) minus a guard."""

ZERO = Decimal(0)


class NumberError(ValueError):
    """Text that is not a plain bounded decimal number."""


def checked(text: str) -> str:
    """Return `text` if it is a plain non-negative decimal of bounded size, such as `0.00120000`.

    Raises NumberError for signs, exponents, blanks, underscores, non-ASCII digits, NaN and over-long text. This is the hot
    path's check: it allocates nothing that lives on.
    """
    if len(text) <= MAX_DIGITS and text.isdigit() and text.isascii():
        return text
    whole, point, fraction = text.partition(".")
    if (
        point
        and len(whole) <= MAX_DIGITS
        and len(fraction) <= MAX_DIGITS
        and whole.isdigit()
        and fraction.isdigit()
        and text.isascii()
    ):
        return text
    raise NumberError(f"not a plain decimal number of at most {MAX_DIGITS} digits a side: {text[:MAX_TEXT]!r}")


def exact(text: str) -> Decimal:
    """Return the Decimal of bounded text that may carry a sign or a small exponent (REST bodies, settings, fixtures).

    Raises NumberError for anything else, NaN and infinities included.
    """
    if not isinstance(text, str) or len(text) > MAX_TEXT or not text.isascii() or "_" in text or text != text.strip():
        raise NumberError(f"not a decimal number of at most {MAX_TEXT} characters: {str(text)[:MAX_TEXT]!r}")
    try:
        number = Decimal(text)
    except ArithmeticError as error:
        raise NumberError(f"not a decimal number: {text!r}") from error
    return bounded(number)


def bounded(number: Decimal) -> Decimal:
    """Return `number` if it is finite and its digits lie within MAX_DIGITS of the point; raises NumberError."""
    if not number.is_finite():
        raise NumberError(f"not a finite number: {number}")
    exponent = number.as_tuple().exponent
    if not (-MAX_DIGITS <= int(exponent) <= MAX_DIGITS and number.adjusted() < MAX_DIGITS):
        raise NumberError(
            f"more than {MAX_DIGITS} digits before or after the point: adjusted {number.adjusted()}, exponent {exponent}"
        )
    return number


def plain(number: Decimal) -> str:
    """Return the number as text without an exponent and without trailing zeros: `1E-8` is `0.00000001`."""
    if not number:
        return "0"
    text = format(bounded(number), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
