"""Only plain files of the folder are read, and nothing that waits."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bot.isolation.source import MAX_SOURCE_BYTES, PluginRefused, read_source


def test_a_file_is_read_with_its_place_and_hash(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "a.py"
    path.write_bytes(b"x = 1\n")
    source = read_source(path, tmp_path)

    assert (source.path, source.code) == ("sub/a.py", b"x = 1\n")
    assert hashlib.sha256(b"x = 1\n").hexdigest().startswith(source.version)


def test_a_link_within_the_folder_is_followed_and_one_out_of_it_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "a.py").write_text("x = 1\n")
    (tmp_path / "outside.py").write_text("x = 2\n")
    (folder / "inside.py").symlink_to("a.py")
    (folder / "out.py").symlink_to("../outside.py")

    assert read_source(folder / "inside.py", folder).code == b"x = 1\n"
    with pytest.raises(PluginRefused, match="leads out of the plugin folder"):
        read_source(folder / "out.py", folder)


def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "loop.py").symlink_to("loop.py")
    for name in ("pipe.py", "folder.py"):
        with pytest.raises(PluginRefused, match=f"{name}: is no plain file"):
            read_source(tmp_path / name, tmp_path)
    with pytest.raises(PluginRefused, match=r"loop\.py: cannot be read"):
        read_source(tmp_path / "loop.py", tmp_path)


def test_a_file_that_is_gone_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_source(tmp_path / "none.py", tmp_path)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (b"#" * (MAX_SOURCE_BYTES + 1), "at most"),
        (b"x = 1\n\0", "a.py:2: contains a NUL byte"),
        (b'x = 1\ny = "caf\xe9"\n', r"a.py:2: is not UTF-8: .* \(byte 0xe9\)"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, code: bytes, text: str) -> None:
    (tmp_path / "a.py").write_bytes(code)

    with pytest.raises(PluginRefused, match=text):
        read_source(tmp_path / "a.py", tmp_path)
