"""What the bot and a worker say to each other, and the bounds on it: frames of msgpack, four bytes of length before each.

The bot trusts no frame of a worker. A worker speaks only when asked, once for each request and in their order; anything else, and
anything out of bounds, is garbage and ends it. What a plugin says carries no identity: the bot knows whom it asked about what.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec

from common_models import AggregateTrade, Candle, Direction, MarketEvent, OrderBook, Signal, Ticker, Trade
from common_models.market_data_models import Level

MAX_FRAME_BYTES: Final = 256 * 1024
"""Of a frame from a worker, but for one that carries its state."""
MAX_STATE_BYTES: Final = 1024 * 1024
MAX_SIGNALS_PER_EVENT: Final = 16
MAX_SIGNALS_PER_S: Final = 200
MAX_TEXT: Final = 500
"""Characters of a reason, an error, a heartbeat."""
LENGTH_BYTES: Final = 4

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Index = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class ProtocolError(Exception):
    """The other side said what it may not."""


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """Anything that is sent. `seq` of an answer is that of its request."""

    seq: int


class Start(Frame, frozen=True, array_like=True, tag=1):
    """Execute `code`, which was read from `path`, and make an instance for each market. Answered by Started or Refused."""

    path: str
    code: bytes
    settings: dict[str, Any]
    markets: tuple[tuple[str, str], ...]
    memory_mb: int


class History(Frame, frozen=True, array_like=True, tag=2):
    """A part of a market's past in order of time; with `first`, its instance is made anew before. Answered by Done."""

    market: int
    events: list[bytes]
    first: bool


class Events(Frame, frozen=True, array_like=True, tag=3):
    """Events as JSON, each with whether it is live: what is said of others goes nowhere. Answered by Done."""

    events: list[tuple[bytes, bool]]


class Beat(Frame, frozen=True, array_like=True, tag=4):
    """Call the heartbeat. Answered by Beaten."""


class Save(Frame, frozen=True, array_like=True, tag=5):
    """Hand out the state. Answered by Saved."""


class Load(Frame, frozen=True, array_like=True, tag=6):
    """Take over the state that another version saved. Answered by Loaded."""

    states: bytes


class Stop(Frame, frozen=True, array_like=True, tag=7):
    """End. Answered by the end of the process."""


class Setting(msgspec.Struct, frozen=True):
    """One setting that the plugin knows, for people: its type and default in words, and its bounds as `ge 1, le 100`."""

    name: Annotated[str, msgspec.Meta(max_length=100)]
    type: Annotated[str, msgspec.Meta(max_length=200)]
    default: Annotated[str, msgspec.Meta(max_length=200)]
    bounds: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Import(msgspec.Struct, frozen=True):
    """A top-level module that the file imports, where, and whether there is one of that name."""

    module: Annotated[str, msgspec.Meta(max_length=200)]
    line: Count
    found: bool = True


class Facts(msgspec.Struct, frozen=True):
    """What a plugin says of itself, checked for form only. Its name becomes that of a file."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
    callbacks: frozenset[Literal["on_ticker", "on_trade", "on_book", "on_candle"]]
    warm_up: Count = 0
    warm_up_events: Count = 0
    when_gone: Literal["keep", "close"] = "keep"
    imports: Annotated[tuple[Import, ...], msgspec.Meta(max_length=200)] = ()
    settings: Annotated[tuple[Setting, ...], msgspec.Meta(max_length=200)] = ()


class Started(Frame, frozen=True, array_like=True, tag=1):
    facts: Facts


class Refused(Frame, frozen=True, array_like=True, tag=2):
    """The file cannot be used: what to change, with file and line. `imports` as far as the file could be read."""

    reason: Annotated[str, msgspec.Meta(max_length=4 * MAX_TEXT)]
    imports: Annotated[tuple[Import, ...], msgspec.Meta(max_length=200)] = ()


class Said(msgspec.Struct, frozen=True, array_like=True):
    """An opinion on the market of the event with this index in its request."""

    event: Index
    direction: Direction
    strength: Share
    confidence: Share
    reason: Text


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """A callback that failed on the event with this index."""

    event: Index
    text: Text


class Done(Frame, frozen=True, array_like=True, tag=3):
    """All events of a request were worked off in `busy_ns`. `over` says why the plugin may not go on, when it may not."""

    said: list[Said]
    failures: list[Failure]
    busy_ns: Nanoseconds
    over: Text = ""


class Beaten(Frame, frozen=True, array_like=True, tag=4):
    """What the instances' heartbeats say, joined."""

    text: Text
    over: Text = ""


