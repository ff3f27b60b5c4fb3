"""`tradebot plugin ...`, `pause` and `continue` on a real bus, with a bot that answers as the real one does."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bot.controls import Controls
from bot.plugin_registry import PluginRegistry
from bus.connection import Connection
from bus.publisher import StreamPublisher
from bus.reader import TailReader
from bus.streams import Streams
from common_models import AnyMessage, Control, ControlAction, PluginMode, PluginState, PluginStatus
from runtime.clock import now_ns
from tradebot import cli
from tradebot.exit_codes import ExitCode
from tradebot.new_plugin import template_names, write_plugin
from tradebot.tailed_file import followed, last_lines

STREAMS = Streams("simulation")
MODES = {ControlAction.SHADOW: PluginMode.SHADOW, ControlAction.PROMOTE: PluginMode.LIVE, ControlAction.ENABLE: PluginMode.SHADOW}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one exchange and one strategy of its own, `momentum`, in which commands run."""
    for name in list(os.environ):
        if name.startswith("TRADEBOT"):
            monkeypatch.delenv(name)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "exchanges.yaml").write_text("binance:\n  port: 0\n")
    monkeypatch.chdir(tmp_path)
    write_plugin(tmp_path / "plugins", "momentum", "ticks")
    return tmp_path


@pytest.fixture
def on_bus(checkout: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bus with empty streams, configured as one's own."""
    url = urlsplit(valkey_url)._replace(path="/9").geturl()  # a database that no other test uses: modes have fixed names here
    monkeypatch.setenv("TRADEBOT__BUS__URL", url)

    async def empty() -> None:
        connection = await Connection.open(url)
        await connection.command("FLUSHDB")
        connection.close()

    asyncio.run(empty())
    return url


async def tradebot(*arguments: str) -> int:
    """A command, as a person gives it while the bot below runs on."""
    return await asyncio.to_thread(cli.run, list(arguments))


class PretendedBot:
    """Hears words and tells of its plugins, in the same forms as the real bot. `deaf` ones only tell."""

    def __init__(self, url: str, home: Path, *, deaf: bool = False) -> None:
        self._url = url
        self._deaf = deaf
        self._controls = Controls(home / "bot" / "simulation" / "pauses.json")
        self.publisher = StreamPublisher(url, "bot")
        self.plugins: dict[str, PluginStatus] = {}
        self.heard: list[Control] = []

    def tell(self, name: str, **values: Any) -> None:
        known = (
            {field: getattr(self.plugins[name], field) for field in PluginStatus.__struct_fields__} if name in self.plugins else {}
        )
        known |= {"name": name, "path": f"{name}.py", "state": PluginState.RUNNING, "ts_event_ns": now_ns()} | values
        self.plugins[name] = PluginStatus(**known)
        self.publisher.put(STREAMS.plugins, self.plugins[name])

    def _hear(self, _: object, message: AnyMessage) -> None:
        if not isinstance(message, Control) or self._deaf:
            return
        self.heard.append(message)
        self._controls.update(message)
        if message.target not in self.plugins:
            return
        self.tell(message.target, state=self.plugins[message.target].state)  # what was due anyway: no answer yet
        if message.action is ControlAction.DISABLE:
            self.tell(
                message.target, state=PluginState.DISABLED, mode=PluginMode.OFF, reason=f"by {message.actor}: {message.reason}"
            )
        elif message.target == "hopeless":
            self.tell(message.target, state=PluginState.QUARANTINED, reason="an endless loop, again")
        else:
            self.tell(message.target, state=PluginState.RUNNING, mode=MODES[message.action], reason="")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PretendedBot]:
        stop = asyncio.Event()
        await self.publisher.start()
        reader = TailReader(self._url, [STREAMS.control], "0", block_ms=200)
        task = asyncio.create_task(reader.run(self._hear, stop))
        try:
            yield self
        finally:
            stop.set()
            await task
            await self.publisher.close()


