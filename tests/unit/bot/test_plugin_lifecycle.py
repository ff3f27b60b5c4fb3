"""New, changed, broken, mended, removed, quarantined, switched on and off: what becomes of a plugin file, and of the others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from bot.isolation.workers import WorkerGone
from common_models import Alert, AlertLevel, ControlAction, Decision, PluginMode, PluginState, PluginStatus, Signal, Verdict
from tests.unit.bot.conftest import OBEDIENT

COUNTER = """
from strategy import Direction, Plugin

class Counter(Plugin):
    name = "counter"
    when_gone = "close"

    def __init__(self, settings, market):
        super().__init__(settings, market)
        self.seen = 0

    def on_ticker(self, ticker):
        self.seen += 1
        yield self.signal(ticker, Direction.BUY, reason=f"{self.seen}")

    def on_save(self):
        return {"seen": self.seen}

    def on_load(self, state):
        self.seen = state["seen"]

PLUGIN = Counter
"""
ERROR = AlertLevel.ERROR


def statuses(bot: Any, name: str) -> list[tuple[PluginState, PluginMode]]:
    return [(status.state, status.mode) for status in bot.said(PluginStatus) if status.name == name]


def newest(bot: Any, name: str) -> PluginStatus:
    found: list[PluginStatus] = [status for status in bot.said(PluginStatus) if status.name == name]
    return found[-1]


def alerts(bot: Any, level: AlertLevel = ERROR) -> list[str]:
    return [alert.code for alert in bot.said(Alert) if alert.level is level]


def resolved(bot: Any) -> list[str]:
    return [alert.code for alert in bot.said(Alert) if alert.resolves]


def drop(bot: Any, name: str, text: str) -> None:
    """A file appears or changes in the running bot's folder."""
    (bot.settings.bot.plugins_dir / name).write_text(text)
    bot.look()


def version(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def test_a_new_file_runs_in_shadow_without_a_restart(make_bot: Any) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", COUNTER)
    bot.tick(50_000)

    status = newest(bot, "counter")
    assert (status.state, status.mode, status.path, status.version) == (
        PluginState.RUNNING, PluginMode.SHADOW, "counter.py", version(COUNTER),
    )  # fmt: skip
    (signal,) = bot.said(Signal)
    assert (signal.strategy, signal.shadow, signal.version) == ("counter", True, version(COUNTER))
    assert "PLUGIN_STARTED" in alerts(bot, AlertLevel.INFO)
    assert bot.orders == []


def test_the_imports_of_a_new_file_are_told(make_bot: Any) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", "import os\nimport math\n" + COUNTER)

    [started] = [alert.text for alert in bot.said(Alert) if alert.code == "PLUGIN_STARTED"]
    assert started.endswith("recorded and not traded; it imports os: files cannot be read or written")


def test_every_version_is_kept(make_bot: Any) -> None:
    bot = make_bot()
    drop(bot, "counter.py", COUNTER)
    drop(bot, "counter.py", COUNTER + "# changed\n")

    kept = {path.read_text() for path in (bot.settings.home / "bot/plugin_versions").iterdir()}
    assert kept == {OBEDIENT, COUNTER, COUNTER + "# changed\n"}


def test_a_changed_file_takes_over_with_the_state_of_the_one_before(make_bot: Any) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", COUNTER)
    bot.tick(50_000)
    bot.tick(50_000)
    old = bot.workers.made["counter"]
    drop(bot, "counter.py", COUNTER.replace('f"{self.seen}"', 'f"now {self.seen}"'))
    bot.tick(50_000)

    assert [signal.reason for signal in bot.said(Signal)] == ["1", "2", "now 3"]
    assert old.stopped
    assert alerts(bot) == []


def test_events_that_come_during_a_take_over_are_seen_by_the_new_version_once(make_bot: Any) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", COUNTER)
    bot.tick(50_000)
    old = bot.workers.made["counter"]
    save = old.save

    async def save_while_the_market_moves() -> bytes:
        states: bytes = await save()
        bot.tick(50_001)
        bot.tick(50_002)
        return states

    old.save = save_while_the_market_moves
    drop(bot, "counter.py", COUNTER + "# changed\n")
    bot.tick(50_003)

    assert [signal.reason for signal in bot.said(Signal)] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("PLUGIN = Counter", "PLUGIN = 5"), "PLUGIN is 5"),
        (("self.seen = 0", "self.seen = = 0"), "SyntaxError"),
        (("self.seen = 0", "raise RuntimeError('no luck')"), "no luck"),
        (('self.seen = state["seen"]', 'self.seen = state["sen"]'), "on_load"),
    ],
)
def test_a_change_that_cannot_run_leaves_the_old_version_at_work(make_bot: Any, change: tuple[str, str], why: str) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", COUNTER)
    bot.tick(50_000)
    drop(bot, "counter.py", COUNTER.replace(*change))
    bot.tick(50_000)

    assert [signal.reason for signal in bot.said(Signal)] == ["1", "2"]
    assert {signal.version for signal in bot.said(Signal)} == {version(COUNTER)}
    assert alerts(bot) == ["PLUGIN_ROLLED_BACK"]
    status = newest(bot, "counter")
    assert (status.state, status.version) == (PluginState.RUNNING, version(COUNTER))
    assert why in status.reason
    drop(bot, "counter.py", COUNTER + "# mended\n")
    assert newest(bot, "counter").version == version(COUNTER + "# mended\n")
    assert newest(bot, "counter").reason == ""


