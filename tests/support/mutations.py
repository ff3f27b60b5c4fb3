"""Ways in which bytes arrive broken: for fuzz tests of everything that comes from outside."""

from __future__ import annotations

import random
import re

NASTY = (
    b"1e9999999",
    b"NaN",
    b"-",
    b"null",
    b"\x00",
    b"\xff",
    b"9" * 40,
    b"[[[[",
    b'"',
    b"\\ud800",
    b"{}",
    b"_",
    b"\xd9\xa1",
    b" ",
    b"0.0",
)
NASTIER = (b"[" * 200_000, b"9" * 250_000, b'["1","1"],' * 20_000, b" " * 300_000)


def mutate(frame: bytes, rng: random.Random) -> bytes:
    """One of the ways in which frames arrive broken. The frame has a digit and a text in quotes."""
    at = rng.randrange(len(frame))
    match rng.randrange(7):
        case 0:
            return frame[:at]
        case 1:
            return frame[:at] + bytes([rng.randrange(256)]) + frame[at + 1 :]
        case 2:
            nasty = rng.choice(NASTIER if rng.random() < 0.005 else NASTY)
            return frame[:at] + nasty + frame[at:]
        case 3:
            at = rng.choice([index for index, byte in enumerate(frame) if 48 <= byte <= 57])
            return frame[:at] + bytes([rng.randrange(48, 58)]) + frame[at + 1 :]
        case 4:
            return frame[:at] + frame[at + rng.randrange(1, 12) :]
        case 5:
            end = at + rng.randrange(1, 40)
            return frame[:at] + frame[at:end] * rng.randrange(2, 5) + frame[end:]
        case _:
            found = rng.choice(list(re.finditer(rb'"[^"]*"', frame)))
            nasty = rng.choice(NASTY)
            return frame[: found.start()] + rng.choice([b'"' + nasty + b'"', nasty, b"[]"]) + frame[found.end() :]
