"""One way through for every request, over REST or WebSocket: weight, key, signature, clock, faults, then the operation itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from simulator.accounts import Credential
from simulator.exchange import Market, SimulatedExchange
from simulator.faults import FaultPoint, Faults
from simulator.ledger import RequestIdentity
from simulator.venues.binance.errors import ApiError, refused
from simulator.venues.binance.limits import Limits
from simulator.venues.binance.params import Params
from simulator.venues.binance.signing import Window, check_signature, known_key, window_of
from trading.matching_orders import Refused


class Security(Enum):
    """Who may call an operation; all but NONE are signed."""

    NONE = "none"
    TRADE = "trade"
    USER_DATA = "user_data"


@dataclass(slots=True)
class Context:
    """What operations work on."""

    exchange: SimulatedExchange
    limits: Limits
    faults: Faults
    by_native: dict[str, Market]

    def market(self, params: Params) -> Market:
        """The market that `symbol` names; raises -1100, -1102 or -1121."""
        market = self.by_native.get(params.symbol())
        if market is None:
            raise ApiError(-1121, "Invalid symbol.")
        return market

    def native(self, symbol: str) -> str:
        return self.exchange.markets[symbol].instrument.native_symbol


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived. `payload` is what its signature must cover; `may_wait` False skips the fault points."""

    params: Params
    identity: RequestIdentity
    address: str
    api_key: str | None = None
    payload: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operation gets to see: the checked request."""

    context: Context
    params: Params
    identity: RequestIdentity
    account: str = ""
    address: str = ""


Operation = Callable[[Asked], object]
Weight = int | Callable[[Params], int]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation with its price in request weight; `places_order` ones count against the order limits."""

    name: str
    operation: Operation
    weight: Weight = 1
    security: Security = Security.NONE
    places_order: bool = False


async def perform(context: Context, endpoint: Endpoint, call: Call) -> object:
    """Carry out one call and return its JSON-able answer; raises ApiError, or what the fault programme wants instead."""
    weight = endpoint.weight if isinstance(endpoint.weight, int) else endpoint.weight(call.params)
    context.limits.spend(call.address, weight)
    if endpoint.security is Security.NONE:
        await context.faults.pass_point(FaultPoint.BEFORE_ENGINE, endpoint.name, call.payload)
        return endpoint.operation(Asked(context, call.params, call.identity, address=call.address))
    credential, window = authenticate(context, call, trade=endpoint.security is Security.TRADE)
    try:
        await context.faults.pass_point(FaultPoint.BEFORE_ENGINE, endpoint.name, call.payload)
        window.check()
        answer = _operate(context, endpoint, call, credential)
    except ApiError as error:
        if endpoint.security is Security.TRADE:
            client_id = call.params.values.get("newClientOrderId") or call.params.values.get("origClientOrderId") or ""
            context.exchange.refuse(call.identity, client_id[:64], str(error.code), error.message)
        raise
    await context.faults.pass_point(FaultPoint.BEFORE_REPLY, endpoint.name, call.payload)
    return answer


def authenticate(context: Context, call: Call, *, trade: bool) -> tuple[Credential, Window]:
    """Check key, signature and clock of a signed call."""
    credential = known_key(context.exchange.keyring, call.api_key, trade=trade)
    window = window_of(call.params)
    check_signature(credential, call.payload, call.signature)
    window.check()
    return credential, window


def _operate(context: Context, endpoint: Endpoint, call: Call, credential: Credential) -> object:
    if endpoint.places_order:
        context.limits.count_order(credential.account)
    try:
        return endpoint.operation(Asked(context, call.params, call.identity, credential.account, call.address))
    except Refused as error:
        raise refused(error) from error
