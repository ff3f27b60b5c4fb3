"""Which books and tickers are stored when not each of them is."""

from __future__ import annotations

from common_models import OrderBook, Ticker
from postgres.thinning import Thinner
from tests.unit.postgres.samples import NOW_NS, book, ticker, trade

SECOND = 1_000_000_000


def at(seconds: float) -> int:
    return NOW_NS + round(seconds * SECOND)


def test_one_book_per_symbol_and_interval_is_kept() -> None:
    thinner = Thinner({OrderBook: 1.0})
    btc = [book(n, ts_recv_ns=at(n * 0.25)) for n in range(8)]
    eth = [book(n, symbol="ETH/USDT", ts_recv_ns=at(n * 0.5)) for n in range(4)]

    kept, _ = thinner.choose([*btc, *eth])

    assert kept == [btc[0], btc[4], eth[0], eth[2]]


def test_zero_keeps_each_and_other_kinds_are_never_thinned() -> None:
    messages = [ticker(1), ticker(2), trade(1), trade(2), book(1)]
    kept, _ = Thinner({OrderBook: 1.0, Ticker: 0.0}).choose(messages)
    assert kept == messages


def test_a_batch_that_was_not_stored_is_chosen_from_again_with_the_same_result() -> None:
    thinner = Thinner({OrderBook: 1.0})
    batch = [book(n, ts_recv_ns=at(n * 0.4)) for n in range(6)]

    first, _ = thinner.choose(batch)
    again, slots = thinner.choose(batch)
    thinner.accept(slots, len(batch) - len(again))

    assert first == again
    assert thinner.thinned == len(batch) - len(first)
    assert thinner.choose([book(9, ts_recv_ns=at(2.2))])[0] == []


def test_an_invalid_book_and_the_first_valid_one_after_it_are_kept() -> None:
    thinner = Thinner({OrderBook: 10.0})
    batch = [
        book(1),
        book(2),
        book(3, valid=False, bids=(), asks=()),
        book(4),
        book(5),
    ]
    kept, _ = thinner.choose(batch)
    assert [one.sequence for one in kept] == [1, 3, 4]
