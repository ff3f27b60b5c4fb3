"""The form of captured wire messages: JSON lines, gzip allowed, one message a line.

`{"t": receive time in seconds or null, "conn": URL, "dir": "in" | "out", "raw": message text}`; an http line is a response body.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from common_models.decimals import NumberError, exact
from common_models.timestamps import NS_PER_S

MAX_LINE_BYTES = 64 * 1024 * 1024


class CaptureError(Exception):
    """A line is not of the capture form; the text names file and line."""


class CapturedMessage(msgspec.Struct, frozen=True):
    """`t` stays text, so that its last digits are not lost in a float."""

    raw: str
    t: msgspec.Raw = msgspec.Raw(b"null")
    conn: str | None = None
    dir: str = "in"

    @property
    def ts_recv_ns(self) -> int:
        """Receive time in nanoseconds, 0 when the capture has none; raises NumberError."""
        text = bytes(self.t).decode("ascii", "replace")
        return 0 if text == "null" else int(exact(text) * Decimal(NS_PER_S))


_line = msgspec.json.Decoder(CapturedMessage)


def read_capture(path: Path) -> Iterator[CapturedMessage]:
    """Yield the messages of a file in order; raises CaptureError for a line of another form and OSError for the file."""
    with _open(path) as file:
        number = 0
        try:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise CaptureError(f"{path}:{number}: longer than {MAX_LINE_BYTES} bytes")
                if not line.strip():
                    continue
                message = _line.decode(line)
                _ = message.ts_recv_ns
                yield message
        except (msgspec.MsgspecError, NumberError, UnicodeDecodeError, RecursionError) as error:
            raise CaptureError(f"{path}:{number}: not a captured message: {error}") from error
        except (EOFError, gzip.BadGzipFile) as error:
            raise CaptureError(f"{path}:{number + 1}: damaged gzip data: {error}") from error


def _open(path: Path) -> BinaryIO:
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if gzipped else open(path, "rb")
