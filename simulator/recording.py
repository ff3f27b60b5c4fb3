"""Recorded frames: reading capture files, and what a frame means to a followed market."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import msgspec

from simulator.tape import PublicTrade

MAX_LINE_BYTES = 32_000_000


class RecordingError(Exception):
    """The file is not a recording; the text names file and line."""


class FrameError(Exception):
    """One frame is not what its shape promises."""


class Frame(msgspec.Struct):
    """One captured message: `t` seconds since 1970 when it was received (None: unknown), `dir` "in" or "out"."""

    t: float | None
    conn: str
    dir: str
    raw: str


class BookLevels(msgspec.Struct):
    """A snapshot or change of a book, as (price, size) in the venue's own text.

    A change covers the update ids `first_id` to `last_id`; size 0 takes a level away.
    """

    snapshot: bool
    first_id: int
    last_id: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class FrameMeaning(msgspec.Struct):
    """What a frame says of one market, by the venue's own symbol. `stream` is empty for what is not sent to clients.

    `aggregate` says that its trades are sums of others.
    """

    native_symbol: str = ""
    stream: str = ""
    event_ms: int | None = None
    book: BookLevels | None = None
    trades: list[PublicTrade] = []
    aggregate: bool = False


_decoder = msgspec.json.Decoder(Frame)


def read_frames(path: Path) -> Iterator[Frame]:
    """Yield the frames of a capture file (JSON lines, gzip allowed) in order; raises RecordingError."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=1):
                if not line.strip():
                    continue
                try:
                    yield _decoder.decode(line)
                except msgspec.DecodeError as error:
                    raise RecordingError(f"{path}:{number}: not a captured frame: {error}") from None
    except (OSError, EOFError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from error
