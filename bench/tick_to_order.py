"""Frame sent to order received, both on the venue's clock, over the real connector and bot with the journal on.

Quotes at a steady rate; the price changes its level every tenth frame, the SMA plugin trades on each change, and every order fills.
Each order is measured from the frame that caused it, as its decision says. What the journal's wait for the disk costs is the
difference between the two runs. Beside it, in the same run: one bare hop over the bus, of which an order needs two.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from typing import Any

import uvloop

from bench.bare_hop import bare_hop_us
from bench.frames import frame_server, line, venue_port
from bench.processes import running, wait_for
from bus.client import open_redis
from bus.codec import decode
from bus.streams import Streams
from common_models import Decision

PLUGINS = (
    "{sma: {mode: live, settings: {source: ticks, fast_period: 1, slow_period: 4}}, ema: {mode: off}, rsi: {mode: off},"
    " bollinger_bands: {mode: off}}"
)


def tick_to_order(rate: int = 1_000, seconds: float = 10.0, *, fsync: bool = True, in_process: bool = False) -> dict[str, Any]:
    """Latencies in microseconds and the CPU seconds that the processes used; `in_process` leaves the plugin's process out."""
    with running() as run:
        url = run.valkey()
        server = frame_server(run, 0, rate, seconds)
        venue = f"127.0.0.1:{venue_port(run)}"
        env = {
            "TRADEBOT_HOME": str(run.directory),
            "TRADEBOT__BUS__URL": url,
            "TRADEBOT__EXCHANGES": "{binance: {port: 0, symbols: [BTC/USDT], timeframes: [1m], stale_after_s: 3600, "
            f"journal_fsync: {str(fsync).lower()}, rest_url: 'http://{venue}', ws_url: 'ws://{venue}/stream', "
            f"ws_api_url: 'ws://{venue}/ws-api/v3'}}}}",
            "TRADEBOT__BOT__PORT": "0",
            "TRADEBOT__BOT__PLUGINS": PLUGINS,
            "TRADEBOT__BOT__RISK__COOLDOWN_S": "0",
            "TRADEBOT__BOT__RISK__MIN_OPINIONS": "1",
            "TRADEBOT__LOG__LEVEL": "WARNING",
        }
        run.python("bot", *(("bench.bot_in_process",) if in_process else ("tradebot", "bot")), env=env)
        wait_for((run.directory / "run/bot.port").exists, "the bot")
        run.python("connector", "tradebot", "connector", "binance", env=env)
        result = line(server)
        cpu = {name: run.cpu_s(name) for name in ("connector", "bot", "valkey")}
        causes = uvloop.run(_causes(url))
        for name in ("connector", "bot"):
            run.stop(name)
        bare_p50_us, bare_p99_us = bare_hop_us(run, url, rate, min(seconds, 4.0))
        sent_ns, orders_ns = result["sent_ns"], result["orders_ns"]
        delays_us = sorted((received - sent_ns[causes[client_id[8:]] - 1]) / 1000 for client_id, received in orders_ns.items())
        return {
            "rate": rate,
            "fsync": fsync,
            "in_process": in_process,
            "orders": len(delays_us),
            "p50_us": round(statistics.median(delays_us)),
            "p99_us": round(delays_us[int(len(delays_us) * 0.99)]),
            "bare_hop_p50_us": bare_p50_us,
            "bare_hop_p99_us": bare_p99_us,
            "p50_in_bare_hops": round(statistics.median(delays_us) / bare_p50_us, 1),
            "cpu_s": {name: round(used, 2) for name, used in cpu.items()},
        }


async def _causes(url: str) -> dict[str, int]:
    """The number of the quote that moved us, by the last 24 characters of the order's id at the venue."""
    streams, redis = Streams("simulation"), open_redis(url)
    try:
        entries = await redis.xrange(streams.decisions.name)
    finally:
        await redis.aclose()
    decisions = [decode(entry[1][b"d"]) for entry in entries]
    return {
        hashlib.sha256(decision.command_id.encode()).hexdigest()[:24]: int(decision.correlation_id.rpartition(":")[2])
        for decision in decisions
        if isinstance(decision, Decision) and decision.command_id
    }


def isolation(pairs: int = 3, seconds: float = 5.0) -> dict[str, Any]:
    """What the process of a plugin adds to the median, microseconds: pairs of runs, taking turns, journal by write(2)."""
    medians: dict[bool, list[int]] = {True: [], False: []}
    for in_process in (True, False) * pairs:
        run = tick_to_order(seconds=seconds, fsync=False, in_process=in_process)
        medians[in_process].append(run["p50_us"])
    inside, outside = medians[True], medians[False]
    return {
        "in_process_p50_us": inside,
        "own_process_p50_us": outside,
        "added_p50_us": statistics.median(outside) - statistics.median(inside),
    }


if __name__ == "__main__":
    print(json.dumps([tick_to_order(fsync=True), tick_to_order(fsync=False), isolation()], indent=1))
