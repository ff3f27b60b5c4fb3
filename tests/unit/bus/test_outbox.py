"""What a publisher holds: order, bounds, losses told, and nothing lost between put and acknowledgement."""

from __future__ import annotations

import random
from typing import cast

import hiredis
import pytest

from bus.codec import decode, encode
from bus.connection import Connection, Receiver, Reply
from bus.errors import BusError, BusUnavailable, OutOfMemory, server_error
from bus.lanes import Batch, Lane, add_template
from bus.outbox import WRITE_ENTRIES, LosslessOutbox, MarketOutbox, Outbox
from bus.streams import Stream, Streams
from common_models import Gap
from tests.unit.bus.messages import alert, ticker

STREAMS = Streams("test")
TICKERS = STREAMS.market("binance", "tickers")
SIGNALS = STREAMS.signals


class FakeServer:
    """Stores what is written to it, answering when told to: `answer(refuse=...)` says which XADDs to refuse."""

    def __init__(self) -> None:
        self.congested = False
        self.stored: dict[str, list[bytes]] = {}
        self.waiting: list[tuple[list[list[bytes]], Receiver]] = []

    def send(self, data: bytes, receive: Receiver, *, replies: int = 1, timeout_s: float = 5.0) -> None:
        parser = hiredis.Reader()
        parser.feed(data)
        commands = [cast(list[bytes], parser.gets()) for _ in range(replies)]
        assert parser.gets() is False, "more commands than replies"
        self.waiting.append((commands, receive))

    def answer(self, refuse: float = 0.0, choose: random.Random | None = None) -> None:
        """Answer the oldest write, refusing XADDs with a probability."""
        commands, receive = self.waiting.pop(0)
        refused = [choose is not None and choose.random() < refuse for _ in commands]
        if commands[0] == [b"MULTI"]:
            bad = any(no for no, command in zip(refused, commands, strict=True) if command[0] == b"XADD")
            for command, no in zip(commands, refused, strict=True):
                if command[0] == b"EXEC":
                    receive(server_error("EXECABORT discarded") if bad else [self._store(one) for one in commands[1:-1]])
                else:
                    receive(server_error("OOM no memory") if no and command[0] == b"XADD" else b"QUEUED")
            return
        for command, no in zip(commands, refused, strict=True):
            receive(server_error("OOM no memory") if no else self._store(command))

    def break_off(self) -> None:
        """End the connection: everything unanswered learns of it, though half of it was stored."""
        waiting, self.waiting = self.waiting, []
        for commands, receive in waiting:
            if commands[0] != [b"MULTI"]:
                for command in commands[: len(commands) // 2]:
                    self._store(command)
            for _ in commands:
                receive(BusUnavailable("gone"))

    def _store(self, command: list[bytes]) -> Reply:
        self.stored.setdefault(command[1].decode(), []).append(command[-1])
        return b"1-1"

    @property
    def connection(self) -> Connection:
        return cast(Connection, self)


def fill(outbox: Outbox, lane: Lane, count: int, text: str = "") -> None:
    for _ in range(count):
        lane.sequence += 1
        message = alert(text) if lane.lossless else ticker()
        body = encode(message).replace(b"{", b'{"message_id":"%b%d",' % (lane.prefix.encode(), lane.sequence), 1)
        lane.fresh.append(lane.template % (len(body), body))
    outbox.add(lane.take_fresh())


def ids(server: FakeServer, stream: Stream) -> list[int]:
    return [int(decode(body).message_id.rpartition(":")[2]) for body in server.stored.get(stream.name, [])]


def errors_of(errors: list[BusError | None]) -> list[BusError]:
    return [error for error in errors if error is not None]


def test_the_template_is_a_valid_command_for_any_body() -> None:
    parser = hiredis.Reader()
    for stream in (TICKERS, SIGNALS, Stream("odd:100%d", TICKERS.stream_class, 7)):
        body = b'{"x": "100 %d %b \r\n"}'
        parser.feed(add_template(stream) % (len(body), body))
        bound = [b"MAXLEN", b"~", str(stream.max_entries).encode()] if stream.max_entries else []
        assert parser.gets() == [b"XADD", stream.name.encode(), *bound, b"*", b"d", body]


def test_a_write_has_at_most_so_many_entries() -> None:
    server, outbox = FakeServer(), MarketOutbox(10_000, 10**9, lambda _: None)
    fill(outbox, Lane(TICKERS, "p", "1"), 1000)
    outbox.pump(server.connection)
    assert [len(commands) for commands, _ in server.waiting] == [WRITE_ENTRIES] * 3 + [1000 - 3 * WRITE_ENTRIES]


def test_market_overflow_drops_the_oldest_and_a_gap_takes_its_place() -> None:
    server, outbox, lane = FakeServer(), MarketOutbox(100, 10**9, lambda _: None), Lane(TICKERS, "p", "1")
    for _ in range(30):
        fill(outbox, lane, 10)
    outbox.pump(server.connection)
    server.answer()
    first, *rest = [decode(body) for body in server.stored[TICKERS.name]]
    assert isinstance(first, Gap)
    assert (first.first_missing, first.last_missing, first.count) == (
        f"{lane.prefix}1",
        f"{lane.prefix}{lane.dropped}",
        lane.dropped,
    )
    assert first.message_id == first.last_missing
    assert ids(server, TICKERS) == list(range(lane.dropped, 301))
    assert len(rest) + lane.dropped == 300
    assert (outbox.entries, outbox.bytes, outbox.settled) == (0, 0, outbox.accepted)


def test_a_lane_that_lost_everything_it_had_still_tells_it() -> None:
    server, outbox = FakeServer(), MarketOutbox(10, 10**9, lambda _: None)
    lost, kept = Lane(TICKERS, "p", "1"), Lane(STREAMS.market("binance", "books"), "p", "1")
    fill(outbox, lost, 5)
    fill(outbox, kept, 9)
    outbox.pump(server.connection)
    while server.waiting:
        server.answer()
    [gap] = [decode(body) for body in server.stored[TICKERS.name]]
    assert isinstance(gap, Gap)
    assert gap.count == 5
    assert len(server.stored[kept.stream.name]) == 9
    assert (outbox.entries, outbox.bytes, outbox.settled) == (0, 0, outbox.accepted)


def test_bytes_bound_the_buffer_too() -> None:
    outbox, lane = MarketOutbox(10**6, 50_000, lambda _: None), Lane(TICKERS, "p", "1")
    for _ in range(1000):
        fill(outbox, lane, 1)
    assert outbox.bytes <= 50_000
    assert lane.dropped > 500


def test_lossless_goes_one_write_at_a_time_and_waits_for_its_answer() -> None:
    server, outbox = FakeServer(), LosslessOutbox(10_000, 10**9, lambda _: None)
    lane = Lane(SIGNALS, "p", "1")
    fill(outbox, lane, 600)
    outbox.pump(server.connection)
    outbox.pump(server.connection)
    assert len(server.waiting) == 1
    assert (server.waiting[0][0][0], server.waiting[0][0][-1]) == ([b"MULTI"], [b"EXEC"])


def test_a_refused_transaction_is_written_again_and_says_the_cause() -> None:
    errors: list[BusError | None] = []
    server, outbox = FakeServer(), LosslessOutbox(10_000, 10**9, errors.append)
    fill(outbox, Lane(SIGNALS, "p", "1"), 10)
    outbox.pump(server.connection)
    server.answer(refuse=1.0, choose=random.Random(1))
    assert isinstance(errors[-1], OutOfMemory)
    assert (outbox.entries, outbox.settled, outbox.retrying) == (10, 0, 10)
    outbox.pump(server.connection)
    server.answer()
    assert ids(server, SIGNALS) == list(range(1, 11))
    assert (outbox.entries, outbox.bytes, outbox.settled, outbox.retrying) == (0, 0, 10, 0)


@pytest.mark.parametrize("seed", range(20))
def test_lossless_order_survives_refusals_and_broken_connections(seed: int) -> None:
    """Whatever happens, the stream without its copies is 1, 2, 3 ... and nothing is missing."""
    choose = random.Random(seed)
    server, outbox, lane = FakeServer(), LosslessOutbox(10**6, 10**9, lambda _: None), Lane(SIGNALS, "p", "1")
    _run_chaos(choose, server, outbox, [lane])
    seen: list[int] = []
    for number in ids(server, SIGNALS):
        if number > (seen[-1] if seen else 0):
            seen.append(number)
    assert seen == list(range(1, lane.sequence + 1))


@pytest.mark.parametrize("seed", range(20))
def test_market_data_is_stored_or_told_whatever_happens(seed: int) -> None:
    choose = random.Random(seed)
    server = FakeServer()
    outbox = MarketOutbox(choose.choice([50, 10_000]), 10**9, lambda _: None)
    lanes = [Lane(TICKERS, "p", "1"), Lane(STREAMS.market("binance", "books"), "p", "1")]
    _run_chaos(choose, server, outbox, lanes)
    for lane in lanes:
        accounted: set[int] = set()
        for body in server.stored.get(lane.stream.name, []):
            message = decode(body)
            number = int(message.message_id.rpartition(":")[2])
            first = int(message.first_missing.rpartition(":")[2]) if isinstance(message, Gap) else number
            accounted.update(range(first, number + 1))
        assert accounted == set(range(1, lane.sequence + 1))


def _run_chaos(choose: random.Random, server: FakeServer, outbox: Outbox, lanes: list[Lane]) -> None:
    for _ in range(200):
        match choose.randrange(5):
            case 0 | 1:
                fill(outbox, choose.choice(lanes), choose.randrange(1, 40))
            case 2 if server.waiting:
                server.answer(refuse=choose.choice([0.0, 0.0, 0.3]), choose=choose)
            case 3 if choose.random() < 0.2:
                server.break_off()
            case _:
                outbox.pump(server.connection)
    for _ in range(2000):
        if not outbox.entries:
            break
        outbox.pump(server.connection)
        if server.waiting:
            server.answer()
    assert (outbox.entries, outbox.bytes, outbox.retrying) == (0, 0, 0)
    assert outbox.settled == outbox.accepted


def test_a_batch_is_cut_with_its_numbers() -> None:
    part = Batch(Lane(TICKERS, "p", "1"), 10, [b"a", b"b", b"c"]).part(1, 3)
    assert (part.first, part.last, part.chunks) == (11, 12, [b"b", b"c"])