async def test_the_list_joins_files_configuration_and_what_the_bot_tells(
    on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "config" / "tradebot.yaml").write_text("bot: {plugins: {momentum: {mode: live}, absent: {}}}\n")
    (checkout / "plugins" / "wreck.py").write_text("PLUGIN =\n")
    async with PretendedBot(on_bus, checkout / ".tradebot").running() as bot:
        bot.tell("momentum", version="cafe", signals=1)
        bot.tell(
            "momentum", mode=PluginMode.LIVE, version="cafe", signals=7, call_p99_us=120, memory_bytes=40_000_000, heartbeat="ok"
        )
        bot.tell("wreck", state=PluginState.BROKEN, reason="wreck.py:1: SyntaxError: invalid syntax")
        bot.tell("gone", state=PluginState.REMOVED)
        (checkout / "plugins" / "fresh.py").write_text("")
        await bot.publisher.flushed()
        assert await tradebot("plugin", "list", "--json") == ExitCode.OK
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert await tradebot("plugin", "list") == ExitCode.OK

    assert sorted(rows) == ["fresh", "gone", "momentum", "wreck"]
    assert rows["fresh"]["state"] == "not seen yet"
    momentum = rows["momentum"]
    assert (momentum["state"], momentum["mode"], momentum["by"], momentum["version"]) == (
        "running",
        "live",
        "configuration",
        "cafe",
    )
    assert (momentum["signals"], momentum["p99_us"], momentum["memory_mb"], momentum["heartbeat"]) == (7, 120, 40.0, "ok")
    assert (rows["wreck"]["state"], rows["wreck"]["by"]) == ("broken", "default")
    assert "120 us" in (text := capsys.readouterr().out)
    assert "wreck.py:1: SyntaxError" in text


