"""`make bench`: every benchmark, side by side with the machine's own limits, as one JSON object.

`python -m bench frames tick_to_order isolation recorder resources` runs the named ones only.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

from bench.frames import latency, throughput
from bench.recorder import recorder
from bench.resources import resources, start_up
from bench.tick_to_order import isolation, tick_to_order

RUNS = 3

BENCHMARKS: dict[str, Callable[[], Any]] = {
    "frames": lambda: {"throughput": [throughput() for _ in range(RUNS)], "latency": [latency(rate) for rate in (1_000, 10_000)]},
    "tick_to_order": lambda: [tick_to_order(fsync=fsync) for _ in range(RUNS) for fsync in (False, True)],
    "isolation": isolation,
    "recorder": recorder,
    "resources": lambda: {"start_up": start_up(), "rates": [resources(rate) for rate in (0, 100, 1_000)]},
}


def main() -> int:
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    results: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count()}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name] = BENCHMARKS[name]()
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
