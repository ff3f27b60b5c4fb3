"""What one hop over the bus costs on this machine with nothing around it: a blocking socket writes, another process' socket reads.

`python -m bench.bare_hop COUNT` is the reading process (bus URL in BUS_URL); it prints one JSON list of delays in nanoseconds.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from urllib.parse import urlsplit

import hiredis

from bench.processes import Run

STREAM = "bench:hop"


def connected(url: str) -> socket.socket:
    """A plain socket, logged in."""
    parts = urlsplit(url)
    plain = socket.create_connection((parts.hostname or "", parts.port or 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.sendall(hiredis.pack_command(("AUTH", parts.username or "default", parts.password or "")))
    plain.recv(100)
    return plain


def bare_hop_us(run: Run, url: str, rate: int, seconds: float) -> tuple[int, int]:
    """p50 and p99 of XADD to a blocked XREAD in another process, microseconds, at `rate` a second."""
    count = int(rate * seconds)
    reader = run.python("bare-hop", "bench.bare_hop", str(count), env={"BUS_URL": url}, stdout=subprocess.PIPE)
    writer = connected(url)
    time.sleep(0.5)  # the reader blocks
    start = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        writer.sendall(hiredis.pack_command(("XADD", STREAM, "*", "d", str(time.time_ns()))))
        writer.recv(100)
    assert reader.stdout is not None
    delays = sorted(json.loads(reader.stdout.readline()))
    writer.close()
    run.stop("bare-hop")
    return round(statistics.median(delays) / 1000), round(delays[int(len(delays) * 0.99)] / 1000)


def read(count: int) -> list[int]:
    """The delays of `count` entries."""
    plain = connected(os.environ["BUS_URL"])
    parser = hiredis.Reader()
    last: bytes | str = "0"
    delays: list[int] = []
    while len(delays) < count:
        plain.sendall(hiredis.pack_command(("XREAD", "COUNT", "256", "BLOCK", "10000", "STREAMS", STREAM, last)))
        while (reply := parser.gets()) is False:
            parser.feed(plain.recv(65_536))
        now = time.time_ns()
        for entry_id, fields in reply[0][1]:
            last = entry_id
            delays.append(now - int(fields[1]))
    return delays


if __name__ == "__main__":
    print(json.dumps(read(int(sys.argv[1]))), flush=True)
