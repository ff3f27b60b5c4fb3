"""What we ask of an exchange account, what it answers, and what the bot thinks in between."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from common_models.base import AccountEvent, Command, Int64, Message, Side
from common_models.decimals import ZERO


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP_LIMIT = "stop_limit"  # rests unseen until `stop_price` trades, then a limit order at `price`


class TimeInForce(StrEnum):
    GTC = "gtc"  # good till cancelled
    IOC = "ioc"  # immediate or cancel: what does not fill at once is cancelled
    FOK = "fok"  # fill or kill: all at once, or nothing


class OrderStatus(StrEnum):
    """DESIGN.md §5. A never-sent order ends REJECTED or EXPIRED with a reason."""

    INTENT = "INTENT"
    SENT = "SENT"
    OPEN = "OPEN"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"

    @property
    def terminal(self) -> bool:
        """Nothing more is expected, though a late fill is still applied."""
        return self in TERMINAL


TERMINAL = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED})


class Liquidity(StrEnum):
    MAKER = "maker"
    TAKER = "taker"


class ControlAction(StrEnum):
    HALT = "halt"  # press the emergency stop: no new risk; cancels and reductions still pass
    RESUME = "resume"  # release it
    PAUSE = "pause"  # no new entries; exits and what was begun go on
    CONTINUE = "continue"  # entries again
    ENABLE = "enable"  # a plugin by name, as the configuration says
    DISABLE = "disable"
    SHADOW = "shadow"  # run a plugin, record its signals, trade none of them
    PROMOTE = "promote"  # let a plugin trade


class PlaceOrder(Command, frozen=True, kw_only=True, tag="place_order"):
    """Buy or sell `quantity` of base currency.

    `price` in quote per base is required for limit and stop-limit orders, `stop_price` for stop-limit.
    `reduce_only` says that the order only closes what is held, so that it passes a pressed emergency stop. `made_by` names the
    plugins that wanted it with their versions, as `sma@1f0c22aa9b3e`. `triggered_ns` is when the frame that moved us left the
    socket, our clock: latency is measured from there (0: unknown).
    """

    symbol: str
    side: Side
    order_type: OrderType
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    reduce_only: bool = False
    made_by: tuple[str, ...] = ()
    triggered_ns: Int64 = 0


class CancelOrder(Command, frozen=True, kw_only=True, tag="cancel_order"):
    """Cancel one order of ours by its client order id."""

    symbol: str
    client_order_id: str


class CancelAll(Command, frozen=True, kw_only=True, tag="cancel_all"):
    """Cancel every open order of the account, or of one symbol."""

    symbol: str | None = None


class AmendOrder(Command, frozen=True, kw_only=True, tag="amend_order"):
    """Change price or quantity of a resting limit order where the venue can; None leaves a value as it is."""

    symbol: str
    client_order_id: str
    price: Decimal | None = None
    quantity: Decimal | None = None


class Control(Message, frozen=True, kw_only=True, tag="control"):
    """A word from a person or a guard to all processes. `target` is an exchange, an account or a plugin; None is everything."""

    action: ControlAction
    actor: str
    reason: str
    created_at_ns: Int64
    target: str | None = None


class OrderUpdate(AccountEvent, frozen=True, kw_only=True, tag="order"):
    """The state of one order after the facts known so far; `revision` only rises.

    `filled_quantity` is in base, `filled_quote` in quote currency: their quotient is the average price. `client_order_id` is ours;
    `external` marks an order that we did not send. `operator_review` says that an UNKNOWN cannot be decided by asking any more.
    """

    client_order_id: str
    symbol: str
    side: Side
    order_type: OrderType
    status: OrderStatus
    quantity: Decimal
    filled_quantity: Decimal
    filled_quote: Decimal
    revision: Int64
    time_in_force: TimeInForce = TimeInForce.GTC
    price: Decimal | None = None
    stop_price: Decimal | None = None
    command_id: str = ""
    strategy: str = ""
    exchange_order_id: str = ""
    code: str = ""  # the venue's, or ours for an order that was never sent
    reason: str = ""
    external: bool = False
    reduce_only: bool = False
    operator_review: bool = False
    made_by: tuple[str, ...] = ()


class Fill(AccountEvent, frozen=True, kw_only=True, tag="fill"):
    """One execution of one of our orders; unique by (exchange, account, symbol, trade_id).

    `fee` is positive when paid, in `fee_asset`; `quote_quantity` is price x quantity.
    """

    trade_id: str
    client_order_id: str
    exchange_order_id: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: Liquidity
    strategy: str = ""
    external: bool = False


class Balance(AccountEvent, frozen=True, kw_only=True, tag="balance"):
    """One asset of the account: `free` to use, `locked` in open orders."""

    asset: str
    free: Decimal
    locked: Decimal

    @property
    def total(self) -> Decimal:
        return self.free + self.locked


class Position(AccountEvent, frozen=True, kw_only=True, tag="position"):
    """What is held of one symbol by one strategy, in lots first in first out.

    `quantity` in base currency (negative when short); `cost` what the open lots cost, `realised` and `unrealised` profit before
    fees and `fees` paid, all in quote currency at `mark_price`.
    """

    symbol: str
    strategy: str
    quantity: Decimal
    cost: Decimal
    realised: Decimal = ZERO
    unrealised: Decimal = ZERO
    fees: Decimal = ZERO
    mark_price: Decimal | None = None


class FundingPayment(AccountEvent, frozen=True, kw_only=True, tag="funding_payment"):
    """Funding received (positive) or paid (negative) on a perpetual position."""

    symbol: str
    payment_id: str
    amount: Decimal
    asset: str
    rate: Decimal | None = None


class Direction(StrEnum):
    BUY = "buy"
    SELL = "sell"
    HOLD = "hold"


class Signal(Message, frozen=True, kw_only=True, tag="signal"):
    """A plugin's opinion. `confidence` and `strength` lie in 0..1; `reason` is for people.

    `ts_event_ns` is the time of the event that gave rise to it, as the deciding clock. `version` begins the SHA-256 of the plugin's
    file; the signals of a plugin in `shadow` are recorded and move nothing.
    """

    strategy: str
    exchange: str
    symbol: str
    direction: Direction
    confidence: float
    strength: float
    reason: str
    ts_event_ns: Int64
    version: str = ""
    shadow: bool = False


class Verdict(StrEnum):
    TAKEN = "taken"
    DENIED = "denied"


class Decision(Message, frozen=True, kw_only=True, tag="decision"):
    """What came of signals: a command, or the gate that stopped it with the numbers that it weighed.

    `code` is CATEGORY_CONDITION in capitals, `numbers` its context as text. `command_id` is empty when nothing was sent.
    """

    strategy: str
    exchange: str
    account: str
    symbol: str
    direction: Direction
    verdict: Verdict
    code: str
    reason: str
    numbers: dict[str, str]
    signals: tuple[str, ...]
    ts_event_ns: Int64
    command_id: str = ""
    quantity: Decimal = ZERO
    price: Decimal | None = None
    made_by: tuple[str, ...] = ()


class RoundTrip(Message, frozen=True, kw_only=True, tag="round_trip"):
    """A position from entry to flat: what people call a trade. Money in quote currency; `profit` after fees."""

    exchange: str
    account: str
    strategy: str
    symbol: str
    side: Side
    quantity: Decimal
    entry_cost: Decimal
    exit_proceeds: Decimal
    fees: Decimal
    profit: Decimal
    opened_ns: Int64
    closed_ns: Int64
    exit_reason: str
    trade_ids: tuple[str, ...]
