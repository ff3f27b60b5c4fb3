"""HTTP requests to a venue: bounded in time and size, counted, and a signed one is never sent twice by any library.

aiohttp sends a GET or DELETE a second time when a kept-alive connection breaks (`retry_persistent_connection`). For signed requests
a client middleware turns that breakage into an error which aiohttp does not repeat, and every request that changes something gets a
connection of its own, so that a stale one cannot turn a fresh order into an UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from connectors.errors import AnswerLost, BadResponse, ExchangeError, NotSent, OrderOutcomeUnknown, RateLimited
from connectors.rate_budget import Lane, RateBudget
from runtime import metrics

MAX_BODY_BYTES = 32 << 20
DEFAULT_SILENCE_S = 60.0
"""How long a 429 without a Retry-After silences us."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What goes out: the query exactly as it was signed, and the headers that carry the key."""

    query: str
    headers: Mapping[str, str]


class Signer(Protocol):
    """Makes a request the account's own. Called after every check, immediately before sending."""

    def sign(self, method: str, path: str, params: Mapping[str, str]) -> SignedRequest: ...


class ErrorReader(Protocol):
    """Names the error that a venue's answer means; the table is the venue's."""

    def __call__(self, status: int, body: bytes) -> ExchangeError: ...


class RestClient:
    """Requests to one base URL. Use as an async context manager.

    Raises NotSent when no byte left, RateLimited when the budget or the venue forbids, AnswerLost or BadResponse when an answer is
    missing or unreadable, and what `read_error` makes of the venue's own errors. A request that changes something
    raises OrderOutcomeUnknown in place of AnswerLost and BadResponse.
    """

    def __init__(
        self,
        base_url: str,
        budget: RateBudget,
        *,
        read_error: ErrorReader,
        signer: Signer | None = None,
        timeout_s: float = 10.0,
        weight_header: str = "",
    ) -> None:
        """`weight_header` names the answer's header with the weight used in this minute, if the venue has one."""
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._read_error = read_error
        self._signer = signer
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(5.0, timeout_s))
        self._weight_header = weight_header
        self._reading: aiohttp.ClientSession | None = None
        self._changing: aiohttp.ClientSession | None = None
        self.requests = 0
        self.failures = 0
        labels = {"host": str(URL(self._base_url).host)}
        metrics.expose_counter("tradebot_rest_requests", "Requests by HTTP", labels, lambda: self.requests)
        metrics.expose_counter("tradebot_rest_failures", "Requests by HTTP without a usable answer", labels, lambda: self.failures)

    async def __aenter__(self) -> RestClient:
        self._reading = self._session(aiohttp.TCPConnector(limit=8, keepalive_timeout=15.0))
        self._changing = self._session(aiohttp.TCPConnector(limit=8, force_close=True))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for session in (self._reading, self._changing):
            if session is not None:
                await session.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            request_class=_CheckedRequest,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "tradebot"},
        )

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        weight: int,
        lane: Lane = Lane.HISTORY,
        shape: type[T],
    ) -> T:
        """Public data, decoded as `shape` (a msgspec type). May be repeated by the caller."""
        await self._budget.take(weight, lane)
        body = await self._exchange("GET", path, urlencode(params or {}), {}, signed=False)
        return self._decoded(body, shape, path)

    async def signed(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        weight: int,
        lane: Lane,
        shape: type[T],
        orders: int = 0,
        last_check: Callable[[], None] | None = None,
    ) -> T:
        """One signed request, sent at most once. Queries (GET) wait for budget; anything else is refused without it.

        `last_check` runs when the connection stands and before the first byte; it raises NotSent to forbid the request.
        """
        if self._signer is None:
            raise NotSent(f"{method} {path}: no API key configured")
        if method == "GET":
            await self._budget.take(weight, lane)
        else:
            self._budget.take_now(weight, lane, orders=orders)
        request = self._signer.sign(method, path, params)
        token = _last_check.set(last_check)
        try:
            body = await self._exchange(method, path, request.query, request.headers, signed=True)
            return self._decoded(body, shape, path)
        except (AnswerLost, BadResponse) as error:
            if method == "GET":
                raise
            raise OrderOutcomeUnknown(error.detail, code=error.code) from error
        finally:
            _last_check.reset(token)

    async def _exchange(self, method: str, path: str, query: str, headers: Mapping[str, str], *, signed: bool) -> bytes:
        session = self._reading if method == "GET" else self._changing
        if session is None:
            raise NotSent(f"{method} {path}: the client is not open")
        url = URL(f"{self._base_url}{path}?{query}" if query else f"{self._base_url}{path}", encoded=True)
        self.requests += 1
        try:
            async with session.request(
                method, url, headers=headers, allow_redirects=False, middlewares=(_sent_once,) if signed else ()
            ) as answer:
                body = await _bounded_body(answer, path)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self.failures += 1
            raise NotSent(f"{method} {path}: no connection to {url.host}:{url.port}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.failures += 1
            raise AnswerLost(f"{method} {path}: {type(error).__name__}: {error}") from error
        except BadResponse:
            self.failures += 1
            raise
        self._adopt_weight(answer)
        if 200 <= answer.status < 300:
            return body
        self.failures += 1
        raise self._explained(answer, body, f"{method} {path}")

    def _decoded(self, body: bytes, shape: type[T], path: str) -> T:
        try:
            return msgspec.json.decode(body, type=shape)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            self.failures += 1
            raise BadResponse(f"{path}: not the documented answer: {error}; it begins {body[:80]!r}") from error

    def _adopt_weight(self, answer: aiohttp.ClientResponse) -> None:
        used = answer.headers.get(self._weight_header, "") if self._weight_header else ""
        if used.isascii() and used.isdigit() and len(used) < 10:
            self._budget.adopt(int(used))

    def _explained(self, answer: aiohttp.ClientResponse, body: bytes, what: str) -> ExchangeError:
        """The error of an answer that is not a success; silences the budget when the venue wants silence."""
        if answer.status in (418, 429):
            silence_s = retry_after_s(answer.headers.get("Retry-After", ""))
            self._budget.silence(silence_s)
            return RateLimited(f"{what}: HTTP {answer.status}", retry_after_s=silence_s)
        return self._read_error(answer.status, body)


def retry_after_s(header: str) -> float:
    """Seconds of a Retry-After header, DEFAULT_SILENCE_S when it is absent or unreadable."""
    return float(header) if header.isascii() and header.isdigit() and len(header) < 8 else DEFAULT_SILENCE_S


_last_check: ContextVar[Callable[[], None] | None] = ContextVar("last_check", default=None)


class _CheckedRequest(aiohttp.ClientRequest):
    """Asks once more, when nothing but writing is left to do."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        check = _last_check.get()
        if check is not None:
            check()
        return await super().send(conn)


class _ConnectionBroken(aiohttp.ClientError):
    """A kept-alive connection broke under a signed request: not of the kinds that aiohttp sends again."""


async def _sent_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a signed request a second time."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise  # nothing was sent, and aiohttp does not repeat these
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionBroken(f"{type(error).__name__}: {error}") from error


async def _bounded_body(answer: aiohttp.ClientResponse, path: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_chunked(65_536):
        size += len(part)
        if size > MAX_BODY_BYTES:
            answer.close()
            raise BadResponse(f"{path}: the answer is larger than {MAX_BODY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
