"""What every message has: a kind, a version, an identity, a cause and times.

Messages are frozen msgspec structs (docs/adr/0002-messages-are-msgspec-structs.md). Each is defined once and is
generic in the form that its numbers take: a producer may build `Ticker[str]` from the venue's own checked text,
and every consumer decodes `Ticker[Decimal]`, which is what a plain `Ticker` means. Both write the same bytes.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import msgspec
from typing_extensions import TypeVar

SCHEMA_VERSION = 1

Number = TypeVar("Number", bound=Decimal | str, default=Decimal)
"""A price, size or amount: `Decimal` to compute with, or the venue's exact checked text on the way to the bus."""

TYPE_TAG = "kind"

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A whole number as wide as other languages and the database have them: a longer one on the bus is no message."""


class Side(StrEnum):
    """Direction of an order, or of the taker of a public trade."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell: what a fill does to the position."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field=TYPE_TAG):
    """Anything that travels on the bus. Unknown fields are ignored, absent ones take their default.

    `message_id` is `producer:epoch:sequence`, stamped by the publisher; a jump in the sequence is the loss count.
    `causation_id` is the message that directly caused this one, `correlation_id` the first of the chain.
    `ts_pub_ns` is our clock when the message was handed to the bus, UTC nanoseconds.
    """

    schema_version: Int64 = SCHEMA_VERSION
    message_id: str = ""
    causation_id: str = ""
    correlation_id: str = ""
    ts_pub_ns: Int64 = 0


class MarketEvent(Message, frozen=True, kw_only=True):
    """Public data of one symbol of one exchange.

    `ts_event_ns` is the venue's clock (None where the venue sends none, as on Binance spot's bookTicker),
    `ts_recv_ns` ours when the frame left the socket. Both are UTC nanoseconds.
    """

    exchange: str
    symbol: str
    ts_event_ns: Int64 | None
    ts_recv_ns: Int64


class AccountEvent(Message, frozen=True, kw_only=True):
    """A fact about one account at one exchange. Times as in `MarketEvent`."""

    exchange: str
    account: str
    ts_event_ns: Int64 | None
    ts_recv_ns: Int64


class Command(Message, frozen=True, kw_only=True):
    """Something that a connector is asked to do, once, before `expires_at_ns`.

    `command_id` is 64 lowercase hex characters: the hash of (mode, account, strategy, trigger message, ordinal), so that a
    producer that died after publishing decides the same id again.
    """

    command_id: str
    exchange: str
    account: str
    strategy: str
    created_at_ns: Int64
    expires_at_ns: Int64
