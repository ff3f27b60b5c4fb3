"""Raw frame to stream entry: throughput on the recorded capture, and latency at a steady rate.

The market-data half of the connector is the real one, with its books (N = 20), gap checks and metrics. The frame server, Valkey
and whatever reads share the machine's cores with it. Beside it stands the machine's own limit: the same entries, ready-made,
written by one process.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import time
from typing import Any

import hiredis
import uvloop

from bench import capture
from bench.processes import Run, running, wait_for
from bus.client import open_redis
from bus.reader import TailReader
from bus.streams import Streams
from connectors.exchanges.binance.symbols import split_native

KINDS = ("tickers", "books", "trades")
STREAMS = Streams("simulation")


def throughput(loops: int = 30) -> dict[str, Any]:
    """Frames a second from the first byte sent to the last entry stored; every frame must become exactly one entry."""
    recording = capture.load(1)
    symbols = [split_native(native) for native in recording.symbols]
    with running() as run:
        url = run.valkey()
        server = frame_server(run, loops, 0, 0)
        connector = run.python("connector", "bench.feed_process", venue_port(run), "aggregate", *symbols, env={"BUS_URL": url})
        wait_for(lambda: uvloop.run(_entries(url)) >= len(symbols), "the first books")  # one for each snapshot
        before = uvloop.run(_entries(url))
        cpu_before = run.cpu_s("connector")
        sent = line(server)
        expected = before + sent["frames"]
        last_ns = 0

        def all_stored() -> bool:
            nonlocal last_ns
            entries = uvloop.run(_entries(url))
            last_ns = time.monotonic_ns()
            return entries >= expected or connector.poll() is not None

        wait_for(all_stored, "the last entry", 120)
        entries = uvloop.run(_entries(url)) - before
        seconds = (last_ns - sent["first_ns"]) / 1e9
        cpu_s = run.cpu_s("connector") - cpu_before
        return {
            "frames": sent["frames"],
            "entries": entries,
            "lost": sent["frames"] - entries,
            "frames_per_s": round(sent["frames"] / seconds),
            "frames_per_connector_cpu_s": round(sent["frames"] / cpu_s),
            "connector_pss_mb": round(run.pss_mb("connector"), 1),
            "limit_entries_per_s": round(uvloop.run(_limit(url))),
        }


def latency(rate: int, seconds: float = 4.0) -> dict[str, Any]:
    """Frame sent to entry read by a blocked reader in another process, quotes only, in microseconds."""
    with running() as run:
        url = run.valkey()
        server = frame_server(run, 0, rate, seconds)
        run.python("connector", "bench.feed_process", venue_port(run), "trade", "BTC/USDT", env={"BUS_URL": url})
        read_ns, cpu_s = uvloop.run(_read_quotes(run, url, int(rate * seconds)))
        sent_ns = line(server)["sent_ns"]
        delays_us = sorted((read_ns[number] - sent) / 1000 for number, sent in enumerate(sent_ns, start=1) if number in read_ns)
        return {
            "rate": rate,
            "delivered": len(delays_us) / len(sent_ns),
            "p50_us": round(statistics.median(delays_us)),
            "p99_us": round(delays_us[int(len(delays_us) * 0.99)]),
            "connector_cpu_percent": round(100 * cpu_s / seconds, 1),
        }


def frame_server(run: Run, loops: int, rate: int, seconds: float) -> subprocess.Popen[bytes]:
    server = run.python(
        "frames", "bench.frame_server", str(run.directory / "port"), str(loops), str(rate), str(seconds), stdout=subprocess.PIPE
    )
    wait_for(lambda: (run.directory / "port").exists() and (run.directory / "port").read_text(), "the frame server")
    return server


def venue_port(run: Run) -> str:
    return (run.directory / "port").read_text()


def line(server: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert server.stdout is not None
    line: dict[str, Any] = json.loads(server.stdout.readline())
    return line


async def _entries(url: str) -> int:
    """Entries ever added to the market streams (bounds may have dropped old ones since)."""
    redis = open_redis(url)
    try:
        total = 0
        for kind in KINDS:
            name = STREAMS.market("binance", kind).name
            if await redis.exists(name):
                total += int((await redis.xinfo_stream(name))["entries-added"])
        return total
    finally:
        await redis.aclose()


async def _read_quotes(run: Run, url: str, count: int) -> tuple[dict[int, int], float]:
    """When each quote was read, by its number, and the CPU time that the connector used meanwhile."""
    read_ns: dict[int, int] = {}
    cpu_before = 0.0
    stop = asyncio.Event()

    def handle(_: str, message: Any) -> None:
        nonlocal cpu_before
        if not read_ns:
            cpu_before = run.cpu_s("connector")
        read_ns[message.sequence] = time.monotonic_ns()
        if len(read_ns) >= count:
            stop.set()

    await asyncio.wait_for(TailReader(url, [STREAMS.market("binance", "tickers")], "0").run(handle, stop), 60)
    return read_ns, run.cpu_s("connector") - cpu_before


async def _limit(url: str, entries: int = 200_000, at_once: int = 256) -> float:
    """Entries a second of one process that writes ready-made XADDs of the books' median size and waits for each write's replies."""
    redis = open_redis(url)
    address = redis.connection_pool.connection_kwargs
    reader, writer = await asyncio.open_connection(address["host"], address["port"])
    writer.write(hiredis.pack_command(("AUTH", address.get("username") or "default", address["password"])))
    await reader.readline()
    name = STREAMS.market("binance", "books").name
    body = (await redis.xrevrange(name, count=1))[0][1]
    await redis.aclose()
    key, value = next(iter(body.items()))
    write = hiredis.pack_command(("XADD", "bench:limit", "MAXLEN", "~", "50000", "*", key, value)) * at_once
    before = time.perf_counter()
    for _ in range(entries // at_once):
        writer.write(write)
        for _ in range(at_once):
            await reader.readline()  # $ length
            await reader.readline()  # the id
    seconds = time.perf_counter() - before
    writer.close()
    return entries / seconds


if __name__ == "__main__":
    print(json.dumps({"cores": os.cpu_count(), "throughput": throughput(), "latency": [latency(1_000), latency(10_000)]}, indent=1))
