"""Binance's error codes, and which of them the core's refusals are.

Source: https://github.com/binance/binance-spot-api-docs/blob/master/errors.md, read 2026-11-21.
"""

from __future__ import annotations

from trading.matching_orders import Refusal, Refused


class ApiError(Exception):
    """An answer with an error code; `status` is the HTTP status, and that of the WebSocket API."""

    def __init__(self, code: int, message: str, status: int = 400, retry_after_s: int | None = None) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> dict[str, object]:
        return {"code": self.code, "msg": self.message}


_REFUSALS: dict[Refusal, tuple[int, str]] = {
    Refusal.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    Refusal.HALTED: (-2010, "Market is closed."),
    Refusal.PRICE_RULE: (-1013, "Filter failure: PRICE_FILTER"),
    Refusal.LOT_RULE: (-1013, "Filter failure: LOT_SIZE"),
    Refusal.MARKET_LOT_RULE: (-1013, "Filter failure: MARKET_LOT_SIZE"),
    Refusal.NOTIONAL_RULE: (-1013, "Filter failure: NOTIONAL"),
    Refusal.PRICE_BAND_RULE: (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    Refusal.OPEN_ORDERS_RULE: (-1013, "Filter failure: MAX_NUM_ORDERS"),
    Refusal.DUPLICATE_CLIENT_ID: (-2010, "Duplicate order sent."),
    Refusal.INSUFFICIENT_BALANCE: (-2010, "Account has insufficient balance for requested action."),
    Refusal.WOULD_TAKE: (-2010, "Order would immediately match and take."),
    Refusal.WOULD_TRIGGER: (-2010, "Order would trigger immediately."),
    Refusal.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
}


def refused(error: Refused) -> ApiError:
    """The answer to a request that the core refused."""
    return ApiError(*_REFUSALS[error.refusal])


def mandatory(name: str) -> ApiError:
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def either(first: str, second: str) -> ApiError:
    return ApiError(-1102, f"Param '{first}' or '{second}' must be sent, but both were empty/null!")


def not_required(name: str) -> ApiError:
    return ApiError(-1106, f"Parameter '{name}' sent when not required.")


def illegal(name: str, legal: str) -> ApiError:
    return ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def unknown_order_on_cancel() -> ApiError:
    return ApiError(-2011, "Unknown order sent.")


def no_such_order() -> ApiError:
    return ApiError(-2013, "Order does not exist.")