async def test_a_file_that_claims_the_name_of_another_hides_it_from_nobody(
    on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with PretendedBot(on_bus, checkout / ".tradebot").running() as bot:
        bot.tell("momentum", mode=PluginMode.SHADOW)
        claim = {"path": "mine/momentum.py", "state": PluginState.BROKEN, "ts_event_ns": now_ns(), "reason": "the name is taken"}
        bot.publisher.put(STREAMS.plugins, PluginStatus(name="momentum", **claim))
        await bot.publisher.flushed()
        assert await tradebot("plugin", "list", "--json") == ExitCode.OK
        assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["broken", "running"]
        assert await tradebot("plugin", "enable", "momentum", "--live") == ExitCode.OK


async def test_the_list_needs_no_bot(on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An operator's word and a quarantine are known from the bot's own file; what an earlier bot told long ago is not repeated."""
    registry = PluginRegistry(checkout / ".tradebot" / "bot" / "simulation", checkout / ".tradebot" / "bot" / "plugin_versions")
    registry.hear(Control(action=ControlAction.PROMOTE, actor="anna", reason="", created_at_ns=1, target="momentum"))
    async with PretendedBot(on_bus, checkout / ".tradebot").running() as bot:
        bot.tell("momentum", ts_event_ns=now_ns() - 60_000_000_000)
        await bot.publisher.flushed()

    assert await tradebot("plugin", "list", "--json") == ExitCode.OK
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["state"], row["mode"], row["by"]) == ("not running", "live", "operator anna")

    registry.quarantine(row["version"], "an endless loop")
    assert await tradebot("plugin", "list") == ExitCode.OK
    assert "quarantined: an endless loop" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "action", "words"),
    [
        ("enable momentum", ControlAction.ENABLE, "momentum is running, in shadow"),
        ("enable momentum --shadow", ControlAction.SHADOW, "momentum is running, in shadow"),
        ("enable momentum --live", ControlAction.PROMOTE, "simulated money"),
        ("disable momentum --reason wild", ControlAction.DISABLE, "momentum is disabled: by"),
    ],
)
async def test_a_switch_is_told_and_its_effect_shown(
    on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str], arguments: str, action: ControlAction, words: str
) -> None:
    async with PretendedBot(on_bus, checkout / ".tradebot").running() as bot:
        bot.tell("momentum", state=PluginState.QUARANTINED, reason="an endless loop")
        await bot.publisher.flushed()
        assert await tradebot("plugin", *arguments.split()) == ExitCode.OK

    assert [(control.action, control.target) for control in bot.heard] == [(action, "momentum")]
    assert words in capsys.readouterr().out


async def test_what_cannot_run_is_an_error_with_the_bots_reason(
    on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with PretendedBot(on_bus, checkout / ".tradebot").running() as bot:
        bot.tell("hopeless", state=PluginState.QUARANTINED, reason="an endless loop")
        await bot.publisher.flushed()
        assert await tradebot("plugin", "enable", "hopeless") == ExitCode.ERROR

    assert capsys.readouterr().err == "tradebot: hopeless is quarantined: an endless loop, again\n"


async def test_a_bot_that_does_not_hear_is_a_time_out(on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with PretendedBot(on_bus, checkout / ".tradebot", deaf=True).running() as bot:
        bot.tell("momentum", mode=PluginMode.SHADOW)
        await bot.publisher.flushed()
        assert await tradebot("plugin", "enable", "momentum", "--live", "--timeout", "1") == ExitCode.TIMEOUT

    assert "plugin list" in capsys.readouterr().err


async def test_switches_without_a_bot_or_a_plugin_say_so(on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await tradebot("plugin", "enable", "momentum") == ExitCode.NOT_RUNNING
    assert "the bot does not run" in capsys.readouterr().err
    assert await tradebot("plugin", "disable", "mementum") == ExitCode.NOT_FOUND
    assert "there are: momentum" in capsys.readouterr().err


async def test_a_plugin_that_the_configuration_switches_off_wants_a_plain_word(
    on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "config" / "tradebot.yaml").write_text('bot: {plugins: {momentum: {mode: "off"}}}\n')

    assert await tradebot("plugin", "enable", "momentum") == ExitCode.NOT_FOUND

    assert "say --shadow or --live" in capsys.readouterr().err


async def test_a_pause_is_shown_once_the_bot_keeps_it(on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with PretendedBot(on_bus, checkout / ".tradebot").running() as bot:
        assert await tradebot("pause", "binance", "--reason", "news") == ExitCode.OK
        assert "no new entries: binance, news (" in capsys.readouterr().out
        assert await tradebot("continue", "--json") == ExitCode.OK
        assert json.loads(capsys.readouterr().out) == {"action": "continue", "exchange": None, "heard": True, "pauses": {}}
        assert await tradebot("pause", "mtgox") == ExitCode.NOT_FOUND

    assert [(control.action.value, control.target) for control in bot.heard] == [("pause", "binance"), ("continue", None)]


async def test_a_pause_that_nobody_heard_is_told_plainly(
    on_bus: str, checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradebot.pausing.HEARD_WITHIN_S", 0.2)

    assert await tradebot("pause") == ExitCode.OK

    assert "has not shown that it heard" in capsys.readouterr().out


def test_every_template_passes_the_check_with_the_facts_told(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "plugins" / "momentum.py").unlink()
    for template in template_names():
        write_plugin(checkout / "plugins", f"like_{template}", template)

    assert cli.run(["plugin", "check", "--json"]) == ExitCode.OK

    found = {Path(row["file"]).stem: row for row in json.loads(capsys.readouterr().out)}
    assert set(found) == {f"like_{template}" for template in template_names()}
    assert all(row["usable"] and row["version"] and not _serious(row) for row in found.values()), found
    assert found["like_book"]["facts"]["callbacks"] == ["on_book"]
    assert found["like_candles"]["facts"]["warm_up"] == 3
    assert [setting["name"] for setting in found["like_ticks"]["facts"]["settings"]] == ["window"]


def _serious(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for finding in row["findings"] if finding["level"] != "info"]


def test_a_file_that_cannot_run_is_told_with_its_line_and_others_are_checked_all_the_same(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "config" / "tradebot.yaml").write_text("bot: {plugins: {momentum: {settings: {window: 1}}}}\n")
    outside = checkout / "outside.py"
    outside.write_text("import strategy\n\nclass Broken(:\n")

    assert cli.run(["plugin", "check", "outside.py", "momentum"]) == ExitCode.ERROR

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "outside.py: cannot run"
    assert lines[1].startswith("outside.py:3: error: SyntaxError")
    assert any(line.startswith("plugins/momentum.py: error: plugin momentum: window") for line in lines), lines
    assert cli.run(["plugin", "check", "nothing.py"]) == ExitCode.NOT_FOUND
    assert "neither a file nor the name of a plugin" in capsys.readouterr().err


def test_logs_are_the_newest_lines(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plugin", "logs", "momentum"]) == ExitCode.OK
    assert "nothing yet" in capsys.readouterr().out
    assert cli.run(["plugin", "logs", "../../config/exchanges"]) == ExitCode.NOT_FOUND
    assert cli.run(["plugin", "logs", "unheard_of"]) == ExitCode.NOT_FOUND
    capsys.readouterr()
    folder = checkout / ".tradebot" / "logs" / "plugins"
    folder.mkdir(parents=True)
    (folder / "momentum.log").write_text("".join(f"line {number}\n" for number in range(20_000)))

    assert cli.run(["plugin", "logs", "momentum", "-n", "2"]) == ExitCode.OK

    assert capsys.readouterr().out == "line 19998\nline 19999\n"


def test_a_followed_log_goes_on_over_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "momentum.log"
    path.write_text("old\n")
    assert last_lines(path, 5) == ["old"]
    lines = followed(path)

    with path.open("a") as file:
        file.write("new\nhalf")
    assert next(lines) == "new"
    with path.open("a") as file:
        file.write(" a line\n")
    assert next(lines) == "half a line"
    path.rename(tmp_path / "momentum.log.1")
    path.write_text("after the rotation, and longer than what was there before\n")
    assert next(lines) == "after the rotation, and longer than what was there before"
    path.write_text("cut\n")
    assert next(lines) == "cut"
