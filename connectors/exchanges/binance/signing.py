"""Binance's signatures: HMAC-SHA256 over the parameters exactly as they go out.

Source: binance-spot-api-docs, rest-api.md and web-socket-api.md (request security), read 2026-07-21. Parameters are percent-encoded
before signing (else -1022, since 2026-01-15).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlencode

from connectors.rest import SignedRequest
from connectors.venue_clock import VenueClock


class BinanceSigner:
    """Signs requests of one API key. The secret appears in no repr, log or error."""

    def __init__(self, key: str, secret: str, clock: VenueClock, recv_window_ms: int) -> None:
        self._key = key
        self._secret = secret.encode()
        self._clock = clock
        self.recv_window_ms = recv_window_ms

    def signature(self, payload: str) -> str:
        """Hex HMAC-SHA256 of a payload."""
        return hmac.digest(self._secret, payload.encode(), "sha256").hex()

    def sign(self, method: str, path: str, params: Mapping[str, str]) -> SignedRequest:
        """The query of a REST request. A time stamp in `params` is kept: the journal has it; queries get the present."""
        del method, path  # Binance signs neither
        timed = dict(params)
        timed.setdefault("timestamp", str(self._clock.now_ms()))
        timed.setdefault("recvWindow", str(self.recv_window_ms))
        query = urlencode(timed)
        return SignedRequest(f"{query}&signature={self.signature(query)}", {"X-MBX-APIKEY": self._key})

    def ws_params(self, params: Mapping[str, str], timestamp_ms: int) -> dict[str, str | int]:
        """The parameters of a WebSocket API request: signed in alphabetical order of their names, unencoded."""
        timed: dict[str, str | int] = {**params, "apiKey": self._key, "recvWindow": self.recv_window_ms, "timestamp": timestamp_ms}
        timed["signature"] = self.signature("&".join([f"{name}={timed[name]}" for name in sorted(timed)]))
        return timed
