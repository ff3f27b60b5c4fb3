from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common_models import Instrument, InstrumentStatus, Side, Symbol, SymbolError
from common_models.instruments import same_rules, steps


@pytest.mark.parametrize("text", ["BTC/USDT", "BTC-USDT", "btc_usdt", " btc-usdt "])
def test_every_spelling_is_the_same_symbol(text: str) -> None:
    assert str(Symbol.parse(text)) == "BTC/USDT"


def test_a_perpetual_names_its_settlement() -> None:
    assert str(Symbol.parse("BTC/USDT:USDT")) == "BTC/USDT:USDT"
    assert Symbol.parse("BTC/USDT:USDT").dashed == "BTC-USDT-USDT"


@pytest.mark.parametrize("text", ["", "BTCUSDT", "BTC/", "/USDT", "A/B/C"])
def test_text_that_is_no_symbol_is_refused(text: str) -> None:
    with pytest.raises(SymbolError):
        Symbol.parse(text)


def btc(**changes: object) -> Instrument:
    return Instrument(
        **{
            "exchange": "binance", "symbol": "BTC/USDT", "ts_event_ns": None, "ts_recv_ns": 1, "native_symbol": "BTCUSDT", "base": "BTC",
            "quote": "USDT", "status": InstrumentStatus.TRADING, "price_tick": Decimal("0.01"), "quantity_step": Decimal("0.00001"),
            "min_quantity": Decimal("0.00001"),
        } | changes
    )  # fmt: skip


@given(
    st.decimals(min_value=Decimal("0.0000001"), max_value=10**6, places=9), st.sampled_from(["0.01", "0.5", "0.00001", "1", "10"])
)
def test_a_rounded_quantity_is_a_multiple_and_never_more(quantity: Decimal, step: str) -> None:
    rounded = btc(quantity_step=Decimal(step)).quantity_down(quantity)
    assert rounded <= quantity
    assert quantity - rounded < Decimal(step)
    assert rounded % Decimal(step) == 0


def test_a_limit_price_is_rounded_away_from_the_market() -> None:
    assert btc().passive_price(Decimal("100.019"), Side.BUY) == Decimal("100.01")
    assert btc().passive_price(Decimal("100.011"), Side.SELL) == Decimal("100.02")


def test_no_step_leaves_the_value() -> None:
    assert steps(Decimal("1.234"), Decimal(0), "ROUND_FLOOR") == Decimal("1.234")


def test_rules_are_compared_without_identity_and_times() -> None:
    assert same_rules(btc(), btc(message_id="a:b:1", ts_recv_ns=99))
    assert not same_rules(btc(), btc(price_tick=Decimal("0.1")))
