"""The bot's end of a worker, with the test at the other end of the socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from bot.isolation.plugin_log import PluginLog
from bot.isolation.protocol import (
    Answer,
    Beat,
    Beaten,
    Done,
    Events,
    Facts,
    Failure,
    FrameReader,
    History,
    Load,
    Loaded,
    Refused,
    Request,
    Said,
    Save,
    Saved,
    Start,
    Started,
    decode_event,
    encode_event,
    pack,
    request_of,
)
from bot.isolation.source import PluginRefused, source_of
from bot.isolation.worker_link import Limits, Worker, WorkerGone
from common_models import Direction
from strategy.testing import MARKET, candles, tickers
from tests.support.waiting import eventually

SOURCE = source_of("folder/sample.py", b"code")
FACTS = Facts("sample", frozenset({"on_ticker"}))
(TICKER,) = tickers([100])
TICK = encode_event(TICKER)


@dataclass(slots=True)
class Peer:
    """The other end: reads requests, answers what the test wants, and notes how the worker was signalled."""

    socket: socket.socket
    worker: Worker
    signals: list[bool] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    reader: FrameReader = field(default_factory=lambda: FrameReader(2**31))
    done: list[Done] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    async def next(self) -> Request:
        loop = asyncio.get_running_loop()
        while not self.requests:
            data = await asyncio.wait_for(loop.sock_recv(self.socket, 65536), 5)
            self.requests += map(request_of, self.reader.feed(data))
        return self.requests.pop(0)

    async def say(self, *answers: Answer) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, b"".join(map(pack, answers)))

    async def ended(self) -> str:
        """Why the bot wants the worker killed; the process ends then."""
        await eventually(lambda: True in self.signals)
        self.worker.exited(9)
        (reason,) = self.gone
        return reason


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    pipe, end = os.pipe()
    os.set_blocking(pipe, False)
    signals: list[bool] = []
    limits = Limits(call_s=0.2, memory_mb=64, base_bytes=0, signals_per_s=10)
    log = PluginLog(pipe, None, SOURCE, 100, 1_000_000)
    worker = Worker(1, SOURCE, ours, log, limits, lambda number, *, kill: signals.append(kill))
    worker.pid = os.getpid()
    peer = Peer(theirs, worker, signals)
    worker.on_done = peer.done.append
    worker.on_gone = peer.gone.append
    starting = asyncio.create_task(worker.start(SOURCE, {}, [MARKET]))
    request = await peer.next()
    assert isinstance(request, Start)
    await peer.say(Started(request.seq, FACTS))
    await starting
    yield peer
    worker.exited(0)
    theirs.close()
    os.close(end)


def said(event: int = 0) -> Said:
    return Said(event, Direction.BUY, 1.0, 1.0, "")


async def test_events_are_answered_in_their_order(peer: Peer) -> None:
    peer.worker.send_events(5, [(TICK, True)])
    peer.worker.send_events(6, [(TICK, True), (TICK, False)])
    first, second = await peer.next(), await peer.next()
    assert isinstance(first, Events)
    assert isinstance(second, Events)
    assert (first.seq, second.seq, second.events) == (5, 6, [(TICK, True), (TICK, False)])
    assert peer.worker.outstanding == 2
    await peer.say(Done(5, [said()], [], 3000), Done(6, [], [Failure(1, "x")], 2000))
    await eventually(lambda: len(peer.done) == 2)

    stats = peer.worker.stats
    assert [done.seq for done in peer.done] == [5, 6]
    assert (stats.events, stats.signals, stats.errors, stats.call_p99_us) == (3, 1, 1, 3)
    assert peer.worker.outstanding == 0


@pytest.mark.parametrize(
    "answer",
    [
        Done(4, [], [], 1),
        Beaten(5, "x"),
        Saved(5, b"x"),
        Refused(5, "x"),
        Started(5, FACTS),
        Done(5, [said(1)], [], 1),
        Done(5, [said()] * 17, [], 1),
    ],
)
async def test_an_answer_that_is_none_ends_it(peer: Peer, answer: Answer) -> None:
    peer.worker.send_events(5, [(TICK, True)])
    await peer.say(answer)

    assert (await peer.ended()).startswith("said garbage: ")
    assert peer.done == []


async def test_a_signal_on_an_event_of_the_past_is_garbage(peer: Peer) -> None:
    peer.worker.send_events(5, [(TICK, False)])
    await peer.say(Done(5, [said()], [], 1))

    assert (await peer.ended()).startswith("said garbage: a signal on event 0")


async def test_speaking_unasked_ends_it(peer: Peer) -> None:
    await peer.say(Done(1, [], [], 1))

    assert await peer.ended() == "said garbage: Done 1, which was not asked for"


async def test_noise_ends_it(peer: Peer) -> None:
    peer.socket.send(b"\x03\x00\x00\x00abc")

    assert (await peer.ended()).startswith("said garbage: 3 bytes that are no answer")


async def test_what_it_asks_to_be_ended_for_ends_it(peer: Peer) -> None:
    peer.worker.send_events(5, [(TICK, True)])
    await peer.say(Done(5, [said()], [], 1, over="failed 5 times, last X"))

    assert await peer.ended() == "failed 5 times, last X"
    assert peer.done == []


async def test_more_signals_than_it_may_say_end_it(peer: Peer) -> None:
    for seq in range(10):
        peer.worker.send_events(seq, [(TICK, True)])
        await peer.say(Done(seq, [said()] * 16, [], 1))

    assert await peer.ended() == "too many signals: more than 10 a second"
    assert len(peer.done) == 3  # 5 seconds' worth


async def test_a_request_that_is_not_answered_in_time_ends_it_after_asking_where_it_is(peer: Peer) -> None:
    peer.worker.send_events(5, [(TICK, True)])
    for _ in range(4):
        peer.worker.look(0.1, thoroughly=True)

    assert peer.signals == [False]
    assert (await peer.ended()).startswith("hangs: on_ticker did not return for 0.")


async def test_one_that_does_not_read_is_ended_when_too_much_waits_for_it(peer: Peer) -> None:
    for seq in range(20):
        peer.worker.send_events(seq, [(TICK, True)] * 500)

    assert await peer.ended() == "does not keep up: more than 1024 KB of events wait for it"


async def test_who_waits_behind_what_is_not_sent_yet_hears_that_it_is_gone(peer: Peer) -> None:
    for seq in range(8):
        peer.worker.send_events(seq, [(TICK, True)] * 500)
    saving = asyncio.create_task(peer.worker.save())
    await asyncio.sleep(0)
    peer.worker.kill("enough")
    peer.worker.exited(9)

    with pytest.raises(WorkerGone, match="enough"):
        await saving


async def test_while_it_reads_the_past_more_may_wait(peer: Peer) -> None:
    peer.worker.send_history(MARKET, candles(range(100, 5100)), [])
    for seq in range(20):
        peer.worker.send_events(seq, [(TICK, True)] * 500)

    assert not peer.signals
    assert isinstance(await peer.next(), History)


async def test_what_does_not_fit_the_socket_is_sent_on_in_order(peer: Peer) -> None:
    for seq in range(8):
        peer.worker.send_events(seq, [(TICK, True)] * 500)

    assert [(await peer.next()).seq for _ in range(8)] == list(range(8))


async def test_the_past_is_read_in_parts_in_order_of_time_before_what_is_sent_later(peer: Peer) -> None:
    past = candles(range(100, 100 + 1200))
    late = tickers([1], start_ns=past[700].close_ns + 1)
    peer.worker.send_history(MARKET, past, late)
    peer.worker.send_events(9, [(TICK, True)])
    parts = [await peer.next() for _ in range(4)]

    histories = [part for part in parts if isinstance(part, History)]
    assert [(len(part.events), part.first) for part in histories] == [(500, True), (500, False), (201, False)]
    events = [decode_event(data) for part in histories for data in part.events]
    assert events == [*past[:701], *late, *past[701:]]
    assert isinstance(parts[3], Events)
    await peer.say(*(Done(part.seq, [], [], 1) for part in parts))
    await eventually(lambda: [done.seq for done in peer.done] == [9])


async def test_state_is_asked_for_and_handed_over(peer: Peer) -> None:
    saving = asyncio.create_task(peer.worker.save())
    request = await peer.next()
    assert isinstance(request, Save)
    await peer.say(Saved(request.seq, b"s" * 1_000_000))
    assert await saving == b"s" * 1_000_000

    loading = asyncio.create_task(peer.worker.load(b"state"))
    load = await peer.next()
    assert isinstance(load, Load)
    assert load.states == b"state"
    await peer.say(Loaded(load.seq, "ValueError: too old"))
    with pytest.raises(PluginRefused, match="too old"):
        await loading


async def test_only_a_state_may_be_long(peer: Peer) -> None:
    peer.worker.send_events(5, [(TICK, True)] * 5000)
    await peer.say(Done(5, [Said(at, Direction.BUY, 1.0, 1.0, "x" * 400) for at in range(1000)], [], 1))

    assert "more than 262144" in await peer.ended()


async def test_the_heartbeat_is_asked_for_when_nothing_else_is(peer: Peer) -> None:
    peer.worker.beat()
    peer.worker.beat()
    request = await peer.next()
    assert isinstance(request, Beat)
    await peer.say(Beaten(request.seq, "fine"))
    await eventually(lambda: peer.worker.stats.heartbeat == "fine")

    assert peer.worker.outstanding == 0


async def test_who_waits_for_an_answer_hears_that_it_is_gone(peer: Peer) -> None:
    saving = asyncio.create_task(peer.worker.save())
    await peer.next()
    peer.worker.exited(3 << 8)

    with pytest.raises(WorkerGone, match="ended itself with exit code 3"):
        await saving
    with pytest.raises(WorkerGone):
        await peer.worker.load(b"")
    assert peer.gone == ["ended itself with exit code 3 (os._exit?)"]
    peer.worker.send_events(1, [(TICK, True)])  # says nothing and does nothing
    assert peer.worker.outstanding == 0


async def test_what_it_said_before_it_ended_is_heard_though_its_end_was_told_first(peer: Peer) -> None:
    saving = asyncio.create_task(peer.worker.save())
    request = await peer.next()
    peer.socket.send(pack(Saved(request.seq, b"", "no luck")))
    peer.worker.exited(0)  # in the same turn of the loop

    with pytest.raises(PluginRefused, match="no luck"):
        await saving


async def test_a_connection_that_is_closed_ends_it(peer: Peer) -> None:
    peer.socket.shutdown(socket.SHUT_RDWR)

    assert await peer.ended() == "closed its connection to the bot"


async def test_who_asks_late_is_told_that_it_is_gone(peer: Peer) -> None:
    peer.worker.exited(11)
    heard: list[str] = []
    peer.worker.on_gone = heard.append

    assert await eventually(lambda: heard) == ["killed by signal SIGSEGV"]


async def test_a_fault_of_ours_with_an_answer_does_not_lose_the_next(peer: Peer) -> None:
    seen: list[int] = []

    def fail_first(done: Done) -> None:
        seen.append(done.seq)
        if done.seq == 1:
            raise RuntimeError("ours")

    peer.worker.on_done = fail_first
    peer.worker.send_events(1, [(TICK, True)])
    peer.worker.send_events(2, [(TICK, True)])
    await peer.say(Done(1, [], [], 1), Done(2, [], [], 1))

    await eventually(lambda: seen == [1, 2])
