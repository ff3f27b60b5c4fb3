"""Messages to bytes and back: the only file that knows the wire format (JSON with numbers as text).

Everything that comes from the bus is untrusted: a number like `1e9999999` would freeze whoever computes with it, so every
Decimal is bounded here before a handler sees it. Writers emit plain numbers only (`common_models.decimals`).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final, get_type_hints

import msgspec

from bus.errors import CodecError
from common_models import MESSAGE_TYPES, SCHEMA_VERSION, AnyMessage, Message, OrderBook

MAX_MESSAGE_BYTES: Final = 256 * 1024
MAX_EXPONENT: Final = 60
"""Bound on the magnitude of a Decimal: room for sums and products of venue numbers, nothing that costs time."""
MAX_NUMBER_DIGITS: Final = 120

_QUICK_BYTES: Final = 4096
"""In a message of at most this size no number is long enough to matter, so only its magnitude is looked at."""
_QUICK_BOOK_BYTES: Final = 64 * 1024
_BOOK_NUMBERS: Final = b'0123456789.,"[]'
_BOOK_REST: Final = b"bids:asks:}"

Numbers = Callable[[Any], tuple[Decimal | None, ...]]

_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[AnyMessage]] = msgspec.json.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    """The message as JSON; raises CodecError when it is larger than MAX_MESSAGE_BYTES or cannot be written."""
    try:
        data = _encoder.encode(message)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise CodecError(f"cannot encode {type(message).__name__}: {error}") from error
    if len(data) > MAX_MESSAGE_BYTES:
        raise CodecError(f"{type(message).__name__} of {len(data)} bytes is larger than the bound of {MAX_MESSAGE_BYTES}")
    return data


def decode(data: bytes) -> AnyMessage:
    """The message in `data`, its numbers bounded; raises CodecError and nothing else, whatever the bytes are."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise CodecError(f"{len(data)} bytes are more than the bound of {MAX_MESSAGE_BYTES}")
    try:
        message = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
        raise CodecError(f"not a message: {error}") from None
    if message.schema_version != SCHEMA_VERSION and message.schema_version != SCHEMA_VERSION - 1:
        raise CodecError(
            f"schema version {message.schema_version} is unknown here, which reads {SCHEMA_VERSION}; upgrade this process"
        )
    kind = type(message)
    if kind is OrderBook:
        if not _is_plain_book(data):
            _check_book(message)  # type: ignore[arg-type]
        return message
    numbers = _NUMBERS[kind]
    if numbers is not None:
        if len(data) > _QUICK_BYTES:
            _check_lengths(numbers(message))
        for number in numbers(message):
            if number is not None and not (-MAX_EXPONENT <= number.adjusted() <= MAX_EXPONENT and number.is_finite()):
                raise CodecError(f"{kind.__name__} with a number out of bounds: {_shown(number)}")
    return message


class _Identity(msgspec.Struct):
    message_id: str = ""


_identity_decoder: Final = msgspec.json.Decoder(_Identity)


def peek_message_id(data: bytes) -> str:
    """The id in bytes that `decode` refuses, or an empty text: a message of a newer version still has its place in the sequence."""
    try:
        return _identity_decoder.decode(data).message_id
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""


def _is_plain_book(data: bytes) -> bool:
    """Whether both sides of the book are written as our producers do: at the end, digits and points only.

    One pass in C instead of a look at each of its numbers. A backslash-free `"bids":` cannot be inside a JSON text, and keys that
    come later win, so what remains after taking the numbers away proves that no exponent and no word is among them.
    """
    start = data.find(b'"bids":')
    return start >= 0 and len(data) <= _QUICK_BOOK_BYTES and data[start:].translate(None, _BOOK_NUMBERS) == _BOOK_REST


def _check_book(book: OrderBook) -> None:
    for side in (book.bids, book.asks):
        for level in side:
            _check_lengths(level)


def _check_lengths(numbers: tuple[Decimal | None, ...]) -> None:
    """The thorough check: magnitude, finiteness and the count of digits."""
    for number in numbers:
        if number is None:
            continue
        _, digits, exponent = number.as_tuple()
        if not isinstance(exponent, int) or len(digits) > MAX_NUMBER_DIGITS or not -MAX_NUMBER_DIGITS <= exponent <= MAX_EXPONENT:
            raise CodecError(f"a number out of bounds: {_shown(number)}")


def _shown(number: Decimal) -> str:
    return str(number)[:40]


def _number_fields(kind: type[Message]) -> Numbers | None:
    """What reads all Decimal fields of one message type at once; None when it has none."""
    hints = get_type_hints(kind)
    names = [name for name in kind.__struct_fields__ if _may_be_decimal(hints[name])]
    if not names:
        return None
    if len(names) == 1:
        names *= 2  # attrgetter of one name returns no tuple
    getter: Numbers = attrgetter(*names)
    return getter


def _may_be_decimal(hint: Any) -> bool:
    """Whether an annotation is Decimal, a number variable standing for it, or a union with one of them."""
    if hint is Decimal or getattr(hint, "__default__", None) is Decimal:
        return True
    return any(_may_be_decimal(part) for part in getattr(hint, "__args__", ()))


_NUMBERS: Final[dict[type, Numbers | None]] = {}
for _kind in MESSAGE_TYPES:
    _type = getattr(_kind, "__origin__", _kind)
    _NUMBERS[_type] = None if _type is OrderBook else _number_fields(_type)
