"""Signatures and parameters, against Binance's own published example."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from simulator.accounts import Credential, Keyring
from simulator.venues.binance.errors import ApiError
from simulator.venues.binance.params import Params
from simulator.venues.binance.signing import check_signature, known_key, sorted_text, unsigned_text, window_of

EXAMPLE = Credential("key", "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j", "someone")
PAYLOAD = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
SIGNATURE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"


def code_of(error: pytest.ExceptionInfo[ApiError]) -> int:
    return error.value.code


def test_the_documented_example_verifies_in_either_case_and_nothing_else_does() -> None:
    check_signature(EXAMPLE, PAYLOAD, SIGNATURE)
    check_signature(EXAMPLE, PAYLOAD, SIGNATURE.upper())
    for payload, signature in ((PAYLOAD + "0", SIGNATURE), (PAYLOAD, SIGNATURE[:-1] + "2"), (PAYLOAD, "ä" * 64)):
        with pytest.raises(ApiError) as caught:
            check_signature(EXAMPLE, payload, signature)
        assert code_of(caught) == -1022


@pytest.mark.parametrize(
    ("query", "body"),
    [
        (f"{PAYLOAD}&signature={SIGNATURE}", ""),
        ("", f"{PAYLOAD}&signature={SIGNATURE}"),
        (PAYLOAD[:20], f"{PAYLOAD[20:]}&signature={SIGNATURE}"),
        (f"signature={SIGNATURE}&{PAYLOAD}", ""),
    ],
)
def test_the_signature_covers_query_and_body_without_itself(query: str, body: str) -> None:
    payload, signature = unsigned_text(query, body)
    assert (payload.lstrip("&"), signature) == (PAYLOAD, SIGNATURE)


def test_the_websocket_api_signs_its_parameters_in_the_order_of_their_names() -> None:
    assert (
        sorted_text({"symbol": "BTCUSDT", "apiKey": "k", "timestamp": "1", "signature": "x"})
        == "apiKey=k&symbol=BTCUSDT&timestamp=1"
    )


def test_keys_are_malformed_unknown_or_not_allowed_to_trade() -> None:
    keyring = Keyring()
    keyring.add(Credential("reader", "s", "a", may_trade=False))
    assert known_key(keyring, "reader", trade=False).account == "a"
    for key, trade, code in ((None, False, -2014), ("a b", False, -2014), ("other", False, -2015), ("reader", True, -2015)):
        with pytest.raises(ApiError) as caught:
            known_key(keyring, key, trade=trade)
        assert (code_of(caught), caught.value.status) == (code, 401)


def test_a_request_is_fresh_within_its_window_only() -> None:
    now_ms = int(time.time() * 1000)
    window_of(Params({"timestamp": str(now_ms)})).check()
    window_of(Params({"timestamp": str(now_ms * 1000)})).check()  # microseconds
    window_of(Params({"timestamp": str(now_ms + 800)})).check()
    for values in (
        {"timestamp": str(now_ms - 6000)},
        {"timestamp": str(now_ms - 300), "recvWindow": "200.5"},
        {"timestamp": str(now_ms + 2000), "recvWindow": "60000"},
    ):
        with pytest.raises(ApiError) as caught:
            window_of(Params(values)).check()
        assert code_of(caught) == -1021


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("1e3", -1100),
        ("-1", -1100),
        ("", -1105),
        (" ", -1105),
        ("1.", -1100),
        ("٣", -1100),
        ("0", -1102),
        ("0.000000001", -1111),
        ("1" * 21, -1100),
        ("1" * 13, -1108),
        ("NaN", -1100),
    ],
)
def test_numbers_are_plain_and_bounded(text: str, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        Params({"price": text}).decimal("price")
    assert code_of(caught) == code


def test_a_number_keeps_its_digits() -> None:
    assert Params({"price": "0061737.63000000"}).decimal("price") == Decimal("61737.63")
    assert Params({}).decimal("price") is None