class Saved(Frame, frozen=True, array_like=True, tag=5):
    """The state of all instances, or why there is none."""

    states: Annotated[bytes, msgspec.Meta(max_length=MAX_STATE_BYTES)]
    error: Text = ""


class Loaded(Frame, frozen=True, array_like=True, tag=6):
    """The state was taken over, unless there is an error."""

    error: Text = ""


PluginEvent = Ticker[Decimal] | Trade[Decimal] | AggregateTrade[Decimal] | OrderBook[tuple[Level, ...]] | Candle[Decimal]
Request = Start | History | Events | Beat | Save | Load | Stop
Answer = Started | Refused | Done | Beaten | Saved | Loaded

_encoder: Final = msgspec.msgpack.Encoder()
_requests: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_answers: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)
_events: Final[msgspec.json.Decoder[PluginEvent]] = msgspec.json.Decoder(PluginEvent)
_json: Final = msgspec.json.Encoder()


def pack(frame: msgspec.Struct) -> bytes:
    """The frame with its length before it."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


def request_of(body: bytes | memoryview) -> Request:
    """What the bot asks."""
    return _requests.decode(body)


def answer_of(body: bytes | memoryview) -> Answer:
    """What a worker answers; raises ProtocolError for anything else."""
    try:
        answer = _answers.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"{len(body)} bytes that are no answer: {error}") from None
    return answer


def encode_event(event: MarketEvent) -> bytes:
    """The event as workers take it, once for all of them: the JSON that is on the bus will do as well."""
    return _json.encode(event)


def decode_event(data: bytes) -> MarketEvent:
    """An event that the bot wrote or passed on."""
    return _events.decode(data)


def signal_of(said: Said, event: MarketEvent, name: str, version: str, *, shadow: bool) -> Signal:
    """What plugin `name` said of `event`, attributed by what the bot knows and not by what the plugin claims."""
    return Signal(
        causation_id=event.message_id,
        correlation_id=event.correlation_id or event.message_id,
        strategy=name,
        exchange=event.exchange,
        symbol=event.symbol,
        direction=said.direction,
        strength=said.strength,
        confidence=said.confidence,
        reason=said.reason,
        ts_event_ns=event.ts_recv_ns if event.ts_event_ns is None else event.ts_event_ns,
        version=version,
        shadow=shadow,
    )


class FrameReader:
    """Cuts a stream of bytes into the bodies of frames. `limit` is the longest that is taken, in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Yield the bodies that are complete now; raises ProtocolError when one claims to be longer than the limit."""
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        if (
            len(data) - LENGTH_BYTES == int.from_bytes(view[:LENGTH_BYTES], "little") <= self.limit
        ):  # one whole frame: nearly always
            self._rest = b""
            yield view[LENGTH_BYTES:]
            return
        start, size = 0, len(data)
        while size - start >= LENGTH_BYTES:
            length = int.from_bytes(view[start : start + LENGTH_BYTES], "little")
            if length > self.limit:
                raise ProtocolError(f"a frame of {length} bytes, more than {self.limit}")
            end = start + LENGTH_BYTES + length
            if end > size:
                break
            yield view[start + LENGTH_BYTES : end]
            start = end
        self._rest = data[start:]


def clipped(text: str, limit: int = MAX_TEXT) -> str:
    """The text as far as a frame takes it, and as UTF-8 can write it."""
    text = text[:limit]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
