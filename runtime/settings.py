"""What can be configured: one frozen model per section, every default stated here and nowhere else.

How files, environment and command line are merged is in `settings_loader.py`; `docs/configuration.md` explains each key.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Percent = Annotated[Decimal, Field(ge=0, le=100), BeforeValidator(lambda value: str(value) if isinstance(value, float) else value)]
Amount = Annotated[
    Decimal, Field(ge=0, max_digits=30), BeforeValidator(lambda value: str(value) if isinstance(value, float) else value)
]
Timeframe = Literal["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d"]
ExchangeName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,31}$")]  # it becomes part of keys, file and process names

_CURRENCY = "[A-Za-z0-9]{1,20}"
_SYMBOL = re.compile(f"{_CURRENCY}[/_-]{_CURRENCY}(:{_CURRENCY})?")


def _symbol(text: str) -> str:
    if not _SYMBOL.fullmatch(text):
        raise ValueError("not a symbol like BTC/USDT")
    return text


def _different(symbols: tuple[str, ...]) -> tuple[str, ...]:
    spelled = [re.sub("[_-]", "/", symbol).upper() for symbol in symbols]
    for symbol in spelled:
        if spelled.count(symbol) > 1:
            raise ValueError(f"{symbol} is there twice")
    return symbols


SymbolText = Annotated[str, AfterValidator(_symbol)]
Symbols = Annotated[tuple[SymbolText, ...], Field(min_length=1), AfterValidator(_different)]


class Mode(StrEnum):
    SIMULATION = "simulation"
    PAPER = "paper"
    LIVE = "live"

    @property
    def digit(self) -> str:
        """The one character of a client order id that names the mode."""
        return {"simulation": "5", "paper": "9", "live": "1"}[self.value]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class LogSettings(Section):
    level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    console: str = Field("auto", pattern="^(auto|json|pretty)$")
    file_mb: int = Field(10, ge=1, le=1000)
    file_count: int = Field(5, ge=1, le=100)


class ServerSettings(Section):
    """Where a server is: `url`, or `url_file`, a private file that holds the URL; with neither, the bundled one runs on `port`."""

    url: SecretStr | None = None
    url_file: Path | None = None

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if self.url and self.url_file:
            raise ValueError("both url and url_file are set: keep one")
        return self

    @property
    def bundled(self) -> bool:
        """Whether the server is ours to run."""
        return not self.url and self.url_file is None


class BusSettings(ServerSettings):
    port: Port = 6390
    maxmemory_mb: int = Field(512, ge=16)
    market_entries: int = Field(50_000, ge=100)
    trades_mb: int = Field(64, ge=1)
    lossless_mb: int = Field(64, ge=1)
    fsync: str = Field("everysec", pattern="^(always|everysec|no)$")


class PostgresSettings(ServerSettings):
    port: Port = 5490
    pool_size: int = Field(4, ge=1, le=50)
    statement_timeout_s: Seconds = 30.0


class RecorderSettings(Section):
    """How long each kind of history is kept is in days; 0 keeps it for ever."""

    port: Port = 5002
    batch_rows: int = Field(5000, ge=1, le=100_000)
    spool_mb: int = Field(512, ge=1)
    book_interval_s: float = Field(1.0, ge=0)  # one stored book per symbol and interval; 0 stores each
    ticker_interval_s: float = Field(0.0, ge=0)
    keep_days: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=lambda: {"order_books": 3, "tickers": 7, "trades": 30}
    )


class SimulatorSettings(Section):
    port: Port = 0  # 0: the connector's port + 1000
    health_port: Port = 0  # health and metrics; 0 is any free port
    seed: int = 20_261_121
    speed: float = Field(1.0, ge=0)  # of a replay; 0 is as fast as possible
    replay: Path | None = None  # recorded frames, trades or candles instead of the synthetic market
    retime: bool = True  # replayed events carry the present time, so that one can trade on them
    base_prices: dict[str, Amount] = Field(default_factory=dict)
    balances: dict[str, Amount] = Field(default_factory=lambda: {"USDT": Decimal(100_000), "BTC": Decimal(1), "ETH": Decimal(10)})
    maker_fee_percent: Percent = Decimal("0.1")
    taker_fee_percent: Percent = Decimal("0.1")
    history_bars: int = Field(1000, ge=0, le=100_000)


class ExchangeSettings(Section):
    """One exchange account. In simulation the URLs point at the local simulator and keys are not read."""

    enabled: bool = True
    port: Port
    account: str = Field("main", pattern="^[a-z0-9_]{1,32}$")
    symbols: Symbols = ("BTC/USDT",)
    quote: str = "USDT"
    timeframes: tuple[Timeframe, ...] = ("1m",)
    trades: str = Field("trade", pattern="^(trade|aggregate)$")
    book_depth: int = Field(20, ge=1, le=1000)
    stale_after_s: Seconds = 30.0
    rest_url: str = Field("", pattern="^(https?://.+)?$")
    ws_url: str = Field("", pattern="^(wss?://.+)?$")
    ws_api_url: str = Field("", pattern="^(wss?://.+)?$")
    recv_window_ms: int = Field(5000, ge=100, le=60_000)
    weight_per_minute: int = Field(6000, ge=1)
    journal_fsync: bool = True
    reconcile_every_s: Seconds = 60.0
    simulator: SimulatorSettings = SimulatorSettings()


def _switch(value: object) -> object:
    """YAML reads a bare `on` or `off` as true or false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


