"""The wire format: everything that we write is read back, and nothing that others write does harm."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus import codec
from bus.codec import MAX_MESSAGE_BYTES, decode, encode, peek_message_id
from bus.errors import CodecError
from common_models import MESSAGE_TYPES, Message, OrderBook, Ticker
from tests.unit.bus.messages import NS, alert, any_message, levels, ticker, trade

quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", MESSAGE_TYPES, ids=lambda kind: getattr(kind, "__origin__", kind).__name__)
@quick
@given(data=st.data())
def test_every_message_comes_back_as_it_was(kind: Any, data: st.DataObject) -> None:
    message = data.draw(any_message(kind))
    read = decode(encode(message))
    assert type(read) is type(message)
    assert read == message


def test_text_and_decimal_form_of_a_number_are_the_same_on_the_wire() -> None:
    fields = msgspec.structs.asdict(ticker())
    decimals = {name: Decimal(fields[name]) for name in ("bid_price", "bid_size", "ask_price", "ask_size")}
    assert encode(ticker()) == encode(Ticker(**{**fields, **decimals}))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_a_codec_error(noise: bytes) -> None:
    with pytest.raises(CodecError):
        decode(noise)


def test_mutated_messages_are_read_or_refused_and_nothing_else() -> None:
    choose = random.Random(20261121)
    samples = [encode(ticker()), encode(trade(1)), encode(alert("é")), encode(book(levels_of("1.5", 20)))]
    refused = 0
    for _ in range(4000):
        data = bytearray(choose.choice(samples))
        for _ in range(choose.randint(1, 4)):
            where = choose.randrange(len(data))
            match choose.randrange(4):
                case 0:
                    data[where] = choose.randrange(256)
                case 1:
                    del data[where : where + choose.randrange(8)]
                case 2:
                    data[where:where] = choose.choice([b"e999", b'"', b"{", b"[[", b"\\u0000", b"NaN", b"\xff", b"9" * 30])
                case _:
                    data += data[:where]
        try:
            message = decode(bytes(data))
        except CodecError:
            refused += 1
        else:
            assert isinstance(message, Message)
    assert refused > 1000


BAD_NUMBERS = ["1e9999999", "-1E+999999999", "1e-9999999", "0E-99999999", "NaN", "sNaN", "Infinity", "-inf", "1e61"]


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize("name", ["bid_price", "bid_size", "ask_price", "ask_size"])
def test_a_number_that_would_freeze_a_process_is_refused(number: str, name: str) -> None:
    fields = {**msgspec.to_builtins(ticker()), name: number}
    with pytest.raises(CodecError):
        decode(msgspec.json.encode(fields))


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize("place", ["bids", "asks"])
def test_a_number_that_would_freeze_a_process_is_refused_in_a_book(number: str, place: str) -> None:
    fields = msgspec.json.decode(encode(book(levels_of("1.5", 3))))
    fields[place][1][1] = number
    with pytest.raises(CodecError):
        decode(msgspec.json.encode(fields))


def test_a_json_number_with_an_exponent_is_refused_in_a_book_too() -> None:
    data = encode(book(levels_of("1.5", 1))).replace(b'"1.5"', b"1e99999", 1)
    with pytest.raises(CodecError):
        decode(data)


@pytest.mark.parametrize(
    "hidden",
    [
        '{"asks":[["1e99999","1"]],%s,"bids":[]}',
        '{%s,"bids":[],"asks":[["1e99999","1"]],"sequence":5}',
        '{"symbol":"\\"bids\\":","bid\\u0073":[["1e99999","1"]],%s,"asks":[]}',
        '{%s,"bids":[["1","1"]],"bid\\u0073":[["1e99999","1"]],"asks":[]}',
        '{%s,"bids":[],"bids":[["1e99999","1"]],"asks":[]}',
        '{%s,"bids":[["NaN","1"]],"asks":[]}',
    ],
)
def test_a_book_cannot_hide_a_number_from_the_quick_check(hidden: str) -> None:
    rest = '"kind":"book","exchange":"b","symbol":"s","ts_event_ns":1,"ts_recv_ns":1,"sequence":1,"valid":true,"crossed":false'
    with pytest.raises(CodecError):
        decode((hidden % rest).encode())


@quick
@given(bids=levels, asks=levels)
def test_the_quick_check_of_a_book_refuses_nothing_that_the_thorough_one_takes(bids: Any, asks: Any) -> None:
    message = book(bids, asks)
    data = encode(message)
    assert decode(data) == message
    if b"E" not in data.partition(b'"bids":')[2] and b"-" not in data.partition(b'"bids":')[2]:
        assert codec._is_plain_book(data)


def test_a_small_number_with_an_exponent_is_a_number() -> None:
    message = book(((Decimal("1E-8"), Decimal("1E+3")),))
    assert decode(encode(message)) == message


def test_too_many_digits_are_refused() -> None:
    fields = {**msgspec.to_builtins(ticker()), "bid_price": "1." + "0" * 5000}
    with pytest.raises(CodecError, match="bounds"):
        decode(msgspec.json.encode(fields))


def test_an_oversized_message_is_refused_on_both_ways() -> None:
    with pytest.raises(CodecError, match="larger"):
        encode(alert("x" * MAX_MESSAGE_BYTES))
    with pytest.raises(CodecError, match="more than"):
        decode(b" " * (MAX_MESSAGE_BYTES + 1))
    decode(encode(alert("x" * (MAX_MESSAGE_BYTES - 1000))))


@pytest.mark.parametrize(("version", "taken"), [(0, True), (1, True), (2, False), (-1, False), (10**30, False)])
def test_an_unknown_major_version_is_refused_and_the_one_before_ours_taken(version: int, taken: bool) -> None:
    data = msgspec.json.encode({**msgspec.to_builtins(ticker()), "schema_version": version, "message_id": "p:1:7"})
    if taken:
        decode(data)
    else:
        with pytest.raises(CodecError):
            decode(data)
        assert peek_message_id(data) == "p:1:7"


def test_unknown_fields_are_ignored_and_unknown_kinds_refused() -> None:
    fields = msgspec.to_builtins(ticker())
    assert decode(msgspec.json.encode({**fields, "new_field": [1, {}]})).symbol == "BTC/USDT"  # type: ignore[union-attr]
    with pytest.raises(CodecError):
        decode(msgspec.json.encode({**fields, "kind": "teleport"}))


def test_deep_nesting_is_a_codec_error() -> None:
    with pytest.raises(CodecError):
        decode(b'{"kind":"ticker","x":' + b"[" * 100_000)
    assert peek_message_id(b'{"x":' + b"[" * 100_000) == ""


def book(bids: Any, asks: Any = ()) -> OrderBook:
    return OrderBook(
        exchange="binance",
        symbol="BTC/USDT",
        ts_event_ns=NS,
        ts_recv_ns=NS,
        sequence=1,
        valid=True,
        crossed=False,
        bids=bids,
        asks=asks or bids,
    )


def levels_of(number: str, count: int) -> tuple[tuple[Decimal, Decimal], ...]:
    return ((Decimal(number), Decimal(number)),) * count