def test_when_the_old_version_cannot_say_its_state_the_new_one_starts_without_it(make_bot: Any) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", COUNTER.replace('return {"seen": self.seen}', "return object()"))
    bot.tick(50_000)
    drop(bot, "counter.py", COUNTER)
    bot.tick(50_000)

    assert alerts(bot) == []
    assert "PLUGIN_STATE_LOST" in alerts(bot, AlertLevel.WARNING)
    assert [(signal.reason, signal.version) for signal in bot.said(Signal)][-1] == ("1", version(COUNTER))


def test_when_the_old_version_dies_during_the_take_over_the_new_one_is_not_blamed(make_bot: Any) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", COUNTER)
    old = bot.workers.made["counter"]

    async def die() -> bytes:
        old.on_gone("endless loop")
        raise WorkerGone("endless loop")

    old.save = die
    drop(bot, "counter.py", COUNTER + "# changed\n")
    bot.tick(50_000)

    status = newest(bot, "counter")
    assert (status.state, status.version) == (PluginState.RUNNING, version(COUNTER + "# changed\n"))
    assert bot.said(Signal)[-1].version == status.version


def test_when_the_new_version_dies_as_it_takes_over_it_is_not_taken_for_running(make_bot: Any) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", COUNTER)
    old = bot.workers.made["counter"]

    async def stop_while_the_new_one_dies() -> None:
        bot.workers.made["counter"].on_gone("ended itself")

    old.stop = stop_while_the_new_one_dies
    drop(bot, "counter.py", COUNTER + "# changed\n")
    bot.look()

    assert alerts(bot) == ["PLUGIN_ROLLED_BACK"]
    assert newest(bot, "counter").version == version(COUNTER)


def test_a_new_version_that_misbehaves_soon_gives_the_place_back(make_bot: Any) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", COUNTER)
    bad = COUNTER.replace("self.seen += 1", "raise RuntimeError('no luck')")
    drop(bot, "counter.py", bad)
    for _ in range(6):
        bot.tick(50_000)
    bot.look()
    bot.tick(50_000)

    assert alerts(bot) == ["PLUGIN_ROLLED_BACK"]
    assert newest(bot, "counter").version == version(COUNTER)
    assert bot.said(Signal)[-1].version == version(COUNTER)


def test_a_broken_file_costs_itself_only_and_runs_once_it_is_mended(make_bot: Any) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", "x = = 1\n")
    assert alerts(bot) == ["PLUGIN_BROKEN"]
    assert newest(bot, "counter").state is PluginState.BROKEN
    assert "counter.py:1" in newest(bot, "counter").reason
    bot.tick(50_000, word=1)
    assert len(bot.orders) == 1
    drop(bot, "counter.py", COUNTER)

    assert newest(bot, "counter").state is PluginState.RUNNING


