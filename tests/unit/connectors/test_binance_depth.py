from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common_models import Gap, OrderBook
from connectors.exchanges.binance.depth import DepthChannel
from connectors.exchanges.binance.wire import DepthSnapshot
from tests.support.market import RECV_NS, T0_MS, Published, combined, depth, snapshot


def synced(published: Published, last_id: int = 100) -> DepthChannel:
    channel = published.decoder("@depth@100ms").channels["btcusdt@depth@100ms"]
    assert isinstance(channel, DepthChannel)
    assert channel.on_snapshot(snapshot(last_id, [["10.0", "1"], ["9.5", "2"]], [["10.5", "3"]]), RECV_NS)
    return channel


def test_updates_wait_for_a_snapshot_that_bridges_to_them() -> None:
    published = Published()
    channel = published.decoder("@depth@100ms").channels["btcusdt@depth@100ms"]
    assert isinstance(channel, DepthChannel)
    channel.on_frame(depth(105, 107, [["10.1", "5"]], []), RECV_NS)
    assert not published.events
    assert not channel.on_snapshot(snapshot(103, [], []), RECV_NS), "older than the first buffered update: ask again"
    assert channel.on_snapshot(snapshot(106, [["10.0", "1"]], [["10.5", "3"]]), RECV_NS)
    (book,) = published.of(OrderBook)
    assert book.valid
    assert book.bids == ((Decimal("10.1"), Decimal(5)), (Decimal(10), Decimal(1)))


def test_buffered_updates_that_the_snapshot_contains_are_dropped() -> None:
    published = Published()
    channel = published.decoder("@depth@100ms").channels["btcusdt@depth@100ms"]
    assert isinstance(channel, DepthChannel)
    channel.on_frame(depth(90, 95, [["10.0", "99"]], []), RECV_NS)
    assert channel.on_snapshot(snapshot(100, [["10.0", "1"]], []), RECV_NS)
    assert published.of(OrderBook)[-1].bids == ((Decimal(10), Decimal(1)),)


def test_every_update_is_one_full_snapshot_of_the_best_levels() -> None:
    published = Published()
    channel = synced(published)
    channel.on_frame(depth(101, 101, [["9.5", "0"], ["9.9", "4"]], [["10.4", "1"], ["10.5", "0"]]), RECV_NS)
    book = published.of(OrderBook)[-1]
    assert book.bids == ((Decimal(10), Decimal(1)), (Decimal("9.9"), Decimal(4)))
    assert book.asks == ((Decimal("10.4"), Decimal(1)),)
    assert (book.sequence, book.valid, book.crossed) == (101, True, False)


def test_a_missing_update_makes_the_book_invalid_before_anything_else_is_said() -> None:
    published = Published()
    channel = synced(published)
    channel.on_frame(depth(103, 104, [["11", "1"]], []), RECV_NS)
    book, gap = published.events[-2:]
    assert isinstance(book, OrderBook)
    assert not book.valid
    assert not book.bids
    assert isinstance(gap, Gap)
    assert (gap.first_missing, gap.last_missing) == ("101", "102")
    assert [hole.reason for _, hole in published.holes] == ["missed book updates"]
    channel.on_frame(depth(105, 105, [], []), RECV_NS)
    assert published.events[-1] is gap, "nothing is published until a snapshot bridges"
    assert channel.on_snapshot(snapshot(104, [["11", "1"]], [["12", "1"]]), RECV_NS)
    assert published.of(OrderBook)[-1].valid


@pytest.mark.parametrize("bad", ["", "x", "1e5", "-1", "1_0", "1.2.3", "."])
def test_a_malformed_level_makes_the_book_invalid(bad: str) -> None:
    published = Published()
    decoder = published.decoder("@depth@100ms")
    channel = decoder.channels["btcusdt@depth@100ms"]
    assert isinstance(channel, DepthChannel)
    channel.on_snapshot(snapshot(100, [["10.0", "1"]], []), RECV_NS)
    decoder.on_frame(depth(101, 101, [["10.0", "2"]], [[bad, "1"]]), RECV_NS)
    assert not published.of(OrderBook)[-1].valid
    assert decoder.rejected.total() == 1


