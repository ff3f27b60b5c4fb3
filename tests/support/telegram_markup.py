"""What the local Bot API server makes of markup: HTML as Telegram parses it, and lengths as Telegram counts them."""

from __future__ import annotations

import html
import re

TAGS = frozenset(
    ["b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "span", "tg-spoiler", "tg-emoji", "a", "code", "pre", "blockquote"]
)
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9-]*)([^<>]*)>")


class Refused(Exception):
    """An answer with ok: false."""

    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.code, self.description, self.parameters = code, description, parameters


def utf16_length(text: str) -> int:
    """The length as Telegram counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def shown_html(text: str) -> str:
    """What a person reads of HTML markup; raises Refused as the server does when it cannot be parsed."""
    shown: list[str] = []
    opened: list[str] = []
    position = 0
    while position < len(text):
        if text[position] != "<":
            end = text.find("<", position)
            end = len(text) if end < 0 else end
            shown.append(text[position:end])
            position = end
            continue
        at = len(text[:position].encode())
        found = _TAG.match(text, position)
        if found is None:
            raise Refused(
                400, f'Bad Request: can\'t parse entities: Unsupported start tag "{text[position + 1 :][:8]}" at byte offset {at}'
            )
        closing, name = found[1], found[2].lower()
        if not closing:
            if name not in TAGS:
                raise Refused(400, f'Bad Request: can\'t parse entities: Unsupported start tag "{name}" at byte offset {at}')
            opened.append(name)
        elif not opened:
            raise Refused(400, f"Bad Request: can't parse entities: Unexpected end tag at byte offset {at}")
        elif (expected := opened.pop()) != name:
            text_ = f'Unmatched end tag at byte offset {at}, expected "</{expected}>", found "</{name}>"'
            raise Refused(400, f"Bad Request: can't parse entities: {text_}")
        position = found.end()
    if opened:
        raise Refused(400, f"Bad Request: can't parse entities: Can't find end tag corresponding to start tag \"{opened[-1]}\"")
    return re.sub(r"&(lt|gt|amp|quot|#\d+|#x[0-9a-fA-F]+);", lambda entity: html.unescape(entity[0]), "".join(shown))
