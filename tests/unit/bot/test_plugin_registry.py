"""What operators said, who was quarantined and who ran outlives the bot."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.plugin_registry import Known, PluginRegistry, RegistryError
from common_models import Control, ControlAction, PluginMode


def registry(tmp_path: Path) -> PluginRegistry:
    made = PluginRegistry(tmp_path, tmp_path / "versions")
    made.open()
    return made


def control(action: ControlAction, at_ns: int, target: str | None = "sma") -> Control:
    return Control(action=action, actor="ann", reason="because", created_at_ns=at_ns, target=target)


def test_an_operators_word_holds_over_a_restart_until_it_is_taken_back(tmp_path: Path) -> None:
    assert registry(tmp_path).hear(control(ControlAction.SHADOW, 1))
    word = registry(tmp_path).word("sma")
    assert word is not None
    assert (word.mode, word.actor, word.reason) == (PluginMode.SHADOW, "ann", "because")
    assert registry(tmp_path).hear(control(ControlAction.ENABLE, 2))
    assert registry(tmp_path).word("sma") is None


def test_a_word_that_is_read_again_changes_nothing(tmp_path: Path) -> None:
    first = registry(tmp_path)
    words = [control(ControlAction.DISABLE, 1), control(ControlAction.PROMOTE, 2)]
    assert [first.hear(word) for word in words] == [True, True]

    second = registry(tmp_path)  # the control stream is read from its start
    assert [second.hear(word) for word in words] == [False, False]
    word = second.word("sma")
    assert word is not None
    assert word.mode is PluginMode.LIVE


@pytest.mark.parametrize("action", [ControlAction.HALT, ControlAction.PAUSE, ControlAction.RESUME])
def test_other_words_are_not_about_plugins(tmp_path: Path, action: ControlAction) -> None:
    assert not registry(tmp_path).hear(control(action, 1, "binance"))
    assert not registry(tmp_path).hear(control(ControlAction.DISABLE, 2, None))


def test_a_quarantine_outlives_the_bot_and_is_lifted_by_version(tmp_path: Path) -> None:
    registry(tmp_path).quarantine("abc", "endless loop")
    assert registry(tmp_path).quarantined("abc") == "endless loop"
    assert registry(tmp_path).quarantined("abd") == ""
    registry(tmp_path).release("abc")
    assert registry(tmp_path).quarantined("abc") == ""


def test_who_ran_is_known_later(tmp_path: Path) -> None:
    known = Known("a/sma.py", "abc", "close")
    registry(tmp_path).note("sma", known)
    assert list(registry(tmp_path).known()) == [("sma", known)]
    assert registry(tmp_path).known_path("sma") == "a/sma.py"
    registry(tmp_path).forget("sma")
    assert list(registry(tmp_path).known()) == []


def test_versions_are_kept_by_hash_and_read_by_its_beginning(tmp_path: Path) -> None:
    one = registry(tmp_path)
    one.keep(b"x = 1\n")
    one.keep(b"x = 2\n")
    one.keep(b"x = 1\n")
    names = sorted(path.name for path in (tmp_path / "versions").iterdir())
    assert len(names) == 2
    assert {one.read(name[:12]) for name in names} == {b"x = 1\n", b"x = 2\n"}
    with pytest.raises(FileNotFoundError):
        one.read("feedbeef")


def test_a_damaged_file_is_named_and_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "plugins.json").write_text("{")
    with pytest.raises(RegistryError, match="move the file away"):
        registry(tmp_path)
