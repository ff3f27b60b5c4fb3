"""100,000 mutated real frames: no crash, no frame that costs 50 ms of CPU, and no wrong book that is marked valid."""

from __future__ import annotations

import gzip
import json
import random
import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus.streams import Stream, Streams
from common_models import Message, OrderBook
from connectors.exchanges.binance.decoder import Decoder
from connectors.exchanges.binance.depth import DepthChannel
from connectors.exchanges.binance.symbols import split_native
from connectors.exchanges.binance.wire import DepthSnapshot
from tests.support.mutations import mutate

pytestmark = pytest.mark.recorded

SEED = 20_261_121
FRAMES = 100_000
LEVELS = 30
MAX_CPU_S = 0.050
RECV_NS = 1_700_000_000_000_000_000
NUMBER = re.compile(r"(?=.*[0-9])[0-9]{0,18}(\.[0-9]{0,18})?", re.ASCII)


class PlainBook:
    """The slow, obvious order book: what frames say, and nothing else."""

    def __init__(self, sides: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]], sequence: int) -> None:
        self.sides = sides
        self.sequence = sequence

    @classmethod
    def of(cls, snapshot: DepthSnapshot) -> PlainBook:
        bids, asks = ({Decimal(price): Decimal(size) for price, size in side} for side in (snapshot.bids, snapshot.asks))
        return cls((bids, asks), snapshot.lastUpdateId)

    def copy(self) -> PlainBook:
        return PlainBook((dict(self.sides[0]), dict(self.sides[1])), self.sequence)

    def apply(self, update: dict[str, Any]) -> None:
        for side, levels in zip(self.sides, (update["b"], update["a"]), strict=True):
            for price, size in levels:
                assert NUMBER.fullmatch(price), price
                assert NUMBER.fullmatch(size), size
                side[Decimal(price)] = Decimal(size)
                if not Decimal(size):
                    del side[Decimal(price)]
        self.sequence = update["u"]

    def trim(self) -> None:
        """Keep few levels, so that copies and comparisons stay cheap: neither side of the comparison knows of the rest."""
        bids, asks = self.sides
        self.sides = (dict(sorted(bids.items(), reverse=True)[:LEVELS]), dict(sorted(asks.items())[:LEVELS]))

    def snapshot(self) -> DepthSnapshot:
        bids, asks = ([(format(price, "f"), format(size, "f")) for price, size in side.items()] for side in self.sides)
        return DepthSnapshot(self.sequence, bids, asks)

    def top(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        return sorted(self.sides[0].items(), reverse=True)[:20], sorted(self.sides[1].items())[:20]


class Fuzz:
    """One pass over the recording: a venue that holds the true books, a decoder that is fed broken frames, and a judge between them."""

    def __init__(self, recording: list[tuple[str, bytes]]) -> None:
        self.books: list[OrderBook[Any]] = []
        self.decoder = Decoder(Streams("fuzz"), self.put, lambda *_: None, lambda *_: None, 20)
        self.venue: dict[str, PlainBook] = {}  # what the unbroken frames say
        self.told: dict[str, PlainBook] = {}  # what the frames say that were accepted
        self.checked = 0
        self.slowest_s = 0.0
        for url, raw in recording:
            if url.startswith("http"):
                native = url.split("symbol=")[1].split("&")[0]
                self.venue[native] = PlainBook.of(msgspec.json.decode(raw, type=DepthSnapshot))
                self.decoder.subscribe(split_native(native), native, ["@bookTicker", "@aggTrade", "@depth@100ms"])

    def put(self, stream: Stream, message: Message) -> None:
        if isinstance(message, OrderBook):
            self.books.append(message)

    def feed(self, frame: bytes, unbroken: bytes) -> None:
        self.books.clear()
        before_s = time.thread_time()
        self.decoder.on_frame(frame, RECV_NS)
        self.slowest_s = max(self.slowest_s, time.thread_time() - before_s)
        for book in self.books:
            if book.valid:
                self.judge(book, frame)
        if b"@depth" in unbroken[:60]:
            update = json.loads(unbroken)["data"]
            book = self.venue[update["s"]]
            if update["u"] > book.sequence:
                book.apply(update)
        self.resync()

    def judge(self, book: OrderBook[Any], frame: bytes) -> None:
        model = self.told[book.symbol]
        model.apply(json.loads(frame.decode("utf-8", "replace"))["data"])
        sides = msgspec.convert([msgspec.json.decode(side) for side in (book.bids, book.asks)], list[list[tuple[Decimal, Decimal]]])
        assert tuple(sides) == model.top(), f"seed {SEED}: {frame[:300]!r}"
        self.checked += 1

    def resync(self) -> None:
        """What the connector does: a book that is not live gets the venue's snapshot."""
        for channel in self.decoder.channels.values():
            if isinstance(channel, DepthChannel) and not channel.live:
                self.venue[channel.native].trim()
                channel._buffer.clear()  # the venue's snapshot is newer than whatever was buffered
                assert channel.on_snapshot(self.venue[channel.native].snapshot(), RECV_NS)
                self.told[channel.symbol] = self.venue[channel.native].copy()


def test_no_broken_frame_crashes_stalls_or_spoils_a_book(recorded_dir: Path) -> None:
    with gzip.open(recorded_dir / "binance_spot/cryptofeed_2021-04-05_2min.jsonl.gz", "rt") as file:
        recording = [(line["conn"], line["raw"].encode()) for line in map(json.loads, file)]
    rng = random.Random(SEED)
    broken = checked = rejected = 0
    slowest_s = 0.0
    while broken < FRAMES:
        fuzz = Fuzz(recording)
        fuzz.resync()
        for url, raw in recording:
            if url.startswith("http"):
                continue
            breaks = rng.random() < 0.8
            broken += breaks
            fuzz.feed(mutate(raw, rng) if breaks else raw, raw)
        checked += fuzz.checked
        rejected += fuzz.decoder.rejected.total()
        slowest_s = max(slowest_s, fuzz.slowest_s)
    assert slowest_s < MAX_CPU_S, f"{slowest_s * 1000:.1f} ms of CPU for one frame"
    assert rejected > FRAMES / 2
    assert checked > FRAMES / 20
