"""Frames are cut anywhere and put together again; whatever a worker says is an answer within bounds or a ProtocolError."""

from __future__ import annotations

import math
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.isolation.protocol import (
    MAX_STATE_BYTES,
    MAX_TEXT,
    Done,
    Facts,
    Failure,
    FrameReader,
    ProtocolError,
    Said,
    Saved,
    Started,
    answer_of,
    clipped,
    decode_event,
    encode_event,
    pack,
    signal_of,
)
from bus.codec import encode
from common_models import Direction
from strategy.testing import candles, tickers, trades


@given(st.lists(st.binary(max_size=300), max_size=20), st.lists(st.integers(0, 400), max_size=40))
def test_frames_come_out_as_they_went_in_wherever_the_stream_is_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(body).to_bytes(4, "little") + body for body in bodies)
    reader, found, start = FrameReader(300), [], 0
    for end in [*sorted(cut for cut in cuts if cut < len(stream)), len(stream)]:
        found += [bytes(body) for body in reader.feed(stream[start:end])]
        start = end

    assert found == bodies


def test_a_frame_that_claims_to_be_too_long_is_refused_before_it_is_there() -> None:
    with pytest.raises(ProtocolError, match="a frame of 301 bytes, more than 300"):
        list(FrameReader(300).feed((301).to_bytes(4, "little")))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_garbage(body: bytes) -> None:
    with suppress(ProtocolError):
        answer_of(body)


def body_of(frame: msgspec.Struct) -> bytes:
    return pack(frame)[4:]


FACTS = Facts("name", frozenset({"on_ticker"}))


@pytest.mark.parametrize(
    "answer",
    [
        Done(1, [Said(0, Direction.BUY, math.nan, 1.0, "")], [], 1),
        Done(1, [Said(0, Direction.BUY, 1.0, math.inf, "")], [], 1),
        Done(1, [Said(0, Direction.BUY, -0.1, 1.0, "")], [], 1),
        Done(1, [Said(-1, Direction.BUY, 1.0, 1.0, "")], [], 1),
        Done(1, [Said(0, "up", 1.0, 1.0, "")], [], 1),  # type: ignore[arg-type]
        Done(1, [Said(0, Direction.BUY, 1.0, 1.0, "x" * (MAX_TEXT + 1))], [], 1),
        Done(1, [], [Failure(0, "x" * (MAX_TEXT + 1))], 1),
        Done(1, [], [], -1),
        Done(2**70, [], [], 1),
        Saved(1, b"x" * (MAX_STATE_BYTES + 1)),
        Started(1, msgspec.structs.replace(FACTS, name="../../etc")),
        Started(1, msgspec.structs.replace(FACTS, name="name\n")),
        Started(1, msgspec.structs.replace(FACTS, warm_up=10**12)),
        Started(1, msgspec.structs.replace(FACTS, when_gone="sell")),
        Started(1, msgspec.structs.replace(FACTS, callbacks=frozenset({"on_everything"}))),
    ],
)
def test_an_answer_out_of_bounds_is_garbage(answer: msgspec.Struct) -> None:
    try:
        body = body_of(answer)
    except (OverflowError, msgspec.MsgspecError):
        return  # cannot even be written
    with pytest.raises(ProtocolError):
        answer_of(body)


def test_a_sound_answer_is_taken() -> None:
    answer = Done(7, [Said(0, Direction.SELL, 0.5, 1.0, "why")], [Failure(1, "what")], 12)

    assert answer_of(body_of(answer)) == answer


@pytest.mark.parametrize("event", [*tickers([100]), *candles([100]), *trades([100])])
def test_workers_take_what_is_on_the_bus(event: object) -> None:
    assert decode_event(encode_event(event)) == event  # type: ignore[arg-type]
    assert decode_event(encode(event)) == event


def test_a_signal_has_the_identity_that_the_bot_knows() -> None:
    (ticker,) = tickers([100])
    signal = signal_of(Said(0, Direction.BUY, 0.5, 0.25, "why"), ticker, "name", "1f0c22aa9b3e", shadow=True)

    assert (signal.strategy, signal.version, signal.shadow) == ("name", "1f0c22aa9b3e", True)
    assert (signal.exchange, signal.symbol) == (ticker.exchange, ticker.symbol)
    assert (signal.causation_id, signal.correlation_id) == (ticker.message_id, ticker.message_id)
    assert (signal.strength, signal.confidence, signal.ts_event_ns) == (0.5, 0.25, ticker.ts_recv_ns)


@given(st.text(max_size=1000))
def test_clipped_text_can_be_sent(text: str) -> None:
    assert len(clipped(text)) <= MAX_TEXT
    clipped(text).encode()


def test_text_that_utf_8_cannot_write_is_replaced() -> None:
    assert clipped("a\ud800b") == "a?b"
