"""A local Bot API server: it speaks what https://core.telegram.org/bots/api documents, keeps what a bot sent, and fails on demand.

Written against the documentation and the behaviour of Telegram's own server (tdlib/telegram-bot-api, read 2026-11-21): long polling with
offset and 409 for a second poller, 401 for a wrong token, 429 with retry_after, HTML that is really parsed, lengths in UTF-16 units.

    async with BotApiServer().running() as telegram:
        ... start what has `api_url=telegram.url` and the token `telegram.token`
        telegram.say("/status")
        await eventually(lambda: telegram.texts)
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.telegram_markup import Refused, shown_html, utf16_length

TOKEN = "7000001:AAE-local_Bot-API_server_token_0042x"
OWNER = 501
"""The numeric id of the person who writes to the bot when a test names no other; also the id of the private chat with it."""

MAX_TEXT = 4096
MAX_CAPTION = 1024
POLL_CAP_S = 50
UPDATE_KINDS = frozenset(
    [
        "message",
        "edited_message",
        "channel_post",
        "edited_channel_post",
        "callback_query",
        "inline_query",
        "chosen_inline_result",
        "my_chat_member",
        "poll",
    ]
)
_COMMAND = re.compile(r"[a-z0-9_]{1,32}")


@dataclass
class Fault:
    """What happens to the next `times` calls of `method` ("" is any).

    `code` answers with this error; `hang` never answers; `reset` cuts the connection; `garbage` answers with bytes that are no JSON.
    `too_late` does what was asked first, as when only the answer is lost.
    """

    method: str = ""
    code: int = 0
    description: str = ""
    retry_after: int = 0
    hang: bool = False
    reset: bool = False
    garbage: bytes = b""
    too_late: bool = False
    times: int = 1


@dataclass
class Sent:
    """A message that the server took from the bot. `text` is what a person reads (the caption of a photo)."""

    message_id: int
    chat_id: int
    text: str
    silent: bool
    markup: str = ""
    buttons: list[dict[str, Any]] = field(default_factory=list)
    photo: bytes = b""
    at: float = 0.0


Params = Mapping[str, Any]


class BotApiServer:
    """One bot's server. `sent` has what people got, `calls` how often each method was asked, failed calls included."""

    username = "local_tradebot"
    bot_id = int(TOKEN.partition(":")[0])

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.port = 0
        self.sent: list[Sent] = []
        self.answered: list[dict[str, Any]] = []
        self.commands: list[dict[str, str]] = []
        self.calls: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.chats: set[int] = {OWNER}
        self.blocked: set[int] = set()
        self.webhook = ""
        self.polled: list[dict[str, Any]] = []
        self._queue: dict[int, dict[str, Any]] = {}
        self._again: list[dict[str, Any]] = []
        self._update_ids = itertools.count(880_001)
        self._message_ids = itertools.count(1)
        self._allowed = UPDATE_KINDS
        self._news = asyncio.Event()
        self._poll: asyncio.Future[None] | None = None
        self._handlers: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def texts(self) -> list[str]:
        """What people read, in order."""
        return [message.text for message in self.sent]

    @property
    def pending(self) -> int:
        """Updates that the bot has not confirmed."""
        return len(self._queue) + len(self._again)

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[BotApiServer]:
        """Serve on `port` (0: any) until the block ends; state stays for another run."""
        app = web.Application(client_max_size=60_000_000)
        app.router.add_route("*", "/{bot}/{method}", self._serve)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            self.port = runner.addresses[0][1]
            yield self
        finally:
            for task in self._handlers:
                task.cancel()
            await runner.cleanup()

    # what people do

    def say(self, text: str, user: int = OWNER, chat: int | None = None, age_s: float = 0, **fields: Any) -> int:
        """A message of `user` in `chat` (their private chat by default); returns the update's id."""
        return self.push("message", self.message(text, user, chat, age_s, **fields))

    def press(self, below: Sent, data: str, user: int = OWNER, **fields: Any) -> int:
        """A press on a button below a message of the bot."""
        query = {
            "id": str(next(self._message_ids) * 7919),
            "from": person(user),
            "chat_instance": "1",
            "data": data,
            "message": {
                "message_id": below.message_id,
                "from": self.me,
                "chat": self._chat(below.chat_id),
                "date": int(below.at),
                "text": below.text,
            },
        }
        return self.push("callback_query", {**query, **fields})

    def message(self, text: str, user: int = OWNER, chat: int | None = None, age_s: float = 0, **fields: Any) -> dict[str, Any]:
        """A Message as the API has it."""
        chat_id = user if chat is None else chat
        made: dict[str, Any] = {
            "message_id": next(self._message_ids),
            "from": person(user),
            "chat": self._chat(chat_id),
            "date": int(time.time() - age_s),
            "text": text,
        }
        if text.startswith("/"):
            made["entities"] = [{"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])}]
        return {**made, **fields}

    def push(self, kind: str, content: Any) -> int:
        """Any update under the next id; kinds that the bot did not ask for are dropped."""
        return self.force(kind, content) if kind in self._allowed else 0

    def force(self, kind: str, content: Any) -> int:
        """A new update of any kind, whether the bot asked for that kind or not."""
        update_id = next(self._update_ids)
        self._queue[update_id] = {"update_id": update_id, kind: content}
        self._news.set()
        return update_id

    def replay(self, update_id: int, kind: str, content: Any) -> None:
        """The same update again, whatever the bot has confirmed: as from a server that lost its memory of that."""
        self._again.append({"update_id": update_id, kind: content})
        self._news.set()

    # the API

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        method = request.match_info["method"]
        self.calls[method] += 1
        fault = self._take_fault(method)
        try:
            params = await _params(request)
            if fault is not None and not fault.too_late:
                return await self._fail(request, fault)
            self._authorise(request.match_info["bot"])
            call = getattr(self, "_api_" + re.sub("([A-Z])", r"_\1", method).lower(), None)
            if call is None:
                raise Refused(404, "Not Found")
            result = await call(params)
        except Refused as refused:
            return _refusal(refused)
        if fault is not None:
            return await self._fail(request, fault)
        return web.json_response({"ok": True, "result": result})

    def _take_fault(self, method: str) -> Fault | None:
        for fault in self.faults:
            if fault.method in ("", method):
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                return fault
        return None

    async def _fail(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.hang:
            await asyncio.Event().wait()
        if fault.reset:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault.garbage:
            return web.Response(status=fault.code or 200, body=fault.garbage, content_type="text/html")
        if fault.code == 429:
            return _refusal(Refused(429, f"Too Many Requests: retry after {fault.retry_after}", retry_after=fault.retry_after))
        return _refusal(Refused(fault.code, fault.description or "Internal Server Error"))

    def _authorise(self, bot: str) -> None:
        token = bot.removeprefix("bot")
        if not bot.startswith("bot") or not re.fullmatch(r"\d+:[A-Za-z0-9_-]+", token):
            raise Refused(404, "Not Found")
        if token != self.token:
            raise Refused(401, "Unauthorized")

    @property
    def me(self) -> dict[str, Any]:
        return {"id": self.bot_id, "is_bot": True, "first_name": "Tradebot", "username": self.username}

    async def _api_get_me(self, params: Params) -> dict[str, Any]:
        return {**self.me, "can_join_groups": True, "can_read_all_group_messages": False, "supports_inline_queries": False}

    async def _api_get_updates(self, params: Params) -> list[dict[str, Any]]:
        if self.webhook:
            text = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
            raise Refused(409, text)
        self.polled.append(dict(params))
        offset, limit = int(params.get("offset") or 0), min(100, max(1, int(params.get("limit") or 100)))
        if "allowed_updates" in params:
            self._allowed = frozenset(_listed(params["allowed_updates"])) or UPDATE_KINDS
        found = self._updates(offset, limit)
        timeout_s = min(POLL_CAP_S, int(params.get("timeout") or 0))
        if found or not timeout_s:
            return found
        if self._poll is not None and not self._poll.done():
            text = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
            self._poll.set_exception(Refused(409, text))
        mine = self._poll = asyncio.get_running_loop().create_future()
        await self._wait_for_news(mine, timeout_s)
        return self._updates(offset, limit)

    def _updates(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Confirm what lies before a positive offset; an offset beyond the end starts at the head, as Telegram's queue does."""
        newest = max(self._queue, default=0)
        if offset < 0:
            offset = sorted(self._queue)[offset:][0] if self._queue else 0
        if 0 < offset <= newest + 1:
            for update_id in [update_id for update_id in self._queue if update_id < offset]:
                del self._queue[update_id]
        self._news.clear()
        again, self._again = self._again, []
        return [*again, *(self._queue[update_id] for update_id in sorted(self._queue)[:limit])]

    async def _wait_for_news(self, mine: asyncio.Future[None], timeout_s: float) -> None:
        """Until something comes, the time is up, or another poller takes over (which raises)."""
        news = asyncio.ensure_future(self._news.wait())
        waits: set[asyncio.Future[Any]] = {mine, news}
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if mine.done():
                mine.result()
        finally:
            news.cancel()
            mine.cancel()

    async def _api_send_message(self, params: Params) -> dict[str, Any]:
        text = str(params.get("text", ""))
        shown = self._checked_text(text, str(params.get("parse_mode", "")))
        if not shown.strip():
            raise Refused(400, "Bad Request: message text is empty")
        if utf16_length(shown) > MAX_TEXT:
            raise Refused(400, "Bad Request: message is too long")
        return self._accept(params, shown, text)

    async def _api_send_photo(self, params: Params) -> dict[str, Any]:
        photo = params.get("photo")
        if not isinstance(photo, bytes) or not photo:
            raise Refused(400, "Bad Request: there is no photo in the request")
        if not photo.startswith((b"\x89PNG", b"\xff\xd8")):
            raise Refused(400, "Bad Request: IMAGE_PROCESS_FAILED")
        caption = self._checked_text(str(params.get("caption", "")), str(params.get("parse_mode", "")))
        if utf16_length(caption) > MAX_CAPTION:
            raise Refused(400, "Bad Request: message caption is too long")
        return self._accept(params, caption, str(params.get("caption", "")), photo)

    def _checked_text(self, text: str, parse_mode: str) -> str:
        if not parse_mode:
            return text
        if parse_mode.upper() != "HTML":
            raise Refused(400, "Bad Request: unsupported parse_mode")
        return shown_html(text)

    def _accept(self, params: Params, shown: str, markup: str, photo: bytes = b"") -> dict[str, Any]:
        chat_id = int(params.get("chat_id") or 0)
        if chat_id not in self.chats:
            raise Refused(400, "Bad Request: chat not found")
        if chat_id in self.blocked:
            raise Refused(403, "Forbidden: bot was blocked by the user")
        buttons = _buttons(params.get("reply_markup"))
        silent = str(params.get("disable_notification", "")).lower() in ("true", "1")
        message = Sent(next(self._message_ids), chat_id, shown.strip(), silent, markup, buttons, photo, time.time())
        self.sent.append(message)
        return {
            "message_id": message.message_id,
            "from": self.me,
            "chat": self._chat(chat_id),
            "date": int(message.at),
            "text": shown,
        }

    async def _api_answer_callback_query(self, params: Params) -> bool:
        if not str(params.get("callback_query_id", "")).isdecimal():
            raise Refused(400, "Bad Request: query is too old and response timeout expired or query ID is invalid")
        if utf16_length(str(params.get("text", ""))) > 200:
            raise Refused(400, "Bad Request: MESSAGE_TOO_LONG")
        self.answered.append(dict(params))
        return True

    async def _api_set_my_commands(self, params: Params) -> bool:
        commands = _listed(params.get("commands", "[]"))
        for command in commands:
            if not _COMMAND.fullmatch(command["command"]):
                raise Refused(400, "Bad Request: BOT_COMMAND_INVALID")
            if not 1 <= len(command["description"]) <= 256:
                raise Refused(400, "Bad Request: BOT_COMMAND_DESCRIPTION_INVALID")
        if len(commands) > 100:
            raise Refused(400, "Bad Request: BOT_COMMANDS_TOO_MUCH")
        self.commands = commands
        return True

    def _chat(self, chat_id: int) -> dict[str, Any]:
        if chat_id > 0:
            return {"id": chat_id, "type": "private", "first_name": f"Person {chat_id}"}
        return {"id": chat_id, "type": "supergroup", "title": f"Group {chat_id}"}


def person(user: int, **fields: Any) -> dict[str, Any]:
    """A User as the API has it."""
    return {"id": user, "is_bot": False, "first_name": f"Person {user}", "username": f"person{user}", **fields}


def _buttons(markup: Any) -> list[dict[str, Any]]:
    if not markup:
        return []
    rows = (json.loads(markup) if isinstance(markup, str) else markup).get("inline_keyboard", [])
    buttons = [button for row in rows for button in row]
    for button in buttons:
        if not 1 <= len(button.get("callback_data", "x").encode()) <= 64:
            raise Refused(400, "Bad Request: BUTTON_DATA_INVALID")
    return buttons


def _listed(value: Any) -> list[Any]:
    return list(json.loads(value) if isinstance(value, str) else value)


def _refusal(refused: Refused) -> web.Response:
    body: dict[str, Any] = {"ok": False, "error_code": refused.code, "description": refused.description}
    headers = {}
    if refused.parameters:
        body["parameters"] = refused.parameters
        headers = {"Retry-After": str(refused.parameters.get("retry_after", ""))}
    return web.json_response(body, status=refused.code, headers=headers)


async def _params(request: web.Request) -> dict[str, Any]:
    """Arguments in any of the four documented forms; a file comes as its bytes."""
    params: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json":
        body = await request.read()
        params.update(json.loads(body) if body else {})
    else:
        for name, value in (await request.post()).items():
            params[name] = value.file.read() if isinstance(value, web.FileField) else value
    return params
