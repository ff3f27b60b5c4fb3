"""Names, classes and bounds of streams."""

from __future__ import annotations

import pytest

from bus.streams import StreamClass, Streams, dead_letters_beside, exchange_of


def test_names_are_those_of_the_design() -> None:
    streams = Streams("simulation")
    assert streams.market("binance", "trades").name == "simulation:events:{binance}:trades"
    assert streams.account("binance", "main", "orders").name == "simulation:events:{binance}:main:orders"
    assert streams.commands("binance", "main").name == "simulation:commands:{binance}:main"
    assert streams.signals.name == "simulation:signals"
    assert streams.dead_letters.name == "simulation:dead-letters"


def test_classes_decide_what_may_be_lost() -> None:
    streams = Streams("live", market_entries=500)
    assert streams.market("kraken", "tickers").stream_class is StreamClass.MARKET
    assert streams.market("kraken", "tickers").max_entries == 500
    assert streams.market("kraken", "trades").stream_class is StreamClass.TRADES
    assert streams.market("kraken", "trades").max_entries == 0
    for stream in (streams.commands("kraken", "main"), streams.account("kraken", "main", "fills"), streams.control):
        assert stream.stream_class is StreamClass.LOSSLESS
        assert stream.max_entries == 0


def test_every_stream_of_a_mode_has_its_own_name_and_label() -> None:
    streams = Streams("paper")
    everything = [*streams.shared, *streams.all_of("binance", "main"), *streams.all_of("kraken", "main")]
    assert len({stream.name for stream in everything}) == len(everything)
    assert len({stream.label for stream in everything}) == len(everything)
    assert not any(":" in stream.label for stream in everything)
    assert {stream.mode for stream in everything} == {"paper"}


def test_two_modes_share_no_stream() -> None:
    left, right = (Streams(mode) for mode in ("simulation", "live"))
    assert not {stream.name for stream in left.all_of("binance", "main")} & {
        stream.name for stream in right.all_of("binance", "main")
    }


def test_a_name_gives_back_its_exchange_and_its_dead_letters() -> None:
    streams = Streams("live")
    assert streams.account("luno", "main", "fills").exchange == "luno"
    assert streams.signals.exchange == ""
    assert exchange_of("live:events:{luno}:trades") == "luno"
    assert dead_letters_beside("live:events:{luno}:trades") == streams.dead_letters


@pytest.mark.parametrize("word", ["", "a:b", "{a}", "a b", "a*", "a\r\nFLUSHALL"])
def test_marks_and_commands_cannot_be_smuggled_into_a_name(word: str) -> None:
    streams = Streams("live")
    with pytest.raises(ValueError, match="not a name"):
        streams.market(word, "trades")
    with pytest.raises(ValueError, match="not a name"):
        streams.commands("luno", word)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="tickers"):
        Streams("live").market("luno", "ticker")
    with pytest.raises(ValueError, match="orders"):
        Streams("live").account("luno", "main", "order")
