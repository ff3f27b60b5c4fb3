"""What Telegram hands us, read with suspicion: everything but a plain new message or a fresh button press does nothing.

Whoever can write to the bot chooses what is in an update: an unknown form is ignored with its reason, and never an error.
Source: https://core.telegram.org/bots/api#update, read 2026-11-21.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

MAX_COMMAND = 512
"""Characters of a message that are looked at."""

_FORWARDED: Final = (
    "forward_origin",
    "forward_from",
    "forward_from_chat",
    "forward_from_message_id",
    "forward_sender_name",
    "forward_signature",
    "forward_date",
    "is_automatic_forward",
)
_SOMEBODY_ELSE: Final = ("sender_chat", "via_bot", "business_connection_id", "sender_business_bot", "guest_bot_caller_user")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who speaks where. `private` is the user's own chat with the bot."""

    user_id: int
    chat_id: int
    private: bool


@dataclass(frozen=True, slots=True)
class TextMessage:
    """A new message with text; `date_s` is Telegram's clock, UTC seconds."""

    update_id: int
    sender: Sender
    message_id: int
    date_s: int
    text: str


@dataclass(frozen=True, slots=True)
class ButtonPress:
    """A press on an inline button below the message `message_id` of this bot."""

    update_id: int
    sender: Sender
    message_id: int
    query_id: str
    data: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """An update without effect. `update_id` is 0 when it has none."""

    update_id: int
    reason: str


Incoming = TextMessage | ButtonPress | Ignored


class _User(msgspec.Struct):
    id: int
    is_bot: bool = False


class _Chat(msgspec.Struct):
    id: int
    type: str


class _Message(msgspec.Struct):
    message_id: int
    chat: _Chat
    date: int
    from_: _User | None = msgspec.field(default=None, name="from")
    text: str = ""
    edit_date: int = 0


class _CallbackQuery(msgspec.Struct):
    id: str
    from_: _User = msgspec.field(name="from")
    message: _Message
    data: str = ""


def read_update(raw: Any, bot_id: int) -> Incoming:
    """Make of one element of getUpdates what it may mean to us."""
    update_id = raw.get("update_id") if isinstance(raw, dict) else None
    if not isinstance(update_id, int) or isinstance(update_id, bool) or update_id <= 0:
        return Ignored(0, "no update")
    kinds = [key for key in raw if key != "update_id"]
    if kinds not in (["message"], ["callback_query"]):
        return Ignored(update_id, f"a kind that does nothing: {_names(kinds)}")
    content = raw[kinds[0]]
    try:
        if kinds == ["message"]:
            return _text_message(update_id, content)
        return _button_press(update_id, content, bot_id)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        return Ignored(update_id, f"unknown form: {error}")


def _text_message(update_id: int, content: Any) -> TextMessage | Ignored:
    message = msgspec.convert(content, _Message)
    foreign = _foreign(content)
    if foreign:
        return Ignored(update_id, foreign)
    if message.edit_date:
        return Ignored(update_id, "an edited message")
    if message.from_ is None or message.from_.is_bot:
        return Ignored(update_id, "not from a person")
    if not message.text:
        return Ignored(update_id, "no text")
    sender = _sender(message.from_, message.chat)
    return TextMessage(update_id, sender, message.message_id, message.date, message.text[:MAX_COMMAND])


def _button_press(update_id: int, content: Any, bot_id: int) -> ButtonPress | Ignored:
    query = msgspec.convert(content, _CallbackQuery)
    message = query.message
    foreign = _foreign(content["message"])
    if foreign:
        return Ignored(update_id, f"a button of {foreign}")
    if not message.date or message.from_ is None or message.from_.id != bot_id:
        return Ignored(update_id, "a button of a message that is too old or not ours")
    if query.from_.is_bot:
        return Ignored(update_id, "not from a person")
    if not query.data:
        return Ignored(update_id, "no data")
    sender = _sender(query.from_, message.chat)
    return ButtonPress(update_id, sender, message.message_id, query.id, query.data[:MAX_COMMAND])


def _foreign(message: Any) -> str:
    """Why the text of a message is not the sender's own word; empty when it is."""
    for names, reason in ((_FORWARDED, "a forwarded message"), (_SOMEBODY_ELSE, "a message in another's name")):
        if any(message.get(name) not in (None, False) for name in names):
            return reason
    return ""


def _sender(user: _User, chat: _Chat) -> Sender:
    return Sender(user.id, chat.id, chat.type == "private" and chat.id == user.id)


def _names(kinds: list[Any]) -> str:
    return ", ".join(str(kind)[:40] for kind in kinds[:4]) or "nothing"
