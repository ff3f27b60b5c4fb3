"""Text for Telegram: styled by the line, escaped, split into messages that it takes, and readable without markup too.

A style belongs to a whole line, so that a cut between two lines never breaks a tag.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

MAX_UNITS = 4096
"""What one message holds, in UTF-16 code units after the markup is taken away."""

MAX_CAPTION_UNITS = 1024
MAX_MESSAGES = 4
"""A text that needs more messages than this is cut, with a notice."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Style(Enum):
    PLAIN = "{}"
    BOLD = "<b>{}</b>"
    TABLE = "<pre>{}</pre>"  # consecutive lines share one block of fixed width


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a message, or several of the same style: `text` may have line breaks and any characters."""

    text: str
    style: Style = Style.PLAIN


@dataclass(frozen=True, slots=True)
class Rendered:
    """One message in both forms; `plain` is for when Telegram cannot parse the other."""

    html: str
    plain: str


def plain(*texts: str) -> list[Line]:
    """Lines without a style."""
    return [Line(text) for text in texts]


def bold(text: str) -> Line:
    return Line(text, Style.BOLD)


def table(rows: Sequence[Sequence[str]], *, right: Iterable[int] = ()) -> list[Line]:
    """Rows of cells as aligned columns, the first row being the head; the columns in `right` are aligned there."""
    if not rows:
        return []
    to_right = frozenset(right)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = []
    for row in rows:
        cells = [
            cell.rjust(width) if index in to_right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        texts.append(" ".join(cells).rstrip())
    return [Line(text, Style.TABLE) for text in texts]


def render(lines: Iterable[Line], *, max_units: int = MAX_UNITS, max_messages: int = MAX_MESSAGES) -> list[Rendered]:
    """The messages that say all of this, in order; at least one."""
    messages: list[list[Line]] = [[]]
    room = max_units
    for line in _pieces(lines, max_units):
        needed = units(line.text) + 1
        if needed > room + 1:  # the last line of a message has no line break after it
            messages.append([])
            room = max_units
        messages[-1].append(line)
        room -= needed
    if len(messages) > max_messages:
        left_out = sum(len(message) for message in messages[max_messages:])
        messages = messages[:max_messages]
        _add_notice(messages[-1], f"… {left_out} more lines left out", max_units)
    return [_rendered(message) for message in messages if any(line.text.strip() for line in message)] or [Rendered("-", "-")]


def caption(text: str) -> str:
    """Plain text that fits below a picture."""
    return cut(clean(text), MAX_CAPTION_UNITS)


def clean(text: str) -> str:
    """The text without control characters and halves of characters, which no message can carry."""
    return _CONTROL.sub("�", text.replace("\r\n", "\n")).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def units(text: str) -> int:
    """The length as Telegram counts it."""
    return len(text.encode("utf-16-le")) // 2


def cut(text: str, max_units: int) -> str:
    """At most `max_units` of the text, ending in … when something is missing; never half a character."""
    if units(text) <= max_units:
        return text
    kept = text[: max_units - 1]
    while units(kept) > max_units - 1:
        kept = kept[:-1]
    return kept + "…"


def _pieces(lines: Iterable[Line], max_units: int) -> Iterator[Line]:
    """Single lines, none longer than a message."""
    for line in lines:
        for text in clean(line.text).split("\n"):
            rest = text
            while units(rest) > max_units:
                head = cut(rest, max_units + 1)[:-1]
                yield Line(head, line.style)
                rest = rest[len(head) :]
            yield Line(rest, line.style)


def _add_notice(message: list[Line], notice: str, max_units: int) -> None:
    while message and sum(units(line.text) + 1 for line in message) + units(notice) > max_units:
        message.pop()
    message.append(Line(notice))


def _rendered(lines: list[Line]) -> Rendered:
    blocks: list[str] = []
    rows: list[str] = []
    for line in lines:
        escaped = html.escape(line.text, quote=False)
        if line.style is Style.TABLE:
            rows.append(escaped)
            continue
        if rows:
            blocks.append(Style.TABLE.value.format("\n".join(rows)))
            rows = []
        blocks.append(line.style.value.format(escaped) if line.text else "")
    if rows:
        blocks.append(Style.TABLE.value.format("\n".join(rows)))
    return Rendered("\n".join(blocks), "\n".join(line.text for line in lines))