def test_a_lost_socket_makes_the_book_invalid() -> None:
    published = Published()
    channel = synced(published)
    channel.disconnected(RECV_NS, "connection lost")
    assert not published.of(OrderBook)[-1].valid
    assert published.of(Gap)[-1].reason == "connection lost"


def test_updates_from_before_the_snapshot_are_late_and_not_wrong() -> None:
    published = Published()
    channel = synced(published, last_id=100)
    channel.on_frame(depth(98, 99, [["9.8", "1"]], []), RECV_NS)
    assert channel.live
    assert channel.duplicates == 1


def test_an_old_number_in_a_new_message_makes_the_book_invalid() -> None:
    published = Published()
    channel = synced(published, last_id=100)
    channel.on_frame(depth(101, 101, [["9.8", "1"]], []), RECV_NS)
    channel.on_frame(depth(90, 91, [], []).replace(b"%d" % T0_MS, b"%d" % (T0_MS + 5_000)), RECV_NS)
    assert not published.of(OrderBook)[-1].valid
    assert published.of(Gap)[-1].reason == "update numbers ran backwards"


def test_updates_that_two_sockets_deliver_are_applied_once() -> None:
    published = Published()
    channel = synced(published)
    for _ in range(2):
        channel.on_frame(depth(101, 102, [["9.8", "1"]], []), RECV_NS)
    assert channel.duplicates == 1
    assert channel.live


def test_a_crossed_book_is_published_and_flagged() -> None:
    published = Published()
    channel = synced(published)
    channel.on_frame(depth(101, 101, [["10.6", "1"]], []), RECV_NS)
    assert published.of(OrderBook)[-1].crossed


def test_a_hostile_number_of_levels_does_not_grow_the_book_without_end() -> None:
    published = Published()
    channel = synced(published)
    for start in range(0, 20_000, 2_000):
        levels = [[f"{1 + index / 100_000:.5f}", "1"] for index in range(start, start + 2_000)]
        channel.on_frame(depth(channel.book.sequence + 1, channel.book.sequence + 1, levels, []), RECV_NS)
    assert len(channel.book.bids) <= 10_000


def test_partial_depth_is_a_book_by_itself() -> None:
    published = Published()
    decoder = published.decoder("@depth5@100ms")
    decoder.on_frame(combined("btcusdt@depth5@100ms", {"lastUpdateId": 7, "bids": [["1.0", "2"]], "asks": [["1.1", "3"]]}), RECV_NS)
    (book,) = published.of(OrderBook)
    assert (book.sequence, book.valid, book.bids) == (7, True, ((Decimal(1), Decimal(2)),))


prices = st.integers(1, 60).map(lambda ticks: f"{ticks / 4:.2f}")
sizes = st.sampled_from(["0", "0.00000000", "1", "2.5"])
levels = st.lists(st.tuples(prices, sizes), max_size=6)


@given(st.lists(st.tuples(levels, levels), max_size=12))
def test_the_published_book_is_always_the_top_of_the_plain_model(
    updates: list[tuple[list[tuple[str, str]], list[tuple[str, str]]]],
) -> None:
    published = Published()
    channel = published.decoder("@depth@100ms", depth=4).channels["btcusdt@depth@100ms"]
    assert isinstance(channel, DepthChannel)
    channel.on_snapshot(DepthSnapshot(0, [], []), RECV_NS)
    model: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
    for number, sides in enumerate(updates, start=1):
        channel.on_frame(depth(number, number, *([list(level) for level in side] for side in sides)), RECV_NS)
        for side, changes in zip(model, sides, strict=True):
            for price, size in changes:
                side[Decimal(price)] = Decimal(size)
        bids, asks = ({price: size for price, size in side.items() if size} for side in model)
        book = published.of(OrderBook)[-1]
        assert book.bids == tuple(sorted(bids.items(), reverse=True)[:4])
        assert book.asks == tuple(sorted(asks.items())[:4])
        assert book.crossed == (bool(bids and asks) and max(bids) >= min(asks))
