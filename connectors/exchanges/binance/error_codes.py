"""What Binance's errors mean for the caller: certain refusal, certain non-execution, or nothing known.

Source: binance-spot-api-docs, errors.md and rest-api.md, read 2026-07-21. "It is important to NOT treat [5xx] as a failure
operation; the execution status is UNKNOWN."
"""

from __future__ import annotations

import msgspec

from connectors.errors import (
    AnswerLost,
    AuthError,
    ClockRefused,
    DuplicateOrder,
    ExchangeError,
    OrderNotFound,
    OrderRejected,
    RateLimited,
    TransientError,
)

_BLOCKED_S = 60.0
_LONGEST_BAN_MS = 3 * 86_400_000

_UNKNOWN_OUTCOME = frozenset({-1000, -1001, -1006, -1007})
_AUTH = frozenset({-1002, -1022, -2014, -2015})
_NOT_FOUND = frozenset({-2013, -2026})
_BUSY = frozenset({-1008, -1016, -1034})
"""Turned away at the door: overloaded, shutting down, too many connections."""
_RATE = frozenset({-1003, -1015})

DUPLICATE = "Duplicate order sent."
UNKNOWN_ORDER = "Unknown order sent."


class ErrorBody(msgspec.Struct):
    """`{"code": -1121, "msg": "Invalid symbol."}`; WebSocket answers may add when to come back."""

    code: int
    msg: str
    data: ErrorData | None = None


class ErrorData(msgspec.Struct):
    serverTime: int = 0  # noqa: N815 the venue's names
    retryAfter: int = 0  # noqa: N815


_decode = msgspec.json.Decoder(ErrorBody).decode


def read_error(status: int, body: bytes) -> ExchangeError:
    """The error of an HTTP answer that is not a success. A body that is not Binance's own proves nothing."""
    try:
        error = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        if status == 403:
            return RateLimited("blocked by the web application firewall", retry_after_s=_BLOCKED_S, code="403")
        return AnswerLost(f"HTTP {status} without the documented body: {body[:80]!r}", code=str(status))
    return error_of(status, error)


def error_of(status: int, error: ErrorBody) -> ExchangeError:
    """The error that an answer's status and body mean."""
    code, text, name = error.code, error.msg[:200], str(error.code)
    if status >= 500 or status == 408 or code in _UNKNOWN_OUTCOME:
        return AnswerLost(text, code=name)
    if status in (418, 429) or code in _RATE:
        return RateLimited(text, retry_after_s=_retry_after_s(error), code=name)
    if code == -1021:
        return ClockRefused(text, code=name)
    if code in _AUTH:
        return AuthError(text, code=name)
    if code in _BUSY:
        return TransientError(text, code=name)
    return _order_error(code, error.msg, text)


def _order_error(code: int, message: str, text: str) -> ExchangeError:
    if code in _NOT_FOUND or (code == -2011 and message == UNKNOWN_ORDER):
        return OrderNotFound(text, code=str(code))
    if code == -2010 and message == DUPLICATE:
        return DuplicateOrder(text, code=str(code))
    return OrderRejected(text, code=str(code))


def _retry_after_s(error: ErrorBody) -> float:
    data = error.data
    if data is None or data.retryAfter <= data.serverTime:
        return 10.0 if error.code == -1015 else _BLOCKED_S
    return min(_LONGEST_BAN_MS, data.retryAfter - data.serverTime) / 1000
