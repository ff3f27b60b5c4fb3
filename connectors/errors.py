"""What can go wrong with an exchange. The type says what the caller may do; the text says what happened and where."""

from __future__ import annotations


class ExchangeError(Exception):
    """Base of all. `detail` is for people, `code` the venue's own code as text (empty when it gave none)."""

    def __init__(self, detail: str, *, code: str = "") -> None:
        super().__init__(f"{detail} (code {code})" if code else detail)
        self.detail = detail
        self.code = code


class TransientError(ExchangeError):
    """Nothing was decided: wait and try again."""


class NotSent(TransientError):
    """No byte left this machine, so nothing can have happened at the venue."""


class AnswerLost(TransientError):
    """The request may have arrived and no usable answer came. For a query: ask again. It is never evidence of absence."""


class RateLimited(TransientError):
    """The venue (or our own budget) wants silence for `retry_after_s` seconds. The request was not executed."""

    def __init__(self, detail: str, *, retry_after_s: float, code: str = "") -> None:
        super().__init__(f"{detail}; silent for {retry_after_s:.1f} s", code=code)
        self.retry_after_s = retry_after_s


class ClockRefused(TransientError):
    """The venue refused the time stamp before execution: measure the offset, sign again. Proof that nothing was executed."""


class BadResponse(TransientError):
    """The answer is not what the venue documents: not JSON, too large, a field missing. Says nothing about what happened."""


class OrderRejected(ExchangeError):
    """The venue said no to this request, for certain: never retry, tell the bot."""


class DuplicateOrder(ExchangeError):
    """The venue knows this client order id: evidence that the order lives, or lived. Look it up."""


class OrderNotFound(ExchangeError):
    """The venue does not know the order now. Only a complete search after the deadline makes that a proof (`reconcile.py`)."""


class OrderOutcomeUnknown(ExchangeError):
    """The order was sent and no answer came: look it up; resend only as the venue's identity class allows."""


class AuthError(ExchangeError):
    """Key, signature or permission refused: stop trading on this venue and tell a person; repeating it risks a ban."""
