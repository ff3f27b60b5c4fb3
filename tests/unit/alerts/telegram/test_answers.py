"""Numbers and words as people read them, and what processes and logs say."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from alerts.telegram import processes
from alerts.telegram.log_lines import newest_troubles
from alerts.telegram.wording import amount, lasting, percent, signed
from runtime.endpoints import write_private
from runtime.health import Health, HealthServer
from runtime.settings import Settings


@pytest.mark.parametrize(
    ("number", "text"),
    [("64000.1", "64,000.10"), ("0.00000001", "0.00000001"), ("1.5", "1.5"), ("-12.34567", "-12.3457"), ("0", "0.00"), ("1E+6", "1,000,000.00"), ("1E-12", "0")],
)  # fmt: skip
def test_amounts_have_no_exponent(number: str, text: str) -> None:
    assert amount(Decimal(number)) == text


def test_profits_have_their_sign() -> None:
    assert [signed(Decimal(text)) for text in ("1.5", "-1.5", "0")] == ["+1.5", "-1.5", "0.00"]
    assert percent(Decimal(-1), Decimal(-50)) == "-2.00 %"
    assert percent(Decimal(1), Decimal(0)) == "-"
    assert [lasting(seconds) for seconds in (0, 61, 90_061, 86_400)] == ["0 s", "1 m 1 s", "1 d 1 h", "1 d"]


async def test_every_process_that_wrote_its_port_is_asked(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    health = Health("bot")
    health.report("bus", True, "fine")
    health.report("plugins", False, "none runs")
    http = HealthServer(health, "127.0.0.1", 0)
    await http.start()
    write_private(settings.run_dir / "bot.port", str(http.port))
    write_private(settings.run_dir / "gone.port", "9")
    write_private(settings.run_dir / "torn.port", "x")
    try:
        bot, gone, torn = await processes.ask_all(settings)
    finally:
        await http.stop()
    assert (bot.name, bot.answers, bot.ready, bot.troubles) == ("bot", True, False, ("plugins",))
    assert bot.details == {"bus": "fine", "plugins": "none runs"}
    assert not gone.answers
    assert not torn.answers


def test_the_newest_troubles_of_all_logs_in_order(tmp_path: Path) -> None:
    def line(second: int, level: str, service: str, **context: str) -> str:
        return json.dumps(
            {"event": "e.v", "level": level, "service": service, "timestamp": f"2026-11-21T12:00:{second:02d}Z", **context}
        )

    (tmp_path / "a.log").write_text("torn}\n" + line(1, "warning", "a") + "\n" + line(5, "error", "a", symbol="BTC/USDT") + "\n")
    (tmp_path / "b.log").write_text(line(3, "info", "b") + "\n" + line(4, "critical", "b") + "\n[]\nplain text\n")
    (tmp_path / "c.out").write_text(line(9, "error", "c"))
    assert newest_troubles(tmp_path, 2) == ["12:00:04 critical b: e.v", "12:00:05 error a: e.v symbol=BTC/USDT"]
    assert newest_troubles(tmp_path / "missing", 5) == []


async def test_in_containers_processes_are_asked_by_their_service_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def get(host: str, port: int, path: str, timeout_s: float) -> tuple[int, bytes]:
        asked.append((host, port))
        return 200, b'{"ready": true, "uptime_s": 1, "components": {}}'

    monkeypatch.setattr("runtime.http_probe.get", get)
    exchanges = {"binance": {"port": 8001}, "kraken": {"port": 8005, "enabled": False}}
    settings = Settings.model_validate({"home": tmp_path, "host": "0.0.0.0", "exchanges": exchanges})
    write_private(settings.run_dir / "alerts.port", "5003")
    found = await processes.ask_all(settings)
    assert [process.name for process in found if process.ready] == ["alerts", "bot", "connector-binance", "recorder"]
    assert asked == [("127.0.0.1", 5003), ("bot", 5000), ("connector-binance", 8001), ("recorder", 5002)]
