"""A venue's REST server gone mad, and rubbish on the bus: clear errors, bounded time and memory, and what is good goes on."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import pytest

from connectors.errors import AnswerLost, BadResponse, ExchangeError, OrderOutcomeUnknown, TransientError
from connectors.exchanges.binance.account import BinanceAccount
from connectors.exchanges.binance.channels import AggTradeChannel, CandleChannel, Channel, TradeChannel
from connectors.exchanges.binance.error_codes import read_error
from connectors.exchanges.binance.history import MarketHistory
from connectors.exchanges.binance.instruments import instrument
from connectors.exchanges.binance.signing import BinanceSigner
from connectors.journal_records import WireRequest
from connectors.rate_budget import RateBudget
from connectors.rest import MAX_BODY_BYTES, RestClient
from connectors.venue_clock import VenueClock
from tests.support.market import Published
from tests.unit.connectors.test_rest import Reader, Writer, raw_server

TIMEOUT_S = 0.5
MB = 1 << 20
Handler = Callable[[Reader, Writer], Awaitable[None]]


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> Handler:
    """A server that answers every request with the same bytes, whatever `length` says."""
    fields = [f"Content-Length: {len(body) if length is None else length}", "Connection: close", *headers]
    head = "\r\n".join([f"HTTP/1.1 {status}", *fields]).encode() + b"\r\n\r\n"

    async def handle(reader: Reader, writer: Writer) -> None:
        while (await reader.readline()).strip():
            pass
        writer.write(head + body)
        await writer.drain()

    return handle


async def drip(reader: Reader, writer: Writer) -> None:
    """One byte at a time, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(TIMEOUT_S / 10)


