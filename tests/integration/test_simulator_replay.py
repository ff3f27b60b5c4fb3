"""Replay: recorded frames through the simulator's socket, byte for byte, with a book that follows them."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.simulators import Client, client, settings, simulator
from tests.support.waiting import eventually

HOST = "wss://stream.binance.com:9443/stream"
T0 = 1_700_000_000_000


def line(raw: dict[str, Any], conn: str = HOST, t: float = T0 / 1000) -> str:
    return json.dumps({"t": t, "conn": conn, "dir": "in", "raw": json.dumps(raw, separators=(",", ":"))})


def streamed(name: str, data: dict[str, Any], t: float = T0 / 1000) -> str:
    return line({"stream": f"btcusdt@{name}", "data": data}, t=t)


def diff(first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> dict[str, Any]:
    return {"e": "depthUpdate", "E": T0 + last, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": asks}


def trade(number: int, price: str, size: str, maker_bought: bool) -> dict[str, Any]:
    moment = T0 + number
    return {
        "e": "trade",
        "E": moment,
        "s": "BTCUSDT",
        "t": number,
        "p": price,
        "q": size,
        "T": moment,
        "m": maker_bought,
        "M": True,
    }


def recording(path: Path, lines: list[str]) -> Path:
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


SNAPSHOT = {"lastUpdateId": 100, "bids": [["99.00", "2.00000000"]], "asks": [["101.00", "2.00000000"]]}
LINES = [
    streamed("depth@100ms", diff(90, 95, [["98.00", "1.00000000"]], [])),  # before the snapshot: sent, not applied
    line(SNAPSHOT, "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"),
    streamed("depth@100ms", diff(96, 103, [["99.50", "1.00000000"]], [])),
    streamed("trade", trade(7, "99.50", "0.60000000", True)),
    streamed("depth@100ms", diff(104, 105, [["99.50", "0.40000000"], ["99.00", "0.00000000"]], [["100.50", "3.00000000"]])),
    streamed("trade", trade(9, "99.50", "1.00000000", True)),
]


async def received(api: Client, names: str, count: int, path: str = "/stream?streams=") -> list[str]:
    async with api.socket(path + names) as socket:
        return [(await socket.receive(timeout=10)).data for _ in range(count)]


async def test_frames_arrive_message_for_message_and_the_book_follows(tmp_path: Path) -> None:
    file = recording(tmp_path / "frames.jsonl.gz", LINES)
    configured = settings(replay=file, speed=0, retime=False)
    async with simulator(tmp_path / "state", configured) as made, client(made.url) as api:
        book = (await api.get("/api/v3/depth", symbol="BTCUSDT"))[1]
        assert book == {"lastUpdateId": 100, "bids": [["99.00", "2.00000000"]], "asks": [["101.00", "2.00000000"]]}

        frames = await received(api, "btcusdt@depth@100ms/btcusdt@trade", 5)

        assert frames == [json.loads(text)["raw"] for text in LINES if "lastUpdateId" not in text]
        book = (await api.get("/api/v3/depth", symbol="BTCUSDT"))[1]
        assert (book["lastUpdateId"], book["bids"]) == (105, [["99.50", "0.40000000"]])
        assert book["asks"] == [["100.50", "3.00000000"], ["101.00", "2.00000000"]]
        trades = (await api.get("/api/v3/trades", symbol="BTCUSDT"))[1]
        assert [(row["id"], row["time"]) for row in trades] == [(7, T0 + 7), (9, T0 + 9)]
        (symbol,) = (await api.get("/api/v3/exchangeInfo"))[1]["symbols"]
        assert (symbol["baseAsset"], symbol["filters"][0]["tickSize"]) == ("BTC", "0.10000000")


async def test_an_uncombined_connection_gets_the_payload_alone(tmp_path: Path) -> None:
    file = recording(tmp_path / "frames.jsonl.gz", LINES)
    async with simulator(tmp_path / "state", settings(replay=file, speed=0, retime=False)) as made, client(made.url) as api:
        frames = await received(api, "btcusdt@trade", 2, "/ws/")
    assert [json.loads(text) for text in frames] == [trade(7, "99.50", "0.60000000", True), trade(9, "99.50", "1.00000000", True)]


async def test_retimed_frames_carry_the_present_and_orders_trade_against_them(tmp_path: Path) -> None:
    file = recording(tmp_path / "frames.jsonl.gz", LINES)
    async with simulator(tmp_path / "state", settings(replay=file, speed=0, retime=True)) as made, client(made.url) as api:
        limit = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "99.5"}
        taken = (await api.signed("POST", "/api/v3/order", symbol="BTCUSDT", side="SELL", type="MARKET", quantity="1"))[1]
        assert (taken["status"], taken["fills"][0]["price"]) == ("FILLED", "99.00000000")
        placed = (await api.signed("POST", "/api/v3/order", **limit))[1]
        frames = [json.loads(text)["data"] for text in await received(api, "btcusdt@trade", 2)]
        clock = (await api.get("/api/v3/time"))[1]["serverTime"]
        assert all(abs(clock - frame["E"]) < 5000 and frame["T"] == frame["E"] for frame in frames)
        order = (await api.signed("GET", "/api/v3/order", symbol="BTCUSDT", orderId=placed["orderId"]))[1]
        assert order["status"] == "FILLED"  # the recorded sellers came down to it
        bars = (await api.get("/api/v3/klines", symbol="BTCUSDT", interval="1m"))[1]
        assert len(bars) >= 50
        assert bars[-1][6] >= clock - 1000


async def test_a_pace_is_kept(tmp_path: Path) -> None:
    lines = [streamed("trade", trade(number, "100", "1", True), t=T0 / 1000 + number * 0.2) for number in range(1, 7)]
    file = recording(tmp_path / "frames.jsonl.gz", lines)
    times = []
    configured = settings(replay=file, speed=2, retime=False)
    async with (
        simulator(tmp_path / "state", configured) as made,
        client(made.url) as api,
        api.socket("/ws/btcusdt@trade") as socket,
    ):
        for _ in range(6):
            await socket.receive(timeout=10)
            times.append(time.monotonic())
    assert times[-1] - times[0] == pytest.approx(0.5, abs=0.2)


async def test_a_damaged_frame_is_counted_and_the_rest_is_played(tmp_path: Path) -> None:
    bad = streamed("trade", {**trade(8, "1e9", "1", True), "p": "1e999999"})
    file = recording(tmp_path / "frames.jsonl.gz", [*LINES[:4], bad, *LINES[4:]])
    async with simulator(tmp_path / "state", settings(replay=file, speed=0, retime=False)) as made, client(made.url) as api:
        async with aiohttp.ClientSession() as session, session.post(api.url + "/simulator/replay/start") as response:
            assert response.status == 200
        await eventually(lambda: made.replay is not None and made.replay.finished)
        report = (await api.get("/simulator/state"))[1]["replay"]
        assert (report["frames"], report["unreadable"]) == (7, 1)


@pytest.mark.recorded
async def test_the_recorded_capture_goes_through_the_socket_unchanged(recorded_dir: Path, tmp_path: Path) -> None:
    file = recorded_dir / "binance_spot" / "cryptofeed_2021-04-05_2min.jsonl.gz"
    with gzip.open(file, "rt") as lines:
        raws = [json.loads(text)["raw"] for text in lines]
    wanted = [raw for raw in raws if '"lastUpdateId"' not in raw[:40]]
    names = sorted({json.loads(raw)["stream"] for raw in wanted})
    async with simulator(tmp_path, settings(replay=file, speed=0, retime=False)) as made, client(made.url) as api:
        frames = await received(api, "/".join(names), len(wanted))
    assert frames == wanted
