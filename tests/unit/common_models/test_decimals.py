from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common_models.decimals import MAX_DIGITS, NumberError, bounded, checked, exact, plain

HOSTILE = [
    "1e9999999",
    "1E5",
    "NaN",
    "Infinity",
    "-1",
    "+1",
    " 1",
    "1 ",
    "1_000",
    "١٢",
    "1.2.3",
    ".",
    "1.",
    ".5",
    "",
    "0x1",
    "1" * 50,
    "²",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_that_is_no_plain_number_never_reaches_the_bus(text: str) -> None:
    with pytest.raises(NumberError):
        checked(text)


@given(st.decimals(min_value=0, max_value=Decimal("999999999999999999"), places=8))
def test_a_venues_number_passes_unchanged(number: Decimal) -> None:
    assert checked(format(number, "f")) == format(number, "f")


@pytest.mark.parametrize(
    "text", ["1e9999999", "1e-9999999", "NaN", "inf", "1" * 41, "1_0", " 1", "", "abc", "1e19", "1e-19", "--1"]
)
def test_exact_refuses_what_could_freeze_a_process(text: str) -> None:
    with pytest.raises(NumberError):
        exact(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**17), max_value=10**17, places=10))
def test_plain_text_has_no_exponent_and_the_same_value(number: Decimal) -> None:
    text = plain(number)
    assert "E" not in text.upper()
    assert exact(text) == number
    assert not text.endswith(".")


def test_small_numbers_are_written_out() -> None:
    assert plain(Decimal("1E-8")) == "0.00000001"
    assert plain(Decimal("1E+3")) == "1000"
    assert plain(Decimal("-0.00")) == "0"


def test_bounds_are_those_of_the_database() -> None:
    assert bounded(Decimal("9" * MAX_DIGITS)) == Decimal("9" * MAX_DIGITS)
    with pytest.raises(NumberError):
        bounded(Decimal("9" * (MAX_DIGITS + 1)))
