"""Which environment variables a child process gets: what it needs, and no secret that it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runtime.settings import Mode

PLAIN = frozenset(
    {
        "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "SSL_CERT_DIR", "SSL_CERT_FILE", "TERM", "TMPDIR", "TZ", "USER",
        "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
    }
)  # fmt: skip
CHANNELS = ("TELEGRAM_BOT_TOKEN", "ALERTS_WEBHOOK_URL", "ALERTS_DISCORD_URL", "ALERTS_SLACK_URL")
"""Secrets of the ways to reach people; each also with _FILE behind its name."""
PREFIXES = ("LC_", "PYTHON", "TRADEBOT_")
BUS_ADDRESS = ("TRADEBOT__BUS__URL", "TRADEBOT__BUS__URL_FILE")
DATABASE_ADDRESS = ("TRADEBOT__POSTGRES__URL", "TRADEBOT__POSTGRES__URL_FILE")


def child_environment(
    environ: Mapping[str, str],
    *,
    home: Path,
    mode: Mode,
    uses_bus: bool = False,
    uses_database: bool = False,
    exchange: str | None = None,
    tells: bool = False,
) -> dict[str, str]:
    """The environment of one child.

    `exchange` is given for a connector only; it alone gets that exchange's keys (`BINANCE_API_KEY`, `..._FILE`), and only in live
    mode. URLs of bus and database carry passwords and go to their users only, the secrets of channels to the process that `tells`.
    """
    child = {name: value for name, value in environ.items() if name in PLAIN or name.startswith(PREFIXES)}
    unused = (() if uses_bus else BUS_ADDRESS) + (() if uses_database else DATABASE_ADDRESS)
    for name in unused:
        child.pop(name, None)
    if exchange is not None and mode is Mode.LIVE:
        prefix = f"{exchange.upper()}_"
        child |= {name: value for name, value in environ.items() if name.startswith(prefix)}
    if tells:
        child |= {name: environ[name] for channel in CHANNELS for name in (channel, f"{channel}_FILE") if name in environ}
    child["TRADEBOT_HOME"] = str(home.absolute())
    child["TRADEBOT__MODE"] = mode.value
    child["PYTHONUNBUFFERED"] = "1"
    return child
