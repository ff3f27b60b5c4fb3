"""Which messages a reader times: the first of each read, and none that was there before it."""

from __future__ import annotations

import pytest
from msgspec.structs import force_setattr

from bus.codec import encode
from bus.delivery_times import DeliveryTimes
from bus.streams import Streams
from bus.tail import Tail
from runtime.clock import now_ns
from runtime.metrics import Metrics
from tests.support.exposition import fresh_process, samples, value
from tests.unit.bus.messages import ticker

STREAM = Streams("simulation").market("binance", "tickers").name


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    return fresh_process(monkeypatch)


def body(number: int, ts_pub_ns: int) -> bytes:
    message = ticker()
    force_setattr(message, "message_id", f"p.x:1:{number}")
    force_setattr(message, "ts_pub_ns", ts_pub_ns)
    return encode(message)


def test_one_message_of_each_read_is_timed(process: Metrics) -> None:
    tail = Tail(STREAM, "0", DeliveryTimes("bot"))
    for read in range(3):
        tail.begin_read()
        for number in range(4):
            tail.take("1-1", body(1 + 4 * read + number, now_ns()), lambda *_: None)
    assert value(process, "tradebot_hop_seconds_count", hop="bus_to_bot", exchange="binance") == 3


def test_what_was_there_before_the_reader_is_not_timed(process: Metrics) -> None:
    tail = Tail(STREAM, "0", DeliveryTimes("bot"))
    tail.begin_read()
    tail.take("1-1", body(1, now_ns() - 10**12), lambda *_: None)
    assert samples(process) == {}


def test_a_tail_of_the_memory_bus_times_nothing(process: Metrics) -> None:
    tail = Tail(STREAM, "0")
    tail.begin_read()
    tail.take("1-1", body(1, now_ns()), lambda *_: None)
    assert samples(process) == {}
