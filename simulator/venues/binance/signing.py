"""Who asks, and whether the request is fresh: keys, HMAC signatures, recvWindow.

Source: https://github.com/binance/binance-spot-api-docs/blob/master/rest-api.md ("Request Security"), read 2026-11-21.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.clock import now_ns
from simulator.accounts import Credential, Keyring
from simulator.venues.binance.errors import ApiError, mandatory
from simulator.venues.binance.params import Params

_SIGNATURE = re.compile(r"(?:^|&)signature=([^&]*)")
_KEY = re.compile(r"[A-Za-z0-9]{1,128}", re.ASCII)
_WINDOW = re.compile(r"[0-9]{1,5}(\.[0-9]{1,3})?", re.ASCII)
DEFAULT_WINDOW_MS = 5000.0
MAX_WINDOW_MS = 60_000.0
AHEAD_MS = 1000.0
_MICROSECONDS_FROM = 10**14  # larger timestamps count microseconds


@dataclass(frozen=True, slots=True)
class Window:
    """When a request was stamped and for how long it stays good, in milliseconds."""

    timestamp_ms: float
    recv_window_ms: float

    def check(self) -> None:
        """Raise -1021 unless the server's clock is inside; called on arrival, and again just before the matching engine."""
        server_ms = now_ns() / 1e6
        if self.timestamp_ms >= server_ms + AHEAD_MS:
            raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if server_ms - self.timestamp_ms > self.recv_window_ms:
            raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")


def unsigned_text(query: str, body: str) -> tuple[str, str]:
    """What a REST request signs (query and body as sent, without the signature) and the signature ('' when absent)."""
    payload, found = "", ""
    for part in (query, body):
        match = _SIGNATURE.search(part)
        if match:
            found = match[1]
            part = part[: match.start()] + part[match.end() :]  # noqa: PLW2901 the part without its signature
        payload += part
    return payload, found


def sorted_text(params: Mapping[str, str]) -> str:
    """What a WebSocket API request signs: its parameters in the order of their names."""
    return "&".join(f"{name}={params[name]}" for name in sorted(params) if name != "signature")


def known_key(keyring: Keyring, key: str | None, *, trade: bool) -> Credential:
    """The credential of an API key; raises -2014 or -2015."""
    if key is None or not _KEY.fullmatch(key):
        raise ApiError(-2014, "API-key format invalid.", status=401)
    credential = keyring.find(key)
    if credential is None or (trade and not credential.may_trade):
        raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", status=401)
    return credential


def check_signature(credential: Credential, payload: str, signature: str) -> None:
    """Raise -1102 or -1022 unless `signature` is the payload's; its letters may have either case."""
    if not signature:
        raise mandatory("signature")
    expected = hmac.new(credential.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.lower().encode()):
        raise ApiError(-1022, "Signature for this request is not valid.")


def window_of(params: Params) -> Window:
    """Read `timestamp` and `recvWindow`; raises -1102 or -1131."""
    timestamp = params.integer("timestamp")
    if timestamp is None:
        raise mandatory("timestamp")
    text = params.text("recvWindow")
    window_ms = DEFAULT_WINDOW_MS
    if text is not None:
        if not _WINDOW.fullmatch(text) or float(text) > MAX_WINDOW_MS:
            raise ApiError(-1131, "recvWindow must be less than 60000")
        window_ms = float(text)
    return Window(timestamp / 1000 if timestamp >= _MICROSECONDS_FROM else float(timestamp), window_ms)
