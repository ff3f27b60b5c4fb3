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
    """Something that a person should know. `code` is stable for rules and for de-duplication; `numbers` its details.

    `category` groups codes: market_data, orders, risk, trading, plugins, system, storage, monitoring. An alert with `resolves`
    says that what an earlier one of the same code, exchange and symbol told is over.
    """

    level: AlertLevel
    source: str
    code: str
    text: str
    ts_event_ns: Int64
    exchange: str = ""
    symbol: str = ""
    numbers: dict[str, str] = {}
    category: str = ""
    resolves: bool = False


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


class PluginMode(StrEnum):
    """What becomes of a plugin's signals."""

    SHADOW = "shadow"  # recorded only
    LIVE = "live"  # they count in the consensus
    OFF = "off"


class PluginState(StrEnum):
    """Where a plugin file is in its life."""

    CHECKING = "checking"
    WARMING = "warming"
    RUNNING = "running"
    DISABLED = "disabled"  # by the configuration or an operator
    BROKEN = "broken"  # the file cannot be used: `reason` says what to change
    QUARANTINED = "quarantined"  # it misbehaved and was ended; runs again when the file changes or it is enabled
    REMOVED = "removed"


class PluginStatus(Message, frozen=True, kw_only=True, tag="plugin_status"):
    """One plugin at one moment: told whenever its state changes and every ten seconds; the newest of each `name` counts.

    `path` is relative to the plugin folder, `version` begins the SHA-256 of the file that runs. `call_p99_us` is the slowest
    hundredth of its callbacks in microseconds, `heartbeat` what its own heartbeat() said last. Counts begin with the version.
    """

    name: str
    path: str
    state: PluginState
    ts_event_ns: Int64
    mode: PluginMode = PluginMode.OFF
    version: str = ""
    reason: str = ""
    pid: Int64 = 0
    callbacks: tuple[str, ...] = ()
    warm_up: Int64 = 0
    waiting_for: tuple[str, ...] = ()  # markets whose candles do not suffice yet
    events: Int64 = 0
    signals: Int64 = 0
    errors: Int64 = 0
    call_p99_us: Int64 = 0
    memory_bytes: Int64 = 0
    heartbeat: str = ""
