"""The file that a backup is: a tar archive with a manifest that knows the size and the hash of everything else in it.

Whoever reads one trusts nothing but the manifest's own consistency: unknown, missing, changed or strangely named members make it a
damaged file, and nothing is written outside the folder that the caller gives.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 1 << 20
COMPRESSION = 1  # what is large in it is compressed already
NAME = re.compile(r"tradebot-(?P<mode>[a-z]+)-\d{8}T\d{6}Z\.tar\.gz")

_DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError, msgspec.MsgspecError, UnicodeDecodeError)


class BackupError(Exception):
    """A backup cannot be made or used; the text says why and what to do."""


class Member(msgspec.Struct, frozen=True):
    """One file of the archive."""

    path: str
    bytes: int
    sha256: str


class Step(msgspec.Struct, frozen=True):
    """When a part was taken, UTC nanoseconds: the order of the steps is what makes the parts fit together."""

    name: str
    started_ns: int
    ended_ns: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the archive, and what made it. `schema` is the version of the tables, `homes` names the home directories."""

    format: int = FORMAT
    mode: str
    created_ns: int
    tradebot: str
    schema: str
    postgres: str
    bus: str
    homes: tuple[str, ...]
    steps: tuple[Step, ...]
    files: tuple[Member, ...]


def pack(folder: Path, manifest: Manifest, target: Path) -> Manifest:
    """Write all of `folder` to the archive `target` (0600), whole or not at all; returns the manifest with the files in it."""
    files = tuple(sorted(_members(folder), key=lambda member: member.path))
    manifest = msgspec.structs.replace(manifest, files=files)
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=COMPRESSION) as archive:
                for path in (MANIFEST, *(member.path for member in files)):
                    archive.add(folder / path, arcname=path, recursive=False)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return manifest


def unpack(archive: Path, folder: Path) -> Manifest:
    """Check the archive and write its files below `folder`; raises BackupError when a single byte is not as the manifest says."""
    try:
        with tarfile.open(archive, mode="r:gz") as tar:
            entries = iter(tar)
            manifest = _read_manifest(tar, next(entries, None))
            expected = {member.path: member for member in manifest.files}
            for entry in entries:
                member = expected.pop(entry.name, None)
                if member is None or not entry.isreg() or not _is_plain(entry.name) or entry.size != member.bytes:
                    raise BackupError(f"{archive} is damaged: {entry.name[:100]!r} is not in its manifest, or of another size")
                _extract(tar, entry, member, folder)
            if expected:
                raise BackupError(f"{archive} is damaged: {min(expected)} is missing")
    except _DAMAGE as error:
        raise BackupError(f"{archive} is damaged or not a backup: {error or type(error).__name__}") from None
    return manifest


def read_manifest(archive: Path) -> Manifest:
    """What an archive says about itself, its files unchecked; raises BackupError."""
    try:
        with tarfile.open(archive, mode="r:gz") as tar:
            return _read_manifest(tar, tar.next())
    except _DAMAGE as error:
        raise BackupError(f"{archive} is damaged or not a backup: {error or type(error).__name__}") from None


def drop_older(folder: Path, mode: str, keep: int) -> list[Path]:
    """Delete all but the newest `keep` backups of a mode that have the usual name; returns what was deleted."""
    found = sorted(path for path in folder.iterdir() if (match := NAME.fullmatch(path.name)) and match["mode"] == mode)
    old = found[:-keep] if keep else []
    for path in old:
        path.unlink()
    return old


def _members(folder: Path) -> Iterator[Member]:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            yield Member(path.relative_to(folder).as_posix(), path.stat().st_size, digest.hexdigest())


def _read_manifest(tar: tarfile.TarFile, entry: tarfile.TarInfo | None) -> Manifest:
    if entry is None or entry.name != MANIFEST or entry.size > MAX_MANIFEST_BYTES:
        raise tarfile.ReadError("it does not begin with a manifest")
    file = tar.extractfile(entry)
    manifest = msgspec.json.decode(file.read() if file else b"", type=Manifest)
    if manifest.format != FORMAT:
        raise BackupError(f"a backup of format {manifest.format}, and this version reads {FORMAT}: use the version that made it")
    return manifest


def _is_plain(name: str) -> bool:
    """Whether a member's name leads to a place below the folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\x00" not in name


def _extract(tar: tarfile.TarFile, entry: tarfile.TarInfo, member: Member, folder: Path) -> None:
    source = tar.extractfile(entry)
    target = folder / entry.name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while source is not None and (chunk := source.read(CHUNK_BYTES)):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != member.sha256:
        raise tarfile.ReadError(f"{entry.name} has other contents than its manifest says")
