"""What `status` and `config validate` make of stale files and of variables that only look like settings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.settings import Settings
from tradebot import cli, own_command
from tradebot.exit_codes import ExitCode
from tradebot.orphans import SUPERVISOR
from tradebot.process_lock import ProcessLock
from tradebot.supervisor import STATE_FILE

STATE = {"processes": [{"name": "bot", "state": "ready", "pid": None, "port": None, "restarts": 0, "detail": "", "new_key": 1}]}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("TRADEBOT"):
            monkeypatch.delenv(name)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "exchanges.yaml").write_text("binance:\n  port: 0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def supervised(checkout: Path) -> Iterator[Path]:
    """The state file of a home whose supervisor, this process, lives."""
    run_dir = checkout / ".tradebot" / "run"
    lock = ProcessLock(run_dir, SUPERVISOR)
    descriptor = lock.claim()
    assert descriptor is not None
    lock.write(descriptor, os.getpid())
    yield run_dir / STATE_FILE
    os.close(descriptor)


def test_status_reads_what_the_living_supervisor_wrote(supervised: Path, capsys: pytest.CaptureFixture[str]) -> None:
    supervised.write_text(json.dumps(STATE))

    assert cli.run(["status", "--json"]) == ExitCode.OK

    assert [row["process"] for row in json.loads(capsys.readouterr().out)] == ["bot"]


def test_status_does_not_repeat_what_an_earlier_supervisor_wrote(supervised: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new one first ends what the killed one left, and has written nothing yet."""
    supervised.write_text(json.dumps(STATE))
    os.utime(supervised, (1, 1))

    assert cli.run(["status"]) == ExitCode.OK

    assert capsys.readouterr().out == f"starting (supervisor {os.getpid()})\n"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("TRADEBOT_MODE", "TRADEBOT__MODE"),
        ("TRADEBOT_BOT__PORT", "TRADEBOT__BOT__PORT"),
        ("TRADEBOT_BOT_RISK_COOLDOWN_S", "TRADEBOT__BOT__RISK__COOLDOWN_S"),
        ("TRADEBOT_EXCHANGES_BINANCE_PORT", "TRADEBOT__EXCHANGES__BINANCE__PORT"),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_variable_that_only_looks_like_a_setting_is_a_mistake(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str, right: str, place: str
) -> None:
    if place == ".env":
        (checkout / ".env").write_text(f"{wrong}=1\n")
    else:
        monkeypatch.setenv(wrong, "1")

    assert cli.run(["config", "validate"]) == ExitCode.CONFIG

    assert capsys.readouterr().err == f"tradebot: {wrong} is no setting and is not looked at: write {right}\n"


def test_other_variables_of_ours_are_told_and_no_mistake(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRADEBOT_HOME", str(checkout / "elsewhere"))
    monkeypatch.setenv("TRADEBOT_COLOUR", "red")

    assert cli.run(["config", "validate", "--json"]) == ExitCode.OK

    assert json.loads(capsys.readouterr().out)["ignored_variables"] == ["TRADEBOT_COLOUR"]


def test_commands_are_printed_as_one_would_type_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / ".venv" / "bin" / "tradebot"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own_command, "sys", SimpleNamespace(executable=str(program.with_name("python"))))
    usual, other = Settings(home=tmp_path / ".tradebot"), Settings(home=tmp_path / "my home")

    monkeypatch.setenv("PATH", "/nowhere")
    assert own_command.own_command(usual) == ".venv/bin/tradebot"
    assert own_command.own_command(other) == ".venv/bin/tradebot --home 'my home'"
    monkeypatch.setenv("PATH", str(program.parent))
    assert own_command.own_command(usual) == "tradebot"
