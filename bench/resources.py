"""Memory and CPU of every process of the running stack, idle and under a steady rate of frames, and how long a start takes.

The stack is `tradebot up` itself; its connector is pointed at a frame server, so that the rate is known. PSS counts memory that
processes share in parts. CPU is percent of one core over the measured seconds.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

import psutil
import uvloop
from redis.exceptions import RedisError

from bench.frames import frame_server, venue_port
from bench.processes import Run, pss_mb, running, wait_for
from bus.client import open_redis
from bus.streams import Streams

WARM_S = 3.0
MEASURED_S = 8.0
TICKERS = Streams("simulation").market("binance", "tickers").name


def resources(rate: int) -> dict[str, Any]:
    """PSS in MB and CPU in percent by process while `rate` frames a second arrive (0 is none)."""
    with running() as run:
        frame_server(run, 0, max(rate, 1), WARM_S + MEASURED_S + 5 if rate else 0.001)
        venue = f"127.0.0.1:{venue_port(run)}"
        _up(run, {
            "TRADEBOT__EXCHANGES": "{binance: {port: 0, symbols: [BTC/USDT], timeframes: [1m], stale_after_s: 3600, "
            f"rest_url: 'http://{venue}', ws_url: 'ws://{venue}/stream', ws_api_url: 'ws://{venue}/ws-api/v3'}}}}",
        })  # fmt: skip
        wait_for((run.directory / "run/bot.port").exists, "the stack", 60)
        time.sleep(WARM_S)
        processes = {name: psutil.Process(pid) for name, pid in _pids(run).items()}
        before = {name: _cpu_s(process) for name, process in processes.items()}
        time.sleep(MEASURED_S)
        cpu_s = {name: _cpu_s(process) - before[name] for name, process in processes.items()}
        measured = {
            name: {"pss_mb": round(_tree_pss_mb(process), 1), "cpu_percent": round(100 * cpu_s[name] / MEASURED_S, 1)}
            for name, process in processes.items()
        }
        _down(run)
    total = {key: round(sum(entry[key] for entry in measured.values()), 1) for key in ("pss_mb", "cpu_percent")}
    return {"rate": rate, "processes": measured, "total": total}


def start_up() -> dict[str, float]:
    """Seconds from `tradebot up` to the first event on the bus and the first stored fill, on an empty home and on a used one."""
    measured: dict[str, float] = {}
    with running() as run:
        for start in ("first", "second"):
            began = time.monotonic()
            before = time.time_ns()
            _up(run, {})
            wait_for(lambda: uvloop.run(_newest_event_ns(run)) > before, "the first event", 60)  # noqa: B023 waited for here
            measured[f"{start}_start_to_event_s"] = round(time.monotonic() - began, 2)
            wait_for((run.directory / "run/bot.port").exists, "the bot", 60)
            measured[f"{start}_start_to_all_started_s"] = round(time.monotonic() - began, 2)
            _down(run)
    return measured


def _up(run: Run, env: dict[str, str]) -> None:
    ports = {
        f"TRADEBOT__{section}__PORT": "0" for section in ("BUS", "POSTGRES", "BOT", "RECORDER", "ALERTS", "EXCHANGES__BINANCE")
    }
    if "TRADEBOT__EXCHANGES" in env:
        del ports["TRADEBOT__EXCHANGES__BINANCE__PORT"]
    run.start("up", [sys.executable, "-m", "tradebot", "up"], {"TRADEBOT_HOME": str(run.directory), **ports, **env})


def _down(run: Run) -> None:
    process = run.processes.pop("up")
    process.send_signal(signal.SIGINT)
    process.wait(60)


def _pids(run: Run) -> dict[str, int]:
    """Every process of the stack by its lock file, which holds its pid, and the supervisor."""
    pids = {"supervisor": run.processes["up"].pid}
    for lock in (run.directory / "run").glob("*.lock"):
        text = lock.read_text()
        if text.startswith("{") and psutil.pid_exists(pid := int(json.loads(text)["pid"])):
            pids[lock.stem] = pid
    return pids


def _family(process: psutil.Process) -> list[psutil.Process]:
    """PostgreSQL is many processes, the bot has one for each plugin; the supervisor's children are counted by themselves."""
    return [process] if process.cmdline()[-2:] == ["tradebot", "up"] else [process, *process.children(recursive=True)]


def _tree_pss_mb(process: psutil.Process) -> float:
    return sum(pss_mb(member.pid) for member in _family(process))


def _cpu_s(process: psutil.Process) -> float:
    times = [member.cpu_times() for member in _family(process)]
    return sum(each.user + each.system for each in times)


async def _newest_event_ns(run: Run) -> int:
    """When the newest ticker was added, 0 while there is no bus or no ticker."""
    address = run.directory / "run/bus.url"
    if not address.exists():
        return 0
    redis = open_redis(address.read_text().strip())
    try:
        newest = await redis.xrevrange(TICKERS, count=1)
        return int(newest[0][0].split(b"-")[0]) * 1_000_000 if newest else 0
    except (RedisError, OSError):
        return 0
    finally:
        await redis.aclose()


if __name__ == "__main__":
    print(json.dumps({"start_up": start_up(), "resources": [resources(rate) for rate in (0, 100, 1_000)]}, indent=1))