def test_what_was_told_of_a_plugin_is_over_when_its_file_runs_or_is_gone_in_a_later_life_too(make_bot: Any) -> None:
    bot = make_bot().ready()
    drop(bot, "counter.py", "x = = 1\n")
    assert resolved(bot) == []
    bot = bot.again()
    drop(bot, "counter.py", COUNTER)
    assert resolved(bot) == ["PLUGIN_BROKEN"]
    drop(bot, "counter.py", "x = = 1\n")
    (bot.settings.bot.plugins_dir / "counter.py").unlink()
    bot.look()
    assert resolved(bot) == ["PLUGIN_BROKEN", "PLUGIN_ROLLED_BACK"]


def test_a_removed_file_is_gone_and_its_positions_are_closed_if_it_said_so(make_bot: Any) -> None:
    bot = make_bot({"counter.py": COUNTER}).ready()
    bot.tick(50_000)
    bot.filled(bot.orders[-1], 50_000)
    (bot.settings.bot.plugins_dir / "counter.py").unlink()
    bot.look()
    bot.tick(50_000)

    assert statuses(bot, "counter")[-1][0] is PluginState.REMOVED
    assert bot.orders[-1].reduce_only
    assert bot.said(Decision)[-1].code == "EXIT_PLUGIN_GONE"
    assert "PLUGIN_POSITIONS_CLOSED" in alerts(bot, AlertLevel.WARNING)


def test_what_was_to_be_closed_is_closed_after_the_bot_died_before_it_could(make_bot: Any) -> None:
    bot = make_bot({"counter.py": COUNTER}).ready()
    bot.tick(50_000)
    bot.filled(bot.orders[-1], 50_000)
    folder: Path = bot.settings.bot.plugins_dir
    bot._arguments = (bot._arguments[0], folder, *bot._arguments[2:])
    (folder / "counter.py").unlink()
    bot.look()
    bot = bot.again().ready()  # killed before the next quote
    bot.tick(50_000)

    assert [order.reduce_only for order in bot.orders] == [True]
    bot.filled(bot.orders[-1], 50_000)
    assert list(bot.again().loop.registry.known()) == []


def test_the_same_holds_for_a_plugin_that_was_ended(make_bot: Any) -> None:
    bot = make_bot({"counter.py": COUNTER}).ready()
    bot.tick(50_000)
    bot.filled(bot.orders[-1], 50_000)
    bot.workers.made["counter"].on_gone("endless loop")
    bot = bot.again().ready()
    bot.tick(50_000)

    assert newest(bot, "counter").state is PluginState.QUARANTINED
    assert [order.reduce_only for order in bot.orders] == [True]


def test_a_removed_file_that_said_nothing_keeps_its_positions(make_bot: Any) -> None:
    bot = make_bot({"counter.py": COUNTER.replace('"close"', '"keep"')}).ready()
    bot.tick(50_000)
    bot.filled(bot.orders[-1], 50_000)
    (bot.settings.bot.plugins_dir / "counter.py").unlink()
    bot.look()
    bot.tick(50_000)

    assert len(bot.orders) == 1
    bot.tick(40_000)  # the stop-loss goes on
    assert bot.orders[-1].reduce_only


def test_a_file_that_went_while_no_bot_ran_is_settled_at_the_next_start(make_bot: Any) -> None:
    bot = make_bot({"counter.py": COUNTER}).ready()
    bot.tick(50_000)
    bot.filled(bot.orders[-1], 50_000)
    folder: Path = bot.settings.bot.plugins_dir
    bot._arguments = (bot._arguments[0], folder, *bot._arguments[2:])
    (folder / "counter.py").unlink()
    bot = bot.again().ready()
    bot.tick(50_000)

    assert "PLUGIN_REMOVED" in alerts(bot, AlertLevel.WARNING)
    assert bot.orders[-1].reduce_only


def test_when_the_folder_cannot_be_read_no_plugin_counts_as_removed(make_bot: Any) -> None:
    bot = make_bot({"counter.py": COUNTER}).ready()
    bot.tick(50_000)
    bot.filled(bot.orders[-1], 50_000)
    folder: Path = bot.settings.bot.plugins_dir
    bot._arguments = (bot._arguments[0], folder, *bot._arguments[2:])
    folder.rename(folder.with_name("elsewhere"))
    bot.look()
    assert newest(bot, "counter").state is PluginState.RUNNING
    assert alerts(bot) == ["PLUGIN_FOLDER_UNREADABLE"]
    bot = bot.again().ready()
    bot.tick(50_000)
    assert alerts(bot) == ["PLUGIN_FOLDER_UNREADABLE"]
    assert bot.orders == []
    folder.with_name("elsewhere").rename(folder)
    bot.look()

    assert resolved(bot) == ["PLUGIN_FOLDER_UNREADABLE"]
    assert newest(bot, "counter").state is PluginState.RUNNING


