"""Posting JSON to an address that a person configured, without being led into the own network (reference/faults.md A10).

Every address is checked in the moment of connecting, whatever a name resolved to; redirects and proxies of the environment are not
followed; answers are bounded in size and time. The URL is a secret: it shows in no log and no exception.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from pydantic import SecretStr

from alerts.notification import RetryLater, Undeliverable

MAX_ANSWER_BYTES = 16_384
CLIENT_TIMEOUT_STATUS, TOO_EARLY, TOO_MANY = 408, 425, 429
MAX_RETRY_AFTER_S = 3600.0


class BadAddress(ValueError):
    """The configured URL cannot be used; the text names the setting, not the URL."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the far side said: the status, its Retry-After in seconds if there was one, and the beginning of the body."""

    status: int
    retry_after_s: float | None
    body: bytes


class GuardedPost:
    """Posts to one secret URL. `name` stands for it in every error."""

    def __init__(self, name: str, url: SecretStr, *, private_addresses: bool, timeout_s: float) -> None:
        parts = urlsplit(url.get_secret_value())
        try:
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise BadAddress(f"the URL of {name} is not one of http:// or https://")
        if parts.scheme == "http" and not private_addresses:
            raise BadAddress(
                f"the URL of {name} must begin with https:// (http:// only with alerts.{name}.private_addresses: true)"
            )
        self.name = name
        self._url = url
        self._private_addresses = private_addresses
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: Mapping[str, Any]) -> Answer:
        """Post `body` as JSON; returns an answer of success. Raises RetryLater or Undeliverable."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=1, socket_factory=self._socket, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout, trust_env=False)
        headers = {"Content-Type": "application/json", "User-Agent": "tradebot"}
        data = msgspec.json.encode(body)
        try:
            async with self._session.post(self._url.get_secret_value(), data=data, headers=headers, allow_redirects=False) as reply:
                answer = Answer(reply.status, _retry_after_s(reply.headers), await reply.content.read(MAX_ANSWER_BYTES))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            refused = _refused_address(error)
            if refused is not None:
                raise Undeliverable(refused.text) from None
            raise RetryLater(None, f"{self.name} cannot be reached: {_kind(error)}") from None  # its text holds the URL
        except ValueError as error:
            raise Undeliverable(f"{self.name}: {type(error).__name__} in the URL") from None
        return self._judged(answer)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _judged(self, answer: Answer) -> Answer:
        status = answer.status
        if 200 <= status < 300:
            return answer
        if status == TOO_MANY or status >= 500 or status in (CLIENT_TIMEOUT_STATUS, TOO_EARLY):
            raise RetryLater(answer.retry_after_s, f"{self.name} answered {status}")
        if 300 <= status < 400:
            raise Undeliverable(f"{self.name} answered {status}: redirects are not followed")
        raise Undeliverable(f"{self.name} answered {status}")

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The socket for one address that is about to be connected to."""
        family, kind, protocol, _, address = info
        if not self._private_addresses and not is_public(address[0]):
            raise _AddressRefused(self.name)
        return socket.socket(family=family, type=kind, proto=protocol)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet: not loopback, private, link-local, shared, multicast or reserved.

    An IPv4 address inside an IPv6 one (mapped, 6to4, Teredo, NAT64) counts as itself.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        if found in _NAT64:
            inner.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
        hidden = [each for each in inner if each is not None]
        if hidden:
            return all(is_public(str(each)) for each in hidden)
    return found.is_global and not found.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class _AddressRefused(OSError):
    """The name leads to an address that must not be connected to."""

    def __init__(self, name: str) -> None:
        self.text = f"{name}: its address is not public; if it is meant, set alerts.{name}.private_addresses: true"
        super().__init__(self.text)


def _refused_address(error: BaseException) -> _AddressRefused | None:
    """The refusal inside an exception of the client, which wraps what its sockets raise."""
    if isinstance(error, _AddressRefused):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for each in error.exceptions if (found := _refused_address(each))), None)
    inner = getattr(error, "os_error", None) or error.__cause__ or error.__context__
    return _refused_address(inner) if inner is not None and inner is not error else None


def _kind(error: BaseException) -> str:
    """What went wrong, without the texts of the client, which hold the URL."""
    inner = getattr(error, "os_error", None)
    reason = getattr(inner, "strerror", None)
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}" + (f" ({reason})" if reason and "://" not in str(reason) else "")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; a date is not worth parsing: the usual wait does."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if seconds == seconds else None  # noqa: PLR0124 NaN is no number
