"""Signed requests are sent once, whatever the library would like; bodies and waits are bounded; errors say what the caller may do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from connectors.errors import AnswerLost, BadResponse, ExchangeError, NotSent, OrderOutcomeUnknown, OrderRejected, RateLimited
from connectors.exchanges.binance.error_codes import read_error
from connectors.exchanges.binance.signing import BinanceSigner
from connectors.rate_budget import Lane, RateBudget
from connectors.rest import RestClient
from connectors.venue_clock import VenueClock

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


@contextlib.asynccontextmanager
async def raw_server(handle: Callable[[Reader, Writer], Awaitable[None]]) -> AsyncIterator[int]:
    """A TCP server that speaks just as much HTTP as the test wants."""
    tasks: set[asyncio.Task[None]] = set()

    async def guarded(reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handle(reader, writer)
        writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()


def client(port: int, budget: RateBudget | None = None, timeout_s: float = 2.0) -> RestClient:
    signer = BinanceSigner("key", "secret", VenueClock(), 5000)
    return RestClient(
        f"http://127.0.0.1:{port}", budget or RateBudget(6000), read_error=read_error, signer=signer, timeout_s=timeout_s,
        weight_header="X-MBX-USED-WEIGHT-1M",
    )  # fmt: skip


async def order(rest: RestClient, method: str) -> dict[str, int]:
    return await rest.signed(method, "/api/v3/order", {"symbol": "BTCUSDT"}, weight=1, lane=Lane.ORDER, shape=dict[str, int])


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_a_keep_alive_closed_after_accepting_costs_an_error_and_never_a_second_request(method: str) -> None:
    """The venue takes the request, then closes the kept-alive connection without an answer: aiohttp itself would send it again (R14)."""
    seen: list[str] = []

    async def handle(reader: Reader, writer: Writer) -> None:
        while line := await reader.readline():
            while (await reader.readline()).strip():
                pass
            seen.append(line.split()[0].decode())
            if len(seen) > 1:
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: keep-alive\r\n\r\n" + b'{"a": 1}')
            await writer.drain()

    async with raw_server(handle) as port, client(port) as rest:
        assert await order(rest, method) == {"a": 1}
        with pytest.raises(ExchangeError) as failed:
            await order(rest, method)
        await asyncio.sleep(0.05)
    assert seen == [method, method]
    assert isinstance(failed.value, AnswerLost if method == "GET" else OrderOutcomeUnknown)


async def test_the_library_would_send_it_twice_without_our_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above proves something only if this one holds."""
    seen: list[bytes] = []

    async def handle(reader: Reader, writer: Writer) -> None:
        while line := await reader.readline():
            while (await reader.readline()).strip():
                pass
            seen.append(line)
            if len(seen) > 1:
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: keep-alive\r\n\r\n" + b'{"a": 1}')
            await writer.drain()

    async def unguarded(request: object, handler: Callable[[object], Awaitable[object]]) -> object:
        return await handler(request)

    monkeypatch.setattr("connectors.rest._sent_once", unguarded)
    async with raw_server(handle) as port, client(port) as rest:
        await order(rest, "GET")
        with pytest.raises(ExchangeError):
            await order(rest, "GET")
    assert len(seen) == 3


async def test_no_connection_means_that_nothing_was_sent() -> None:
    async with raw_server(lambda reader, writer: asyncio.sleep(0)) as port:
        pass
    async with client(port) as rest:
        with pytest.raises(NotSent):
            await order(rest, "POST")


async def test_the_last_check_comes_when_only_the_bytes_are_left() -> None:
    connected = asyncio.Event()
    received: list[bytes] = []

    async def handle(reader: Reader, writer: Writer) -> None:
        connected.set()
        received.append(await reader.read(100))

    def forbid() -> None:
        assert rest._changing is not None
        assert rest._changing.connector is not None
        raise NotSent("halted", code="HALTED")

    async with raw_server(handle) as port, client(port) as rest:
        with pytest.raises(NotSent, match="halted"):
            await rest.signed("POST", "/x", {}, weight=1, lane=Lane.ORDER, shape=dict, last_check=forbid)
        await connected.wait()
        await asyncio.sleep(0.02)
    assert received in ([], [b""])


@contextlib.asynccontextmanager
async def answering(status: int, body: bytes, headers: dict[str, str] | None = None, delay_s: float = 0.0) -> AsyncIterator[int]:
    async def handle(_: web.Request) -> web.Response:
        await asyncio.sleep(delay_s)
        return web.Response(status=status, body=body, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "body", "changing", "asking"),
    [
        (503, b"<html>", OrderOutcomeUnknown, AnswerLost),
        (200, b"<html>", OrderOutcomeUnknown, BadResponse),
        (200, b'{"a": "x"}', OrderOutcomeUnknown, BadResponse),
        (200, b'{"a": 1e999999}', OrderOutcomeUnknown, BadResponse),
        (302, b"", OrderOutcomeUnknown, AnswerLost),
        (400, b'{"code": -2010, "msg": "no money"}', OrderRejected, OrderRejected),
        (403, b"<html>", RateLimited, RateLimited),
    ],
)
async def test_an_answer_that_proves_nothing_is_unknown_for_an_order_and_a_reason_to_ask_again_for_a_question(
    status: int, body: bytes, changing: type[ExchangeError], asking: type[ExchangeError]
) -> None:
    async with answering(status, body) as port, client(port) as rest:
        with pytest.raises(changing):
            await order(rest, "POST")
        with pytest.raises(asking):
            await order(rest, "GET")


async def test_a_slow_answer_is_given_up_and_unknown() -> None:
    async with answering(200, b"{}", delay_s=5) as port, client(port, timeout_s=0.1) as rest:
        with pytest.raises(OrderOutcomeUnknown):
            await order(rest, "POST")


async def test_a_huge_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.rest.MAX_BODY_BYTES", 1000)
    async with answering(200, b" " * 5000) as port, client(port) as rest:
        with pytest.raises(BadResponse, match="larger"):
            await order(rest, "GET")


@pytest.mark.parametrize(("status", "header", "silence_s"), [(429, "7", 7), (418, "120", 120), (429, "soon", 60)])
async def test_429_and_418_silence_everything_until_retry_after(status: int, header: str, silence_s: float) -> None:
    budget = RateBudget(6000)
    async with answering(status, b"{}", {"Retry-After": header}) as port, client(port, budget) as rest:
        with pytest.raises(RateLimited):
            await order(rest, "POST")
        requests = rest.requests
        with pytest.raises(RateLimited):
            await order(rest, "DELETE")
        assert rest.requests == requests
    assert budget.silent_s == pytest.approx(silence_s, abs=1)


async def test_the_weight_header_is_adopted() -> None:
    budget = RateBudget(6000)
    async with answering(200, b"{}", {"X-MBX-USED-WEIGHT-1M": "1234"}) as port, client(port, budget) as rest:
        await rest.get("/x", weight=1, shape=dict)
    assert budget.used_weight == 1234
