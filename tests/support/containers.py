"""The services of docker-compose.yml as containers without an engine: bubblewrap in place of Docker, on one private network.

A service gets what the file gives it and nothing else: its command and environment, its user, no capabilities, no new privileges,
a read-only root, the tmpfs and volumes and secrets that it names, and a network without a way out, on which every service's name is
127.0.0.1, so that ports are the file's own. What differs from Docker is said in docs/operations.md: this machine's /usr in place of
the image's Debian, one network for all, no limits of memory, processor and processes, none of Docker's own system call filter.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.compose_file import services

PROGRAMS = {"bwrap": "bubblewrap", "redis-cli": "redis-tools", "ip": "iproute2", "nsenter": "util-linux", "setpriv": "util-linux"}
"""What this needs beside Python, and the Debian packages that have it."""

IMAGE_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", "HOME": "/tmp"}
EXEC_S = 60.0


class NoNamespaces(Exception):
    """This machine does not let us make a network or a root of our own; the text says what refused."""


class Network:
    """A network of this machine's own that only its containers are on, held by a process that sleeps."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "--", "sleep", "infinity"], stderr=subprocess.DEVNULL)

    def up(self) -> None:
        """Wait until the network is there, and open its loopback; raises NoNamespaces."""
        while self._holder.poll() is None and _namespace(self._holder.pid) == _namespace(os.getpid()):
            time.sleep(0.01)
        commands = (["ip", "link", "set", "lo", "up"], ["bwrap", "--ro-bind", "/", "/", "--unshare-pid", "true"])
        for command in commands:
            done = subprocess.run([*self.inside, *command], capture_output=True, text=True, check=False)
            if self._holder.poll() is not None or done.returncode:
                raise NoNamespaces(f"{command[0]}: {done.stderr or 'no network namespace'}")

    @property
    def inside(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--"]

    def down(self) -> None:
        self._holder.kill()
        self._holder.wait()


@dataclass(frozen=True, slots=True)
class Image:
    """What a container finds beside what its service gives it: `path` is its PATH, `seen` are folders of this machine, `files` by target."""

    entrypoint: tuple[str, ...]
    path: tuple[Path, ...]
    seen: tuple[Path, ...]
    files: Mapping[str, Path] = field(default_factory=dict)


class Container:
    """One service. `folder` is the checkout, with config, plugins and secrets; the volumes lie in its folder `volumes`."""

    def __init__(self, name: str, service: Mapping[str, Any], image: Image, folder: Path, network: Network) -> None:
        self.name, self.service = name, service
        self._image, self._folder, self._network = image, folder, network
        self._process: subprocess.Popen[bytes] | None = None
        self.output = folder / f"{name}.out"

    def start(self) -> None:
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self._argv([*self._image.entrypoint, *self.service.get("command", [])]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """`docker compose run --rm NAME command`; without a command the service's own."""
        return self._once([*self._image.entrypoint, *(command or self.service["command"])])

    def healthy(self) -> bool:
        """What the service's own health check says now."""
        return self.check_health().returncode == 0

    def check_health(self) -> subprocess.CompletedProcess[str]:
        how, *words = self.service["healthcheck"]["test"]
        return self._once(["sh", "-c", words[0]] if how == "CMD-SHELL" else words)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def main_process(self) -> psutil.Process:
        """The service's own process, the one that Docker would signal: below bubblewrap and its reaper."""
        assert self._process is not None
        found = psutil.Process(self._process.pid)
        while found.name() in ("bwrap", "nsenter", "setpriv"):
            found = found.children()[0]
        return found

    def kernel_view(self) -> dict[str, str]:
        """What the kernel says of the service's own process: /proc/PID/status."""
        lines = Path(f"/proc/{self.main_process.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines)

    def stop(self) -> int:
        """The service's stop signal, then its grace period; the exit code. Fails when the service outlives that."""
        assert self._process is not None
        os.kill(self.main_process.pid, signal.Signals[self.service.get("stop_signal", "SIGTERM")])
        return self._process.wait(float(self.service["stop_grace_period"].removesuffix("s")))

    def end(self) -> None:
        """Whatever happened, leave no process behind: the reaper's end is everybody's."""
        if self.running and self._process is not None:
            for process in psutil.Process(self._process.pid).children():
                process.kill()
            self._process.kill()
            self._process.wait()

    def _once(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._argv(command), capture_output=True, text=True, timeout=EXEC_S, check=False, stdin=subprocess.DEVNULL
        )

    def _argv(self, command: Sequence[str]) -> list[str]:
        uid, _, gid = self.service["user"].partition(":")
        drop = [
            "setpriv",
            f"--reuid={uid}",
            f"--regid={gid}",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--no-new-privs",
        ]
        return [*self._network.inside, "bwrap", *self._root(), *self._mounts(), *self._environment(), "--", *drop, *command]

    def _root(self) -> list[str]:
        """A root of its own with this machine's programs, and none of its data."""
        words = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--proc", "/proc", "--dev", "/dev"]
        for mount in self.service["tmpfs"]:
            target = mount.partition(":")[0]
            words += [*_parents(target), "--perms", "1777", "--tmpfs", target]
        for path in ("/usr", "/etc/ssl", "/etc/group", "/etc/nsswitch.conf", *map(str, self._image.seen)):
            words += _bind(path, path)
        for link in ("bin", "lib", "lib64", "sbin"):
            words += ["--symlink", f"usr/{link}", f"/{link}"]
        names = {"/etc/hosts": _hosts(self._folder), "/etc/passwd": _users(self._folder, self.service["user"])}
        for target, source in (names | dict(self._image.files)).items():
            words += _bind(str(source), target)
        return [*words, "--perms", "0755", "--dir", "/app", "--chdir", "/app"]

    def _mounts(self) -> list[str]:
        words: list[str] = []
        for mount in self.service.get("volumes", []):
            source, target, *mode = mount.split(":")
            path = self._folder / (source.removeprefix("./") if source.startswith("./") else f"volumes/{source}")
            if not path.exists():
                path.mkdir(parents=True)
                path.chmod(0o1777)  # as a new volume takes it from the image
            words += _bind(str(path), target, how="--ro-bind" if mode == ["ro"] else "--bind")
        for secret in self.service.get("secrets", []):
            words += _bind(str(self._folder / "secrets" / secret), f"/run/secrets/{secret}")
        return [*words, "--remount-ro", "/"]

    def _environment(self) -> list[str]:
        path = ":".join([*map(str, self._image.path), "/usr/bin", "/bin"])
        given = {name: str(value) for name, value in self.service.get("environment", {}).items() if value is not None}
        words = ["--clearenv"]
        for name, value in ({"PATH": path} | IMAGE_ENVIRONMENT | given).items():
            words += ["--setenv", name, value]
        return words


def _namespace(pid: int) -> str:
    return Path(f"/proc/{pid}/ns/net").readlink().name


def _bind(source: str, target: str, how: str = "--ro-bind") -> list[str]:
    return [*_parents(target), how, source, target]


def _parents(target: str) -> list[str]:
    """The folders on the way to a mount; bubblewrap would make them for root only."""
    return [word for parent in reversed(Path(target).parents[:-1]) for word in ("--perms", "0755", "--dir", str(parent))]


def _hosts(folder: Path) -> Path:
    """Every service by its name, as Docker's own name server would answer, on the one network."""
    path = folder / "hosts"
    path.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *services())))
    return path


def _users(folder: Path, user: str) -> Path:
    """The user of the containers has a name, as it has in our image, and in others by their start scripts."""
    path = folder / "passwd"
    uid, _, gid = user.partition(":")
    path.write_text(f"root:x:0:0::/root:/bin/sh\ntradebot:x:{uid}:{gid}::/tmp:/bin/sh\n")
    return path


def interpreter_folders(python: str = sys.executable) -> list[Path]:
    """Where a Python outside of /usr lies: a virtual environment is of no use without it."""
    script = "import sys; print(sys.base_prefix)"
    prefix = Path(subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip())
    return [] if prefix.is_relative_to("/usr") else [prefix]
