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
PREFIXES = ("LC_", "PYTHON", "TRADEBOT_")
BUS_URL = "TRADEBOT__BUS__URL"
DATABASE_URL = "TRADEBOT__POSTGRES__URL"


def child_environment(
    environ: Mapping[str, str],
    *,
    home: Path,
    mode: Mode,
    uses_bus: bool = False,
    uses_database: bool = False,
    exchange: str | None = None,
) -> dict[str, str]:
    """The environment of one child.

    `exchange` is given for a connector only; it alone gets that exchange's keys (`BINANCE_API_KEY`, `..._FILE`), and only in live
    mode. URLs of bus and database carry passwords and go to their users only.
    """
    child = {name: value for name, value in environ.items() if name in PLAIN or name.startswith(PREFIXES)}
    if not uses_bus:
        child.pop(BUS_URL, None)
    if not uses_database:
        child.pop(DATABASE_URL, None)
    if exchange is not None and mode is Mode.LIVE:
        prefix = f"{exchange.upper()}_"
        child |= {name: value for name, value in environ.items() if name.startswith(prefix)}
    child["TRADEBOT_HOME"] = str(home.absolute())
    child["TRADEBOT__MODE"] = mode.value
    child["PYTHONUNBUFFERED"] = "1"
    return child