async def drip_headers(reader: Reader, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X")
        await writer.drain()
        await asyncio.sleep(TIMEOUT_S / 10)


async def endless(reader: Reader, writer: Writer) -> None:
    """A chunked body without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"[" * 65_536 + b"\r\n")
        await writer.drain()


ROW = b'{"symbol":"BTCUSDT","orderId":1,"id":1,"price":%s,"qty":"1","time":1760000000300,"isBuyerMaker":true}'
HOSTILE: dict[str, Handler] = {
    "html": answer(b"<html><body>502 Bad Gateway</body></html>", "Content-Type: text/html"),
    "html error": answer(b"<html>", status="502 Bad Gateway"),
    "empty": answer(b""),
    "truncated JSON": answer(b'[{"id": 1, "price": "1'),
    "shorter than it says": answer(b"[]", length=1000),
    "40 MB": answer(b" " * (40 * MB)),
    "gzip bomb": answer(gzip.compress(b" " * (200 * MB), 1), "Content-Encoding: gzip"),
    "broken gzip": answer(b"\x1f\x8b rubbish", "Content-Encoding: gzip"),
    "unknown encoding": answer(b"{}", "Content-Encoding: zip9"),
    "drip": drip,
    "dripping headers": drip_headers,
    "endless": endless,
    "huge header": answer(b"{}", "X-Long: " + "x" * MB),
    "not HTTP": answer(b"", status="900 \x00\xff"),
    "deep": answer(b"[" * 5_000_000),
    "deep objects": answer(b'{"a":' * 100_000),
    "wrong types": answer(b'{"symbols": 5, "bids": "x", "serverTime": "now", "balances": {}}'),
    "wrong rows": answer(b"[[], {}, null, 1]"),
    "NaN": answer(b"NaN"),
    "row with NaN": answer(b"[" + ROW % b"NaN" + b"]"),
    "row with 1e9999999": answer(b"[" + ROW % b'"1e9999999"' + b"]"),
    "number of a million digits": answer(b"9" * 1_000_000),
    "1e9999999": answer(b"1e9999999"),
    "not UTF-8": answer(b'{"serverTime": 1, "\xff": 1}'),
    "error with huge numbers": answer(b'{"code":-1003,"msg":"x","data":{"retryAfter":' + b"9" * 400 + b"}}", status="400 Bad"),
    "redirect": answer(b"", "Location: http://127.0.0.1:1/api", status="307 Temporary Redirect"),
}


def channel(kind: type[Channel], *more: str) -> Any:
    published = Published()
    stream: Any = None
    return kind("BTC/USDT", "BTCUSDT", stream, published.put, published.on_hole, *more)


def questions(rest: RestClient, account: BinanceAccount) -> dict[str, Coroutine[Any, Any, Any]]:
    """All that is asked of the venue by REST, in both packages' words."""
    history = MarketHistory(rest)

    async def instruments() -> list[Any]:
        return [instrument("binance", market, 0) for market in (await history.exchange_info(["BTCUSDT"])).symbols]

    return {
        "instruments": instruments(),
        "depth": history.depth("BTCUSDT"),
        "trades": history.trades(channel(TradeChannel), 1, 5),
        "aggregates": history.aggregate_trades(channel(AggTradeChannel), 1, 5),
        "candles": history.candles(channel(CandleChannel, "1m")),
        "moved on": history.moved_on(channel(TradeChannel)),
        "clock": account.measure_clock(),
        "order": account.order("BTC/USDT", client_order_id="x"),
        "open orders": account.open_orders(),
        "fills": account.fills("BTC/USDT", exchange_order_id="1"),
        "balances": account.balances(),
    }


def rest_client(port: int, budget: RateBudget) -> tuple[RestClient, BinanceAccount]:
    clock = VenueClock()
    signer = BinanceSigner("key", "secret", clock, 5000)
    rest = RestClient(f"http://127.0.0.1:{port}", budget, read_error=read_error, signer=signer, timeout_s=TIMEOUT_S)
    return rest, BinanceAccount(rest, "ws://127.0.0.1:1", budget, signer, clock, dict)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_body_is_a_typed_error_for_every_question(name: str) -> None:
    """The feed catches ExchangeError and ValueError at each of its own questions, the account ExchangeError alone."""
    began_s, budget = time.monotonic(), RateBudget(1_000_000)
    async with raw_server(HOSTILE[name]) as port:
        rest, account = rest_client(port, budget)
        async with rest:
            asked = questions(rest, account)
            outcomes = await asyncio.gather(*asked.values(), return_exceptions=True)
    for question, outcome in zip(asked, outcomes, strict=True):
        if question == "moved on" and name == "row with 1e9999999":
            assert outcome is True  # it looks at the number of the trade alone
            continue
        of_feed = question in ("instruments", "trades", "aggregates", "candles")
        assert isinstance(outcome, TransientError | ValueError if of_feed else TransientError), (question, outcome)
    assert rest.failures or name.startswith("row with")
    assert time.monotonic() - began_s < 10


@pytest.mark.parametrize("name", ["40 MB", "gzip bomb", "endless"])
async def test_a_body_without_measure_costs_no_more_memory_than_its_bound(name: str) -> None:
    async with raw_server(HOSTILE[name]) as port:
        rest, _ = rest_client(port, RateBudget(6000))
        async with rest:
            tracemalloc.start()
            try:
                with pytest.raises(BadResponse, match="larger"):
                    await MarketHistory(rest).depth("BTCUSDT")
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert peak_bytes < MAX_BODY_BYTES + 96 * MB  # the server is in here, too, and copies the 40 MB that it sends


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_answer_to_an_order_leaves_its_outcome_unknown(name: str) -> None:
    request = WireRequest(method="order.place", params={"symbol": "BTCUSDT", "newClientOrderId": "x"}, orders=1)
    async with raw_server(HOSTILE[name]) as port:
        rest, account = rest_client(port, RateBudget(6000))
        async with rest:
            with pytest.raises(ExchangeError) as failed:
                await account.send_second_way(request, 1_760_000_000_000, lambda: None)
    expected = TransientError if name == "error with huge numbers" else OrderOutcomeUnknown  # -1003 is a refusal at the door
    assert isinstance(failed.value, expected)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_redirect_never_carries_the_key_to_another_host(status: int, method: str) -> None:
    visits: list[bytes] = []

    async def trap(reader: Reader, writer: Writer) -> None:
        visits.append(await reader.read(1000))

    async with raw_server(trap) as elsewhere:
        away = answer(b"", f"Location: http://127.0.0.1:{elsewhere}/api/v3/order", status=f"{status} Moved")
        async with raw_server(away) as port:
            rest, account = rest_client(port, RateBudget(6000))
            async with rest:
                wire = {"GET": "", "POST": "order.place", "DELETE": "order.cancel"}[method]
                request = WireRequest(method=wire, params={})
                work: Any = account.send_second_way(request, 1_760_000_000_000, lambda: None) if wire else account.balances()
                with pytest.raises(OrderOutcomeUnknown if wire else AnswerLost):
                    await work
    assert not visits


async def test_the_next_good_answer_is_taken() -> None:
    """One client, first rubbish, then sense."""
    bodies = [b"<html>", b"[" * 100_000, b'{"serverTime": 1760000000300}']

    async def handle(reader: Reader, writer: Writer) -> None:
        await answer(bodies[0] if len(bodies) == 1 else bodies.pop(0))(reader, writer)

    async with raw_server(handle) as port:
        rest, account = rest_client(port, RateBudget(6000))
        async with rest:
            await account.measure_clock()  # asks three times, and one answer is enough
    assert abs(account.clock.now_ns() - 1_760_000_000_300_000_000) < 5_000_000_000
    assert msgspec.json.decode(bodies[0])
