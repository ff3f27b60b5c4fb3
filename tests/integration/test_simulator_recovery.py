"""The ledger: written before the answer, read back after `kill -9`, and what can be made to go wrong between the two."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator.ledger import EntryKind, read_entries
from simulator.service import Simulator
from tests.support.simulators import Client, SimulatorProcess, client, frame, settings, simulator, ws_request

ORDER = "/api/v3/order"
LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001", "price": "50000"}
MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[SimulatorProcess]:
    made = SimulatorProcess(tmp_path, settings())
    made.start()
    yield made
    made.stop(signal.SIGKILL)


async def test_after_a_kill_everything_accepted_is_there_and_ids_go_on_rising(process: SimulatorProcess) -> None:
    async with client(process.url) as api:
        resting = (await api.signed("POST", ORDER, **LIMIT, newClientOrderId="rests"))[1]
        filled = (await api.signed("POST", ORDER, **MARKET))[1]
        before = (await api.signed("GET", "/api/v3/account"))[1]["balances"]
        bars = (await api.get("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=20))[1]
        book = (await api.get("/api/v3/depth", symbol="BTCUSDT"))[1]

    process.stop(signal.SIGKILL)
    process.start()

    async with client(process.url) as api:
        assert (await api.signed("GET", "/api/v3/account"))[1]["balances"] == before
        open_orders = (await api.signed("GET", "/api/v3/openOrders", symbol="BTCUSDT"))[1]
        assert [row["orderId"] for row in open_orders] == [resting["orderId"]]
        assert (await api.signed("GET", ORDER, symbol="BTCUSDT", orderId=filled["orderId"]))[1]["status"] == "FILLED"
        trades = (await api.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT"))[1]
        assert [row["id"] for row in trades] == [row["tradeId"] for row in filled["fills"]]
        again = (await api.signed("POST", ORDER, **MARKET))[1]
        assert again["orderId"] > filled["orderId"]
        assert again["fills"][0]["tradeId"] > filled["fills"][-1]["tradeId"]
        assert (await api.get("/api/v3/depth", symbol="BTCUSDT"))[1]["lastUpdateId"] > book["lastUpdateId"]
        kept = {row[0]: row for row in (await api.get("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=1000))[1]}
        assert all(kept[row[0]] == row for row in bars[:-1])  # the past does not change
        assert (await api.signed("POST", ORDER, **LIMIT, newClientOrderId="rests"))[1]["code"] == -2010

    sequences = [entry.sequence for entry in read_entries(process.ledger)]
    assert sequences == list(range(1, len(sequences) + 1))


async def test_public_trades_go_on_without_a_hole_after_a_kill(process: SimulatorProcess) -> None:
    async with client(process.url) as api:
        before = (await api.get("/api/v3/trades", symbol="BTCUSDT", limit=1))[1][-1]["id"]
    process.stop(signal.SIGKILL)
    process.start()
    async with client(process.url) as api:
        rows = (await api.get("/api/v3/historicalTrades", symbol="BTCUSDT", fromId=before, limit=1000))[1]
    assert [row["id"] for row in rows] == list(range(before, before + len(rows)))


async def test_told_to_stop_it_ends_with_success(process: SimulatorProcess) -> None:
    assert process.stop(signal.SIGTERM) == 0


# -- one simulator in this process ---------------------------------------------------------------------------------------------


@pytest.fixture
async def still(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with simulator(tmp_path, alive=False) as made:
        yield made


@pytest.fixture
async def api(still: Simulator) -> AsyncIterator[Client]:
    async with client(still.url) as made:
        yield made


async def fault(api: Client, **rule: Any) -> None:
    async with aiohttp.ClientSession() as session, session.post(api.url + "/simulator/faults", json=[rule]) as response:
        assert response.status == 200, await response.text()


async def test_the_ledger_has_every_fact_and_who_asked_for_it(still: Simulator, api: Client, tmp_path: Path) -> None:
    placed = (await api.signed("POST", ORDER, **LIMIT, newClientOrderId="one"))[1]
    await api.signed("POST", ORDER, **LIMIT, newClientOrderId="one")
    await api.signed("DELETE", ORDER, symbol="BTCUSDT", orderId=placed["orderId"])
    filled = (await api.signed("POST", ORDER, **MARKET))[1]

    entries = list(read_entries(tmp_path / "ledger.log"))
    deposits = [entry for entry in entries if entry.kind is EntryKind.DEPOSIT]
    place, refused, cancel, market = entries[len(deposits) :]
    assert {row.asset: row.free for entry in deposits for row in entry.balances}["USDT"] == Decimal(100_000)
    assert place.request is not None
    assert (place.request.via, place.request.request_id) == ("rest", "POST /api/v3/order")
    assert 0 < place.request.received_ns <= place.ts_ns
    assert (place.orders[0].client_order_id, place.orders[0].locked) == ("one", Decimal(50))
    assert (refused.kind, refused.client_order_id, refused.code) == (EntryKind.REFUSED, "one", "-2010")
    assert (cancel.kind, cancel.orders[0].status.value) == (EntryKind.CANCEL, "CANCELED")
    assert [fill.trade_id for fill in market.fills] == [row["tradeId"] for row in filled["fills"]]
    assert {row.asset for row in market.balances} == {"BTC", "USDT"}


async def test_an_order_may_be_accepted_although_its_answer_never_comes(api: Client, tmp_path: Path) -> None:
    await fault(api, point="before_reply", action="close", operation="order.place")
    with pytest.raises(aiohttp.ClientError):
        await api.signed("POST", ORDER, **LIMIT, newClientOrderId="lost")
    assert (await api.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="lost"))[1]["status"] == "NEW"
    assert [row.client_order_id for entry in read_entries(tmp_path / "ledger.log") for row in entry.orders] == ["lost"]


async def test_a_request_that_waits_too_long_is_refused_before_the_engine(api: Client) -> None:
    """The second look at recvWindow: what thaws too late does nothing."""
    await fault(api, point="before_engine", action="delay", operation="order.place", delay_s=0.3)
    status, body, _ = await api.signed("POST", ORDER, **LIMIT, newClientOrderId="late", recvWindow=100)
    assert (status, body["code"]) == (400, -1021)
    assert (await api.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="late"))[1]["code"] == -2013


async def test_an_answer_can_hang_drop_or_lie_while_others_go_on(api: Client) -> None:
    await fault(api, point="before_reply", action="hang", operation="order.place", match="hangs")
    await fault(api, point="before_reply", action="drop", operation="order.place", match="drops")
    body = '{"code":-1007,"msg":"Timeout waiting for response from backend server."}'
    await fault(api, point="before_reply", action="error", operation="order.place", match="lies", status=503, body=body)
    async with api.socket("/ws-api/v3") as socket:
        for name in ("hangs", "drops", "lies", "fine"):
            await socket.send_str(ws_request("order.place", name, **LIMIT, newClientOrderId=name))
        answers = {message["id"]: message["status"] for message in [await frame(socket), await frame(socket)]}
        assert answers == {"lies": 503, "fine": 200}
        with pytest.raises(asyncio.TimeoutError):
            await socket.receive(timeout=0.1)
    orders = (await api.signed("GET", "/api/v3/openOrders", symbol="BTCUSDT"))[1]
    assert {row["clientOrderId"] for row in orders} == {"hangs", "drops", "lies", "fine"}


async def test_a_frame_can_be_left_out_and_the_rules_count_what_they_did(tmp_path: Path) -> None:
    async with simulator(tmp_path) as made, client(made.url) as api:
        await fault(api, point="stream", action="drop", operation="btcusdt@depth@100ms", skip=2)
        async with api.socket("/ws/btcusdt@depth@100ms") as socket:
            diffs = [await frame(socket) for _ in range(4)]
        holes = [later["U"] - earlier["u"] for earlier, later in itertools.pairwise(diffs)]
        assert holes[0] == holes[2] == 1
        assert holes[1] > 1
        assert (await api.get("/simulator/faults"))[1][0]["applied"] == 1
