"""A backup's file: whole or refused, whatever happened to its bytes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradebot.backup_archive import MANIFEST, BackupError, Manifest, Member, drop_older, pack, read_manifest, unpack

EMPTY = Manifest(
    mode="simulation", created_ns=1, tradebot="0.1.0", schema="0001", postgres="18.4", bus="valkey 9", homes=("home",), steps=(), files=()
)  # fmt: skip
FILES = {
    "database.dump": b"PGDMP" * 1000,
    "homes/home/journal/simulation/binance-main.journal": b"line\n" * 50,
    "streams/empty": b"",
}


def made(folder: Path) -> Path:
    source = folder / "source"
    for name, data in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    target = folder / "backup.tar.gz"
    manifest = pack(source, EMPTY, target)
    assert {member.path for member in manifest.files} == FILES.keys()
    return target


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("archive"))


def test_what_was_packed_comes_back_private(archive: Path, tmp_path: Path) -> None:
    manifest = unpack(archive, tmp_path / "out")
    assert manifest == read_manifest(archive)
    assert {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()
    } == FILES
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_file()} == {0o600}
    assert archive.stat().st_mode & 0o777 == 0o600


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_is_noticed(archive: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    good = archive.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    bad = {
        "flip": good[:place] + bytes([good[place] ^ 0x41]) + good[place + 1 :],
        "cut": good[:place],
        "insert": good[:place] + b"\x00garbage" + good[place:],
    }[kind]
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "bad.tar.gz").write_bytes(bad)
    try:
        unpack(folder / "bad.tar.gz", folder / "out")
    except BackupError:
        return
    for name, content in FILES.items():  # damage that changes nothing of what is in it, such as the time in gzip's head
        assert (folder / "out" / name).read_bytes() == content


def forged(folder: Path, entries: list[tuple[tarfile.TarInfo, bytes]], files: tuple[Member, ...] = ()) -> Path:
    path = folder / "forged.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        text = msgspec.json.encode(msgspec.structs.replace(EMPTY, files=files))
        head = tarfile.TarInfo(MANIFEST)
        head.size = len(text)
        tar.addfile(head, io.BytesIO(text))
        for entry, body in entries:
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    return path


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "homes/../../outside"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    path = forged(tmp_path, [(tarfile.TarInfo(name), b"foo")], (Member(name, 3, digest),))
    with pytest.raises(BackupError, match="damaged"):
        unpack(path, tmp_path / "in" / "out")
    assert not (tmp_path / "in" / "outside").exists()
    assert not (tmp_path / "outside").exists()


def test_links_and_strangers_are_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("installation")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    for entry, files in ((link, (Member("installation", 0, ""),)), (tarfile.TarInfo("stranger"), ())):
        with pytest.raises(BackupError, match="damaged"):
            unpack(forged(tmp_path, [(entry, b"")], files), tmp_path / "out")


def test_a_file_that_was_exchanged_is_noticed_by_its_hash(tmp_path: Path) -> None:
    path = forged(tmp_path, [(tarfile.TarInfo("installation"), b"foo")], (Member("installation", 3, "0" * 64),))
    with pytest.raises(BackupError, match="installation has other contents"):
        unpack(path, tmp_path / "out")


def test_a_missing_file_and_a_later_format_are_told(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"database\.dump is missing"):
        unpack(forged(tmp_path, [], (Member("database.dump", 3, "x"),)), tmp_path / "out")
    target = tmp_path / "later.tar.gz"
    pack(tmp_path, msgspec.structs.replace(EMPTY, format=2), target)
    with pytest.raises(BackupError, match="format 2"):
        unpack(target, tmp_path / "out")


def test_only_the_newest_of_the_same_mode_are_kept(tmp_path: Path) -> None:
    names = [f"tradebot-{mode}-2026112{day}T000000Z.tar.gz" for mode in ("simulation", "live") for day in (1, 2, 3)]
    for name in [*names, "tradebot-simulation-mine.tar.gz", "notes.txt"]:
        (tmp_path / name).touch()
    dropped = drop_older(tmp_path, "simulation", 1)
    assert [path.name for path in dropped] == names[:2]
    assert len(list(tmp_path.iterdir())) == 6
    assert drop_older(tmp_path, "simulation", 0) == []
