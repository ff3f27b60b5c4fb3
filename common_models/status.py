"""How the processes and the data are doing."""

from __future__ import annotations

from enum import StrEnum

from common_models.base import AccountEvent, Int64, Message


class AlertLevel(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Alert(Message, frozen=True, kw_only=True, tag="alert"):
    """Something that a person should know. `code` is stable for rules and for de-duplication; `numbers` its context."""

    level: AlertLevel
    source: str
    code: str
    text: str
    ts_event_ns: Int64
    exchange: str = ""
    symbol: str = ""
    numbers: dict[str, str] = {}


class ConnectionState(StrEnum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    STALE = "stale"  # the socket lives, a subscription is silent
    RECONCILING = "reconciling"  # the account is being compared with the venue; no new orders yet
    STOPPED = "stopped"


class ConnectorStatus(AccountEvent, frozen=True, kw_only=True, tag="connector_status"):
    """The state of one leg of a connector: market data, user data or orders. `subject` names the subscription when one is meant."""

    leg: str
    state: ConnectionState
    reason: str = ""
    subject: str = ""
    clock_offset_ns: Int64 | None = None


class Heartbeat(Message, frozen=True, kw_only=True, tag="heartbeat"):
    """A process is alive; `ready` says whether it does its work."""

    service: str
    pid: Int64
    ready: bool
    ts_event_ns: Int64
    detail: str = ""


class Gap(Message, frozen=True, kw_only=True, tag="gap"):
    """Data of one stream that was missed, said in the stream itself, where it happened.

    `first_missing` and `last_missing` are ids or sequence numbers when known; `count` is None when nobody can tell.
    `healed` says that the data was fetched later and follows.
    """

    exchange: str
    symbol: str
    stream: str
    reason: str
    from_ns: Int64
    to_ns: Int64
    ts_recv_ns: Int64
    first_missing: str = ""
    last_missing: str = ""
    count: Int64 | None = None
    healed: bool = False