def test_two_files_of_one_name_are_one_that_runs_and_one_that_says_why_not(make_bot: Any) -> None:
    bot = make_bot({"counter.py": COUNTER})
    drop(bot, "another.py", COUNTER)
    assert newest(bot, "another").state is PluginState.BROKEN
    assert "the name 'counter' is taken by counter.py" in newest(bot, "another").reason
    (bot.settings.bot.plugins_dir / "counter.py").unlink()
    bot.look()

    status = newest(bot, "counter")
    assert (status.state, status.path) == (PluginState.RUNNING, "another.py")


def test_an_operator_switches_between_off_shadow_and_live_and_back_to_the_configuration(make_bot: Any) -> None:
    bot = make_bot().ready()
    bot.control(ControlAction.DISABLE, "obedient")
    assert statuses(bot, "obedient")[-1] == (PluginState.DISABLED, PluginMode.OFF)
    assert newest(bot, "obedient").reason == "by test: a test"
    bot.tick(50_000, word=1)
    bot.control(ControlAction.SHADOW, "obedient")
    bot.tick(50_000, word=1)
    bot.control(ControlAction.PROMOTE, "obedient")
    bot.tick(50_000, word=2)
    bot.control(ControlAction.ENABLE, "obedient")

    assert [signal.shadow for signal in bot.said(Signal)] == [True, False]
    assert statuses(bot, "obedient")[-1] == (PluginState.RUNNING, PluginMode.LIVE)
    again = bot.again()
    assert statuses(again, "obedient")[-1] == (PluginState.RUNNING, PluginMode.LIVE)


def test_an_operators_word_holds_over_a_restart(make_bot: Any) -> None:
    bot = make_bot().ready()
    bot.control(ControlAction.SHADOW, "obedient")

    assert statuses(bot.again(), "obedient")[-1] == (PluginState.RUNNING, PluginMode.SHADOW)


def test_a_quarantined_version_does_not_run_again_until_it_is_enabled_or_changed(make_bot: Any) -> None:
    bad = COUNTER.replace("self.seen += 1", "raise RuntimeError('no luck')")
    bot = make_bot({"counter.py": bad}).ready()
    for _ in range(5):
        bot.tick(50_000)
    assert newest(bot, "counter").state is PluginState.QUARANTINED
    assert alerts(bot) == ["PLUGIN_QUARANTINED"]
    bot = bot.again()
    assert newest(bot, "counter").state is PluginState.QUARANTINED
    assert "no luck" in newest(bot, "counter").reason
    assert alerts(bot) == []
    bot.control(ControlAction.ENABLE, "counter")
    assert newest(bot, "counter").state is PluginState.RUNNING


def test_when_all_workers_die_with_their_maker_no_plugin_is_blamed(make_bot: Any) -> None:
    bot = make_bot().ready()
    first = bot.workers.made["obedient"]
    bot.loop.lifecycle.workers_died()
    bot.look()
    bot.tick(50_000, word=1)

    assert bot.workers.made["obedient"] is not first
    assert len(bot.said(Signal)) == 1
    assert alerts(bot) == []


def test_a_pause_keeps_out_new_entries_lets_exits_pass_and_outlives_the_bot(make_bot: Any) -> None:
    bot = make_bot().ready()
    bot.bought()
    bot.control(ControlAction.PAUSE)
    bot.tick(40_000)
    bot.filled(bot.orders[-1], 40_000)
    bot = bot.again().ready()
    bot.tick(50_000, word=1)

    assert [order.reduce_only for order in bot.orders] == []
    assert bot.denials == ["ENTRIES_PAUSED"]
    bot.control(ControlAction.CONTINUE)
    bot.tick(50_000, word=1)
    assert [decision.verdict for decision in bot.said(Decision)][-1] is Verdict.TAKEN
