"""The words of the matching core: what is asked, what rests, what happened. Venue-neutral, pure data."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from common_models.base import Side
from common_models.commands_events_models import Liquidity, OrderStatus, OrderType, TimeInForce
from common_models.decimals import ZERO


class SelfTrade(StrEnum):
    """What happens when an order meets another one of its own account."""

    NONE = "none"  # they trade with each other
    EXPIRE_TAKER = "expire_taker"
    EXPIRE_MAKER = "expire_maker"
    EXPIRE_BOTH = "expire_both"


class Refusal(StrEnum):
    """Why a request changed nothing."""

    UNKNOWN_SYMBOL = "unknown_symbol"
    HALTED = "halted"
    PRICE_RULE = "price_rule"
    LOT_RULE = "lot_rule"
    MARKET_LOT_RULE = "market_lot_rule"
    NOTIONAL_RULE = "notional_rule"
    PRICE_BAND_RULE = "price_band_rule"
    OPEN_ORDERS_RULE = "open_orders_rule"
    DUPLICATE_CLIENT_ID = "duplicate_client_id"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    WOULD_TAKE = "would_take"
    WOULD_TRIGGER = "would_trigger"
    UNKNOWN_ORDER = "unknown_order"


class Refused(Exception):
    """The request is refused and nothing has changed; `refusal` says why in the core's words."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal.value}: {detail}" if detail else refusal.value)
        self.refusal = refusal
        self.detail = detail


class EndReason(StrEnum):
    """Why an order that was accepted ended without being filled whole."""

    CANCELED = "canceled"
    UNFILLED_IOC = "unfilled_ioc"
    UNFILLED_FOK = "unfilled_fok"
    NO_LIQUIDITY = "no_liquidity"
    SELF_TRADE = "self_trade"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """A wish to trade. Exactly one of `quantity` (base) and `quote_quantity` (quote, market orders only) is set.

    `price` in quote per base for limit and stop-limit orders, `stop_price` for stop-limit; `post_only` for limit orders.
    """

    account: str
    symbol: str
    side: Side
    order_type: OrderType
    client_order_id: str
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    self_trade: SelfTrade = SelfTrade.NONE


@dataclass(slots=True, eq=False)
class Order:
    """An accepted order and how far it has come. Times are UTC nanoseconds as handed in.

    `quantity` is in base; of a market order by quote amount it is what was traded. `locked` is what it still holds of the asset
    that it spends. `resting` says that it stands in the book, and `waiting` that it is a stop whose price has not traded yet.
    """

    order_id: int
    account: str
    symbol: str
    side: Side
    order_type: OrderType
    client_order_id: str
    quantity: Decimal
    price: Decimal | None
    created_ns: int
    quote_quantity: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    self_trade: SelfTrade = SelfTrade.NONE
    status: OrderStatus = OrderStatus.OPEN
    filled: Decimal = ZERO
    filled_quote: Decimal = ZERO
    locked: Decimal = ZERO
    updated_ns: int = 0
    working_ns: int = 0
    end_reason: EndReason | None = None
    resting: bool = False
    waiting: bool = False

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled


class Execution(NamedTuple):
    """One match of a taker with a resting order, at the resting order's price. Each side's fee is in the asset it receives."""

    trade_id: int
    symbol: str
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    ts_ns: int
    maker: Order
    taker: Order
    maker_fee: Decimal
    taker_fee: Decimal


class Happening(StrEnum):
    """What an `OrderEvent` tells."""

    ACCEPTED = "accepted"
    TRIGGERED = "triggered"
    FILLED = "filled"
    ENDED = "ended"


class OrderEvent(NamedTuple):
    """One step of one order, with its state just after that step (the order itself goes on changing)."""

    happening: Happening
    order: Order
    status: OrderStatus
    filled: Decimal
    filled_quote: Decimal
    execution: Execution | None = None
    liquidity: Liquidity | None = None

    @property
    def fee(self) -> Decimal:
        """The order's own fee of a fill, in the asset it received."""
        if self.execution is None:
            return ZERO
        return self.execution.maker_fee if self.liquidity is Liquidity.MAKER else self.execution.taker_fee
