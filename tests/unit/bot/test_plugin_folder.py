"""The plugin folder tells of complete files only, and of a file that is gone only when it stays away."""

from __future__ import annotations

import os
from pathlib import Path

from bot.plugin_folder import Changes, PluginFolder


def write(path: Path, text: str = "x = 1\n", *, old: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if old:
        os.utime(path, (1, 1 + len(text)))


def test_files_of_all_subfolders_are_told_once_and_those_with_an_underscore_or_a_dot_never(tmp_path: Path) -> None:
    for name in ("b.py", "deep/er/a.py", "_c.py", ".d.py", "_e/f.py", "__pycache__/g.py", "notes.txt"):
        write(tmp_path / name)
    folder = PluginFolder(tmp_path)

    assert folder.look() == Changes(present=("b.py", "deep/er/a.py"))
    assert folder.look() == Changes()


def test_a_young_file_is_told_when_it_has_looked_the_same_twice(tmp_path: Path) -> None:
    folder = PluginFolder(tmp_path)
    write(tmp_path / "a.py", "x", old=False)
    assert folder.look() == Changes()
    write(tmp_path / "a.py", "xy", old=False)  # it is still being copied
    assert folder.look() == Changes()
    assert folder.look() == Changes(present=("a.py",))


def test_a_changed_file_is_told_again(tmp_path: Path) -> None:
    folder = PluginFolder(tmp_path)
    write(tmp_path / "a.py", "x = 1\n")
    folder.look()
    write(tmp_path / "a.py", "x = 10\n")

    assert folder.look() == Changes(present=("a.py",))


def test_a_file_that_an_editor_replaces_is_never_gone(tmp_path: Path) -> None:
    folder = PluginFolder(tmp_path)
    write(tmp_path / "a.py", "x = 1\n")
    folder.look()
    (tmp_path / "a.py").unlink()
    assert folder.look() == Changes()
    write(tmp_path / "a.py", "x = 10\n")
    assert folder.look() == Changes(present=("a.py",))


def test_a_removed_file_is_gone_once_and_may_come_back(tmp_path: Path) -> None:
    folder = PluginFolder(tmp_path)
    write(tmp_path / "a.py")
    folder.look()
    (tmp_path / "a.py").unlink()
    assert [folder.look(), folder.look(), folder.look()] == [Changes(), Changes(gone=("a.py",)), Changes()]
    write(tmp_path / "a.py")
    assert folder.look() == Changes(present=("a.py",))


def test_a_folder_that_is_not_there_or_links_out_of_itself_has_no_files(tmp_path: Path) -> None:
    folder = PluginFolder(tmp_path / "none")
    assert folder.look() == Changes()
    assert "No such file or directory" in folder.trouble
    write(tmp_path / "outside/a.py")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/link").symlink_to(tmp_path / "outside")
    assert PluginFolder(tmp_path / "plugins").look() == Changes()


def test_when_the_folder_itself_goes_away_no_file_is_gone(tmp_path: Path) -> None:
    write(tmp_path / "plugins/a.py")
    folder = PluginFolder(tmp_path / "plugins")
    folder.look()
    (tmp_path / "plugins").rename(tmp_path / "elsewhere")
    assert [folder.look(), folder.look(), folder.look()] == [Changes()] * 3
    (tmp_path / "elsewhere").rename(tmp_path / "plugins")
    assert folder.look() == Changes()
    assert folder.trouble == ""


def test_links_that_lead_nowhere_pipes_and_odd_names_hide_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "broken.py").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.py").symlink_to(tmp_path / "loop.py")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "\udcff.py").write_text("x = 1")
    write(tmp_path / "good.py")
    folder = PluginFolder(tmp_path)
    told = {*folder.look().present, *folder.look().present}

    assert told == {"broken.py", "loop.py", "pipe.py", "good.py"}
    assert folder.trouble == ""
