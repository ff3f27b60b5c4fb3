"""The recorded 2021-04-05 Binance capture, repeated with its numbers moved on, so that books stay in step however long a run is."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).resolve().parents[2] / "shared/data/binance_spot/cryptofeed_2021-04-05_2min.jsonl.gz"
NUMBERS = {"depthUpdate": ("U", "u"), "aggTrade": ("a", "f", "l"), None: ("u",)}


@dataclass(frozen=True)
class Recording:
    """Snapshots by native symbol, stream names, and the frames that are newer than their book's snapshot."""

    snapshots: dict[str, bytes]
    streams: list[str]
    frames: list[bytes]

    @property
    def symbols(self) -> list[str]:
        return list(self.snapshots)


def load(loops: int, path: Path = RECORDED) -> Recording:
    """The capture `loops` times over; raises FileNotFoundError where the recorded data is not at hand."""
    snapshots: dict[str, bytes] = {}
    frames: list[dict[str, Any]] = []
    with gzip.open(path, "rt") as file:
        for line in map(json.loads, file):
            if line["conn"].startswith("http"):
                snapshots[line["conn"].split("symbol=")[1].split("&")[0]] = line["raw"].encode()
            else:
                frames.append(json.loads(line["raw"]))
    starts = {native: json.loads(raw)["lastUpdateId"] for native, raw in snapshots.items()}
    ends = {frame["data"]["s"]: frame["data"]["u"] for frame in frames if frame["data"].get("e") == "depthUpdate"}
    frames = [frame for frame in frames if _within(frame["data"], starts, ends)]
    spans = _spans(frames, starts, ends)
    repeated = [_encoded(frame, spans, loop) for loop in range(loops) for frame in frames]
    return Recording(snapshots, sorted({frame["stream"] for frame in frames}), repeated)


def _within(data: dict[str, Any], starts: dict[str, int], ends: dict[str, int]) -> bool:
    """Whether a numbered frame lies between its book's snapshot and last update, so that a repetition continues the numbers."""
    return "u" not in data or starts[data["s"]] < data["u"] <= ends[data["s"]]


def _spans(frames: list[dict[str, Any]], starts: dict[str, int], ends: dict[str, int]) -> dict[tuple[str, str], int]:
    """How far each counter of each symbol runs in one loop; a book's updates and its quotes count together."""
    spans = {(native, "u"): ends[native] - starts[native] for native in ends}
    first: dict[tuple[str, str], int] = {}
    for frame in frames:
        data = frame["data"]
        for key in NUMBERS[data.get("e")]:
            if key in "afl":
                name = (data["s"], key)
                spans[name] = data[key] - first.setdefault(name, data[key]) + 1
    return spans


def _encoded(frame: dict[str, Any], spans: dict[tuple[str, str], int], loop: int) -> bytes:
    data = dict(frame["data"])
    if loop:
        for key in NUMBERS[data.get("e")]:
            data[key] += loop * spans[data["s"], "u" if key == "U" else key]
        if "E" in data:
            data["E"] += loop * 120_000
            if "T" in data:
                data["T"] += loop * 120_000
    return json.dumps({"stream": frame["stream"], "data": data}, separators=(",", ":")).encode()
