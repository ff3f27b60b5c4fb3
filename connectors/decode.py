"""Captured wire messages to normalised events, as `tradebot decode` prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bus.codec import encode
from bus.streams import Stream
from common_models import Message
from connectors.capture import read_capture
from connectors.registry import load_exchange


@dataclass(slots=True)
class DecodeSummary:
    """How many events of each kind came of how many messages."""

    messages: int = 0
    rejected: int = 0
    events: Counter[str] = field(default_factory=Counter)
    unsynced: tuple[str, ...] = ()  # books that never met a snapshot, so that nothing valid could be said of them


def decode_file(exchange: str, path: Path, write: Callable[[str], None]) -> DecodeSummary:
    """Write one JSON object for each event of the capture at `path`; returns what was counted.

    Raises UnknownExchange, CaptureError, or OSError.
    """
    summary = DecodeSummary()

    def put(stream: Stream, message: Message) -> None:
        summary.events[stream.name.rpartition(":")[2]] += 1
        write(encode(message).decode())

    decoder = load_exchange(exchange).decoder(put)
    for message in read_capture(path):
        if message.dir != "in":
            continue
        summary.messages += 1
        decoder.on_line(message.conn or "", message.raw.encode("utf-8", "surrogatepass"), message.ts_recv_ns)
    summary.rejected = decoder.rejected
    summary.unsynced = decoder.unsynced
    return summary
