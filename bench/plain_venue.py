"""The least that a venue must say for the real connector to trade on it: one market, one account, every order filled at once.

It keeps no book and checks nothing, so that what is measured is our side. It notes when each order arrived.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec

PRICE = "60000.05"
LIMITS = [
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 1_000_000, "count": 0},
    {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 100_000_000, "count": 0},
]
SYMBOL = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "orderTypes": ["LIMIT", "MARKET"],
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
        {"filterType": "NOTIONAL", "minNotional": "5", "maxNotional": "9000000"},
    ],
}


class PlainVenue:
    def __init__(self) -> None:
        self.received_ns: dict[str, int] = {}
        self._decode = msgspec.json.Decoder().decode
        self._balances = {"USDT": 10_000_000.0, "BTC": 0.0}

    def body(self, path: str) -> bytes:
        """The answer to a REST request by the end of its path."""
        now_ms = _now_ms()
        answers: dict[str, Any] = {
            "exchangeInfo": {"symbols": [SYMBOL]},
            "time": {"serverTime": now_ms},
            "account": {"balances": self._shown(), "updateTime": now_ms, "canTrade": True, "canWithdraw": False},
        }
        return msgspec.json.encode(answers.get(path.rpartition("/")[2], []))

    def answers(self, request: bytes, received_ns: int) -> Iterator[bytes]:
        """What the WebSocket API says to a request: its answer, and for an order the account events."""
        message = self._decode(request)
        if message["method"] != "order.place":
            yield msgspec.json.encode({"id": message["id"], "status": 200, "result": {"subscriptionId": 0}, "rateLimits": LIMITS})
            return
        params = message["params"]
        self.received_ns[params["newClientOrderId"]] = received_ns
        number = len(self.received_ns)
        quantity, side = params["quantity"], params["side"]
        sign = 1 if side == "BUY" else -1
        self._balances["BTC"] += sign * float(quantity)
        self._balances["USDT"] -= sign * float(quantity) * float(PRICE)
        quote = f"{float(quantity) * float(PRICE):.7f}"
        now_ms = _now_ms()
        common = {"symbol": "BTCUSDT", "orderId": number, "clientOrderId": params["newClientOrderId"], "transactTime": now_ms}
        amounts = {"price": "0", "origQty": quantity, "executedQty": quantity, "cummulativeQuoteQty": quote, "status": "FILLED"}
        kind = {"timeInForce": "GTC", "type": params["type"], "side": side, "time": now_ms, "updateTime": now_ms}
        fill = {"price": PRICE, "qty": quantity, "commission": "0", "commissionAsset": "USDT", "tradeId": number}
        yield msgspec.json.encode({"id": message["id"], "status": 200, "result": {**common, **amounts, **kind, "fills": [fill]}})
        position = {
            "e": "outboundAccountPosition",
            "E": now_ms,
            "u": now_ms,
            "B": [{"a": b["asset"], "f": b["free"], "l": "0"} for b in self._shown()],
        }
        yield msgspec.json.encode({"subscriptionId": 0, "event": position})

    def _shown(self) -> list[dict[str, str]]:
        return [{"asset": asset, "free": f"{amount:.8f}", "locked": "0"} for asset, amount in self._balances.items()]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
