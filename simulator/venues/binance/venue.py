"""Binance spot around a simulated exchange: wiring of REST, streams and WebSocket API."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from common_models.instruments import Symbol
from runtime.settings import ExchangeSettings
from simulator.exchange import SimulatedExchange
from simulator.faults import Faults
from simulator.recording import Frame, FrameMeaning
from simulator.sockets import SocketRules
from simulator.venues.binance import frames, rest
from simulator.venues.binance.api import Context
from simulator.venues.binance.limits import Limits
from simulator.venues.binance.stream_server import MESSAGES_PER_S, StreamServer
from simulator.venues.binance.streams import Hub, Publisher
from simulator.venues.binance.ws_api import WsApiServer

_QUIET_S = 0.5
"""Clients subscribe in several messages and over several connections: what starts on a subscription waits for the last."""


class RuleChanges(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What the control address may change: limits of requests and orders, and the life of market connections."""

    weight_per_minute: int | None = None
    orders_per_10_s: int | None = None
    orders_per_day: int | None = None
    ping_every_s: float | None = None
    pong_timeout_s: float | None = None
    life_s: float | None = None
    messages_per_s: int | None = None


class BinanceVenue:
    """See `simulator.venue.Venue`."""

    def __init__(self, exchange: SimulatedExchange, settings: ExchangeSettings, faults: Faults) -> None:
        by_native = {market.instrument.native_symbol: market for market in exchange.markets.values()}
        self.limits = Limits(weight_per_minute=settings.weight_per_minute)
        self.context = Context(exchange, self.limits, faults, by_native)
        self.hub = Hub(faults)
        self.rules = SocketRules(messages_per_s=MESSAGES_PER_S)
        self._publisher = Publisher(self.hub, exchange)
        self._streams = StreamServer(self.hub, self.rules)
        self._ws_api = WsApiServer(self.context, SocketRules())
        exchange.trade_listeners.append(self._publisher.on_trades)
        exchange.top_listeners.append(self._publisher.on_top)
        exchange.bar_listeners.append(self._publisher.on_bar)

    @staticmethod
    def native_symbol(symbol: Symbol) -> str:
        return symbol.base + symbol.quote

    @staticmethod
    def read_frame(frame: Frame) -> FrameMeaning:
        return frames.read_frame(frame)

    def add_routes(self, app: web.Application) -> None:
        rest.add_routes(app, self.context)
        self._streams.add_routes(app)
        self._ws_api.add_routes(app)
        app.router.add_post("/simulator/rules", self._change_rules)

    async def run(self) -> None:
        await self._publisher.run()

    async def play(self, frame: Frame, meaning: FrameMeaning, shift_ms: int) -> None:
        text = frames.moved(frame.raw.encode(), shift_ms)
        payload = frames.payload_of(text.decode())
        combined = (
            text
            if payload is not text and text != payload
            else b'{"stream":"%s","data":%s}'
            % (
                meaning.stream.encode(),
                payload,
            )
        )
        self.hub.send_raw(meaning.stream, combined, payload)
        await self.hub.room()

    async def listened(self) -> None:
        await self.hub.subscribed.wait()
        while self.hub.subscribed.is_set():
            self.hub.subscribed.clear()
            await asyncio.sleep(_QUIET_S)

    def will_play(self, streams: set[str]) -> None:
        self.hub.recorded |= streams

    def announce_shutdown(self) -> None:
        self.hub.announce_shutdown()
        self._ws_api.announce_shutdown()

    async def _change_rules(self, request: web.Request) -> web.Response:
        try:
            changes = msgspec.json.decode(await request.read(), type=RuleChanges)
        except msgspec.DecodeError as error:
            return web.Response(status=400, text=str(error))
        for name, value in msgspec.structs.asdict(changes).items():
            if value is not None:
                setattr(self.limits if hasattr(self.limits, name) else self.rules, name, value)
        return web.Response(text="changed")
