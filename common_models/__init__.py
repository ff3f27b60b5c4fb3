"""The vocabulary: every message that may travel on the bus, and nothing else. Imports nothing of ours."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

from common_models.base import SCHEMA_VERSION, AccountEvent, Command, MarketEvent, Message, Side
from common_models.commands_events_models import (
    AmendOrder,
    Balance,
    CancelAll,
    CancelOrder,
    Control,
    ControlAction,
    Decision,
    Direction,
    Fill,
    FundingPayment,
    Liquidity,
    OrderStatus,
    OrderType,
    OrderUpdate,
    PlaceOrder,
    Position,
    RoundTrip,
    Signal,
    TimeInForce,
    Verdict,
)
from common_models.instruments import Instrument, InstrumentStatus, Symbol, SymbolError
from common_models.market_data_models import (
    AggregateTrade,
    Candle,
    DayStats,
    FundingRate,
    Level,
    MarketMetrics,
    OnchainMetrics,
    OrderBook,
    Ticker,
    Trade,
)
from common_models.status import (
    Alert,
    AlertLevel,
    ConnectionState,
    ConnectorStatus,
    Gap,
    Heartbeat,
    PluginMode,
    PluginState,
    PluginStatus,
)

AnyMarketEvent = (
    Ticker[Decimal]
    | DayStats[Decimal]
    | Trade[Decimal]
    | AggregateTrade[Decimal]
    | OrderBook[tuple[Level, ...]]
    | Candle[Decimal]
    | FundingRate[Decimal]
    | Instrument
    | MarketMetrics[Decimal]
    | OnchainMetrics[Decimal]
)
AnyCommand = PlaceOrder | CancelOrder | CancelAll | AmendOrder
AnyAccountEvent = OrderUpdate | Fill | Balance | Position | FundingPayment | ConnectorStatus
AnyThought = Signal | Decision | RoundTrip
AnyState = Control | Alert | Heartbeat | Gap | PluginStatus
AnyMessage = AnyMarketEvent | AnyCommand | AnyAccountEvent | AnyThought | AnyState
"""The closed list of what may travel on the bus."""

MESSAGE_TYPES = get_args(AnyMessage)

__all__ = [
    "MESSAGE_TYPES",
    "SCHEMA_VERSION",
    "AccountEvent",
    "AggregateTrade",
    "Alert",
    "AlertLevel",
    "AmendOrder",
    "AnyAccountEvent",
    "AnyCommand",
    "AnyMarketEvent",
    "AnyMessage",
    "Balance",
    "CancelAll",
    "CancelOrder",
    "Candle",
    "Command",
    "ConnectionState",
    "ConnectorStatus",
    "Control",
    "ControlAction",
    "DayStats",
    "Decision",
    "Direction",
    "Fill",
    "FundingPayment",
    "FundingRate",
    "Gap",
    "Heartbeat",
    "Instrument",
    "InstrumentStatus",
    "Level",
    "Liquidity",
    "MarketEvent",
    "MarketMetrics",
    "Message",
    "OnchainMetrics",
    "OrderBook",
    "OrderStatus",
    "OrderType",
    "OrderUpdate",
    "PlaceOrder",
    "PluginMode",
    "PluginState",
    "PluginStatus",
    "Position",
    "RoundTrip",
    "Side",
    "Signal",
    "Symbol",
    "SymbolError",
    "Ticker",
    "TimeInForce",
    "Trade",
    "Verdict",
]