PluginModeText = Annotated[Literal["shadow", "live", "off"], BeforeValidator(_switch)]
Notice = Annotated[Literal["on", "silent", "off"], BeforeValidator(_switch)]


class PluginSettings(Section):
    """`settings` are the plugin's own; it checks them itself. In `shadow` its signals are recorded and never traded."""

    mode: PluginModeText = "shadow"
    settings: dict[str, Any] = Field(default_factory=dict)


class WorkerSettings(Section):
    """What one plugin's process may take before it is ended: memory beyond Python's own, time for one callback, lines printed."""

    memory_mb: int = Field(256, ge=16)
    call_s: Seconds = 1.0
    log_lines_per_s: int = Field(100, ge=1)
    log_mb: int = Field(5, ge=1, le=1000)


class RiskSettings(Section):
    """Sizing and limits. Percentages are percent of equity, or of the entry price for stops."""

    position_size_percentage: Percent = Decimal(2)
    max_concurrent_trades: int = Field(3, ge=0)
    stop_loss_percentage: Percent = Decimal("0.5")
    take_profit_percentage: Percent = Decimal("0.8")
    max_event_age_s: Seconds = 5.0
    order_ttl_s: Seconds = 10.0
    cooldown_s: float = Field(5.0, ge=0)
    consensus_threshold: float = Field(0.5, ge=0, le=1)
    min_opinions: int = Field(1, ge=1)


class BotSettings(Section):
    port: Port = 5000
    plugins_dir: Path = Path("plugins")
    worker: WorkerSettings = WorkerSettings()
    timeframe: Timeframe = "1m"
    risk: RiskSettings = RiskSettings()
    plugins: dict[str, PluginSettings] = Field(default_factory=dict)


class TelegramUser(Section):
    """Who may talk to the bot: by numeric id, never by name. `viewer` reads, `trader` also trades, `admin` may do everything."""

    id: int = Field(ge=1)
    role: Literal["viewer", "trader", "admin"] = "viewer"


class TelegramSettings(Section):
    """One Telegram bot for the whole fleet; off until `chat_id` and a token (TELEGRAM_BOT_TOKEN or its _FILE) are there.

    Commands are taken from `users` in `chats` only; when `chats` is empty, in each user's own private chat with the bot.
    """

    enabled: bool = True
    chat_id: int | None = None  # where alerts go
    users: tuple[TelegramUser, ...] = ()
    chats: tuple[int, ...] = ()
    api_url: str = Field("https://api.telegram.org", pattern="^https?://.+$")
    max_command_age_s: Seconds = 60.0
    confirm_s: Seconds = 60.0
    messages_per_minute: int = Field(20, ge=1, le=60)


class WebhookSettings(Section):
    """Where alerts are posted to; the URL is a secret: ALERTS_WEBHOOK_URL, ALERTS_DISCORD_URL, ALERTS_SLACK_URL (or _FILE)."""

    enabled: bool = True
    min_level: Literal["info", "warning", "error", "critical"] = "warning"
    private_addresses: bool = False  # whether a URL may lead into the own network
    timeout_s: Seconds = 10.0


class QuietHours(Section):
    """From `start` to `end` (HH:MM in `timezone`) only `min_level` and above make a sound; the rest comes silently."""

    start: str = Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")
    end: str = Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")
    timezone: str = "UTC"
    min_level: Literal["warning", "error", "critical"] = "error"


class AlertsSettings(Section):
    """The alerts process. `rules` is a YAML file, `notify` switches each event on, silent or off (docs/alerts.md)."""

    enabled: bool = True
    port: Port = 5003
    rules: Path = Path("config/alerts.yaml")
    notify: dict[str, Notice] = Field(default_factory=dict)
    dedupe_s: Seconds = 300.0
    digest_s: Seconds = 60.0
    escalate_after_s: Seconds = 900.0
    quiet_hours: QuietHours | None = None
    telegram: TelegramSettings = TelegramSettings()
    webhook: WebhookSettings = WebhookSettings()
    discord: WebhookSettings = WebhookSettings()
    slack: WebhookSettings = WebhookSettings()


class SupervisorSettings(Section):
    ready_timeout_s: Seconds = 60.0
    stop_grace_s: Seconds = 10.0
    restart_first_s: Seconds = 0.5
    restart_cap_s: Seconds = 30.0
    min_free_disk_mb: int = Field(500, ge=0)


class Settings(Section):
    """Everything. `home` holds all state: bundled servers, journals, logs, run files."""

    mode: Mode = Mode.SIMULATION
    home: Path = Path(".tradebot")
    host: str = "127.0.0.1"  # where health and metrics listen
    log: LogSettings = LogSettings()
    bus: BusSettings = BusSettings()
    postgres: PostgresSettings = PostgresSettings()
    recorder: RecorderSettings = RecorderSettings()
    bot: BotSettings = BotSettings()
    alerts: AlertsSettings = AlertsSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    exchanges: dict[ExchangeName, ExchangeSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _candles_are_published(self) -> Settings:
        """The bot would wait for ever for candles that no connector publishes."""
        for name, exchange in self.exchanges.items():
            if exchange.enabled and self.bot.timeframe not in exchange.timeframes:
                raise ValueError(f"bot.timeframe is {self.bot.timeframe}, which is not among exchanges.{name}.timeframes")
        return self

    @property
    def run_dir(self) -> Path:
        """Where running services say their pid, port and addresses."""
        return self.home / "run"
