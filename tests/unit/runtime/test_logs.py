from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import structlog

from runtime.logs import bound, redacted, setup_logging
from runtime.settings import LogSettings
from runtime.trace_ids import trace_text

CANARY = "c4n4ry-s3cr3t"


def lines(directory: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (directory / "x.log").read_text().splitlines()]


def test_a_line_is_json_with_service_time_correlation_and_trace_id(tmp_path: Path) -> None:
    setup_logging("x", LogSettings(), tmp_path)
    with bound(correlation_id="abc"):
        structlog.get_logger("a").info("order.sent", quantity="1")
    (line,) = lines(tmp_path)
    assert (line["event"], line["service"], line["correlation_id"], line["level"]) == ("order.sent", "x", "abc", "info")
    assert line["timestamp"].endswith("Z")
    assert line["trace_id"] == trace_text("abc")


def test_secrets_are_hidden_wherever_they_stand(tmp_path: Path) -> None:
    setup_logging("x", LogSettings(), tmp_path)
    log = structlog.get_logger("a")
    log.info("a", api_key=CANARY, nested={"password": CANARY, "list": [f"https://u:{CANARY}@h/x"]})
    log.info("b", url=f"redis://:{CANARY}@127.0.0.1:1/0", query=f"symbol=A&signature={CANARY}&timestamp=1")
    log.warning("c", error=ValueError(f"token={CANARY}"))
    logging.getLogger("library").warning("login with password=%s", CANARY)
    try:
        raise ValueError(f"postgresql://tradebot:{CANARY}@127.0.0.1/x")
    except ValueError:
        log.exception("d")
    text = (tmp_path / "x.log").read_text()
    assert CANARY not in text
    assert base64.b64encode(CANARY.encode()).decode() not in text
    assert len(lines(tmp_path)) == 5


def test_control_characters_cannot_forge_lines(tmp_path: Path) -> None:
    setup_logging("x", LogSettings(), tmp_path)
    structlog.get_logger("a").info("a", symbol="BTC\x1b[31m\r\nfake")
    (line,) = lines(tmp_path)
    assert "\x1b" not in line["symbol"]


def test_ordinary_text_is_left_alone() -> None:
    assert redacted("https://host/path?symbol=BTCUSDT") == "https://host/path?symbol=BTCUSDT"
