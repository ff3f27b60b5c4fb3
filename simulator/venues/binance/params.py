"""Reading request parameters as strictly as the venue does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import TypeVar

from simulator.venues.binance.errors import ApiError, illegal, mandatory

_DECIMAL = re.compile(r"([0-9]{1,20})(\.[0-9]{1,20})?", re.ASCII)
_DECIMAL_TEXT = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
_INTEGER = re.compile(r"[0-9]{1,20}", re.ASCII)
_INTEGER_TEXT = "^[0-9]{1,20}$"
_SYMBOL = re.compile(r"[A-Z0-9\-_.]{1,20}", re.ASCII)
_SYMBOL_TEXT = "^[A-Z0-9-_.]{1,20}$"
_CLIENT_ID = re.compile(r"[a-zA-Z0-9\-_.:/]{1,36}", re.ASCII)
_CLIENT_ID_TEXT = "^[a-zA-Z0-9-_.:/]{1,36}$"
_PRECISION = 8

E = TypeVar("E", bound=Enum)


class Params:
    """The parameters of one request by name; text as it was sent."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str | None:
        """The value, None when absent; an empty one is error -1105."""
        value = self.values.get(name)
        if value is not None and not value.strip():
            raise ApiError(-1105, f"Parameter '{name}' was empty.")
        return value

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise mandatory(name)
        return value

    def symbol(self, name: str = "symbol") -> str:
        value = self.required(name)
        if not _SYMBOL.fullmatch(value):
            raise illegal(name, _SYMBOL_TEXT)
        return value

    def client_id(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not _CLIENT_ID.fullmatch(value):
            raise illegal(name, _CLIENT_ID_TEXT)
        return value

    def decimal(self, name: str) -> Decimal | None:
        """An exact positive number with at most eight decimals."""
        value = self.text(name)
        if value is None:
            return None
        match = _DECIMAL.fullmatch(value)
        if not match:
            raise illegal(name, _DECIMAL_TEXT)
        if len((match[2] or ".").rstrip("0")) - 1 > _PRECISION:
            raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
        if len(match[1].lstrip("0")) > 12:
            raise ApiError(-1108, f"Parameter '{name}' overflowed.")
        number = Decimal(value)
        if not number:
            raise mandatory(name)
        return number

    def integer(self, name: str, default: int | None = None, lowest: int = 0, highest: int = 2**63 - 1) -> int | None:
        value = self.text(name)
        if value is None:
            return default
        if not _INTEGER.fullmatch(value):
            raise illegal(name, _INTEGER_TEXT)
        number = int(value)
        if not lowest <= number <= highest:
            raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
        return number

    def choice(self, name: str, choices: Mapping[str, E], code: int, message: str) -> E | None:
        """One of some words, in capitals as the venue writes them; raises `code` for another word."""
        value = self.text(name)
        if value is None:
            return None
        if value not in choices:
            raise ApiError(code, message)
        return choices[value]

    def flag(self, name: str) -> bool:
        value = self.text(name)
        if value not in (None, "true", "false"):
            raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
        return value == "true"
