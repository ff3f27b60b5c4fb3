"""A light client of Telegram's Bot API: the six methods that we need, over aiohttp.

Source: https://core.telegram.org/bots/api, read 2026-11-21. The token is part of every URL there, so URLs exist in one function
only, no exception of the HTTP library leaves it, and ours hold neither of both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
import msgspec
from pydantic import SecretStr
from yarl import URL

T = TypeVar("T")

TIMEOUT_S = 15.0
POLL_S = 25
POLL_GRACE_S = 10.0
MAX_ANSWER_BYTES = 8_000_000
MAX_REASON = 300
DEFAULT_RETRY_S = 5.0
HIDDEN = "***"
ALLOWED_UPDATES = ("message", "callback_query")
"""What Telegram shall send at all; edits, channel posts and the rest never reach us, and are ignored if they do."""


class TelegramError(Exception):
    """A call failed. The text is for people, and never holds the token or a URL."""


class Unreachable(TelegramError):
    """No usable answer: whether the call took effect is unknown. Try again later."""


class FloodControl(TelegramError):
    """Too many calls: nothing was done; ask again after `retry_after_s`."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"Telegram asks to wait {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class TokenRefused(TelegramError):
    """Telegram knows no bot with this token: a person has to mend that."""


class Conflict(TelegramError):
    """Somebody else takes this bot's updates."""


class Refused(TelegramError):
    """Telegram understood and will never do this; `code` is 400 to 499, `reason` its own words."""

    def __init__(self, code: int, reason: str, migrated_to: int = 0) -> None:
        super().__init__(f"Telegram refuses ({code}): {reason}")
        self.code = code
        self.reason = reason
        self.migrated_to = migrated_to

    @property
    def unparsable(self) -> bool:
        """Whether the markup is at fault: the same text without markup may pass."""
        return "can't parse entities" in self.reason

    @property
    def needs_a_person(self) -> bool:
        """Whether the receiver can undo it: by writing to the bot, letting it in again, or naming the right chat."""
        return self.code == 403 or "chat not found" in self.reason


class _Parameters(msgspec.Struct, frozen=True):
    retry_after: float = 0.0
    migrate_to_chat_id: int = 0


class _Answer(msgspec.Struct):
    ok: bool
    result: Any = None
    description: str = ""
    parameters: _Parameters = _Parameters()


class BotUser(msgspec.Struct):
    """Who we are, as Telegram says."""

    id: int
    username: str = ""


class _SentMessage(msgspec.Struct):
    message_id: int


Button = tuple[str, str]
"""What an inline button says, and the data (1 to 64 bytes) that comes back when it is pressed."""


class BotApi:
    """One bot. Every call raises a TelegramError when it does not succeed; nothing is repeated here."""

    def __init__(self, token: SecretStr, api_url: str) -> None:
        self._token = token
        self._api_url = api_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get_me(self) -> BotUser:
        """Who this token belongs to: the check that it is right."""
        return await self._call("getMe", BotUser, {})

    async def get_updates(self, offset: int, wait_s: int = POLL_S) -> list[Any]:
        """Updates from `offset` on (which confirms all before), waiting up to `wait_s` for the first one."""
        params = {"offset": offset, "timeout": wait_s, "allowed_updates": ALLOWED_UPDATES}
        return await self._call("getUpdates", list[Any], params, timeout_s=wait_s + POLL_GRACE_S)

    async def send_message(
        self, chat_id: int, text: str, *, html: bool, silent: bool = False, buttons: Sequence[Button] = ()
    ) -> int:
        """Send up to 4096 UTF-16 units; returns the id of the message."""
        params: dict[str, Any] = {
            "chat_id": chat_id,
            "text": text,
            "disable_notification": silent,
            "link_preview_options": {"is_disabled": True},
        }
        if html:
            params["parse_mode"] = "HTML"
        if buttons:
            row = [{"text": label, "callback_data": data} for label, data in buttons]
            params["reply_markup"] = {"inline_keyboard": [row]}
        return (await self._call("sendMessage", _SentMessage, params)).message_id

    async def send_photo(self, chat_id: int, png: bytes, caption: str) -> int:
        """Send a picture with a plain caption of up to 1024 UTF-16 units; returns the id of the message."""
        form = aiohttp.FormData()
        form.add_field("chat_id", str(chat_id))
        form.add_field("caption", caption)
        form.add_field("photo", png, filename="chart.png", content_type="image/png")
        return (await self._call("sendPhoto", _SentMessage, form)).message_id

    async def answer_callback_query(self, query_id: str, text: str = "") -> None:
        """End the waiting sign on a pressed button, with a short text above the chat."""
        await self._call("answerCallbackQuery", bool, {"callback_query_id": query_id, "text": text[:200]})

    async def set_my_commands(self, commands: Mapping[str, str]) -> None:
        """What the menu of the chat offers: name to description."""
        listed = [{"command": name, "description": description} for name, description in commands.items()]
        await self._call("setMyCommands", bool, {"commands": listed})

    async def _call(
        self, method: str, result: type[T], params: Mapping[str, Any] | aiohttp.FormData, timeout_s: float = TIMEOUT_S
    ) -> T:
        status, body, trouble = await self._exchange(method, params, timeout_s)
        if trouble:
            raise Unreachable(f"Telegram does not answer {method}: {trouble}")
        answer = _decoded(body)
        if answer is None:
            raise Unreachable(f"{method} was answered with HTTP status {status} and no JSON: is alerts.telegram.api_url right?")
        if not answer.ok:
            raise self._error(status, answer)
        try:
            return msgspec.convert(answer.result, type=result)
        except msgspec.ValidationError as error:
            raise Unreachable(f"{method} was answered with an unknown form of result: {error}") from None

    async def _exchange(
        self, method: str, params: Mapping[str, Any] | aiohttp.FormData, timeout_s: float
    ) -> tuple[int, bytes, str]:
        """HTTP status, body, and what went wrong instead. Raises nothing: an exception from here could show the URL."""
        token = self._token.get_secret_value()
        body: dict[str, Any] = {"data": params} if isinstance(params, aiohttp.FormData) else {"json": params}
        limit = aiohttp.ClientTimeout(total=timeout_s)
        try:
            url = URL(f"{self._api_url}/bot{token}/{method}", encoded=True)
            async with self._opened().post(url, timeout=limit, allow_redirects=False, **body) as response:
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        return response.status, b"", f"more than {MAX_ANSWER_BYTES} bytes"
                return response.status, bytes(content).replace(token.encode(), HIDDEN.encode()), ""
        except TimeoutError:
            return 0, b"", f"no answer within {timeout_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            words = error.strerror if isinstance(error, OSError) else ""
            return 0, b"", f"{type(error).__name__} {words or ''}".rstrip().replace(token, HIDDEN)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                json_serialize=json.dumps,  # it escapes what is no valid Unicode, where faster ones raise
                trust_env=self._api_url.startswith("https:"),  # a proxy sees the token in plain http
            )
        return self._session

    @staticmethod
    def _error(status: int, answer: _Answer) -> TelegramError:
        reason = (answer.description or "no reason given")[:MAX_REASON]
        match status:
            case 401 | 404:
                return TokenRefused(f"Telegram does not know this bot ({reason}): check TELEGRAM_BOT_TOKEN")
            case 409:
                return Conflict(reason)
            case 429:
                return FloodControl(max(1.0, answer.parameters.retry_after or DEFAULT_RETRY_S))
            case _ if 400 <= status < 500:
                return Refused(status, reason, answer.parameters.migrate_to_chat_id)
            case _:
                return Unreachable(f"Telegram has trouble of its own ({status}): {reason}")


def _decoded(body: bytes) -> _Answer | None:
    """The answer in a body, None when there is none. Read leniently: one half character in one update must not hide the others."""
    try:
        return msgspec.convert(json.loads(body), type=_Answer)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
