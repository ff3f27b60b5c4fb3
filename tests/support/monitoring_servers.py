"""Real Prometheus and Alertmanager beside a running stack, with our own configuration in a quick copy."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.support.waiting import eventually

MONITORING = Path(__file__).resolve().parents[2] / "monitoring"
PACKAGES = {"prometheus": "prometheus", "promtool": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager"}
"""Programs, and the Debian packages that have them."""
INSTALL_S = 240
READY_S = 30.0
STOP_S = 10.0


class Missing(Exception):
    """A program is not there and could not be installed; the text says what to install."""


def programs(packages: Mapping[str, str] = PACKAGES) -> dict[str, str]:
    """The paths of these programs, installed first where this is Debian and we may; raises Missing."""
    names = sorted({package for program, package in packages.items() if shutil.which(program) is None})
    if names and os.geteuid() == 0 and shutil.which("apt-get"):
        # RUNLEVEL: Debian would start the services that come with the programs
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *names]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=INSTALL_S, check=False)
            if done.returncode:
                raise Missing(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    found = {program: shutil.which(program) for program in packages}
    if absent := [program for program, path in found.items() if path is None]:
        raise Missing(f"needs {', '.join(absent)}: apt-get install {' '.join(sorted({packages[name] for name in absent}))}")
    return {program: path for program, path in found.items() if path}


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the copies go: our own files wait for minutes where a test has seconds."""

    scrape: str = "1s"
    hold: str = "2s"
    """What a rule's `for` becomes."""


class HttpServer:
    """A server of Prometheus' family: a child process with a folder of its own, asked by HTTP."""

    def __init__(self, name: str, argv: list[str], folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.port = free_port()
        self._argv = [*argv, f"--web.listen-address=127.0.0.1:{self.port}"]
        self._output = folder / f"{name}.out"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._output.open("wb") as output:
            process = subprocess.Popen(self._argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def ready(self) -> None:
        """Wait until it answers; what it printed is the error otherwise."""

        async def answers() -> bool:
            try:
                async with aiohttp.ClientSession() as session, session.get(f"{self.url}/-/ready") as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        try:
            await eventually(answers, READY_S, f"{self.name} answers")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._output.read_text()[-2000:]}") from error

    async def ask(self, path: str, **parameters: str | list[str]) -> Any:
        """The `data` of an answer; an error of the server is an AssertionError with its words."""
        form = [(name, text) for name, value in parameters.items() for text in ([value] if isinstance(value, str) else value)]
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}{path}", data=form) as response:
            answer = await response.json()
        assert answer["status"] == "success", f"{answer.get('errorType')}: {answer.get('error')}"
        return answer["data"]

    async def get(self, path: str, **parameters: str) -> Any:
        """The same for what must be asked with GET."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", f"{answer.get('errorType')}: {answer.get('error')}"
        return answer["data"]


def prometheus(program: str, folder: Path, targets: Path, alertmanager_port: int, pace: Pace) -> HttpServer:
    """Our Prometheus: our scrape configuration with the stack's `targets`, our rules with a short `for`, our labels."""
    source = MONITORING / "prometheus"
    config = yaml.safe_load((source / "prometheus.yml").read_text())
    config["global"].update(scrape_interval=pace.scrape, evaluation_interval=pace.scrape)
    config["global"].pop("scrape_timeout", None)
    config["scrape_configs"] = [_with_targets(job, targets) for job in config["scrape_configs"] if "file_sd_configs" in job]
    assert len(config["scrape_configs"]) == 1, "one job reads the targets of `tradebot up`"
    config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]}
    rules = sorted(path for pattern in config["rule_files"] for path in source.glob(pattern))
    assert rules, "no rule files"
    config["rule_files"] = [path.name for path in rules]
    folder.mkdir(parents=True)
    for path in rules:
        (folder / path.name).write_text(yaml.safe_dump(_hurried(yaml.safe_load(path.read_text()), pace)))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    data = f"--storage.tsdb.path={folder / 'data'}"
    return HttpServer("prometheus", [program, f"--config.file={folder / 'prometheus.yml'}", data], folder)


def alertmanager(program: str, folder: Path, alerts_port: int) -> HttpServer:
    """Our Alertmanager: our routes without their waits, to the alerts process of the stack."""
    config = yaml.safe_load((MONITORING / "alertmanager" / "alertmanager.yml").read_text())
    for route in _routes(config["route"]):
        route.update(group_wait="0s", group_interval="1s")
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            webhook["url"] = f"http://127.0.0.1:{alerts_port}/alertmanager"
    folder.mkdir(parents=True)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    argv = [
        program,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        "--cluster.listen-address=",
    ]
    return HttpServer("alertmanager", argv, folder)


def rule_expressions(folder: Path) -> dict[str, str]:
    """The PromQL of every rule that a Prometheus of `folder` has, by the rule's name."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.yml")):
        for group in yaml.safe_load(path.read_text()).get("groups", ()):
            for rule in group["rules"]:
                name = rule.get("alert") or rule["record"]
                while name in found:
                    name += "'"
                found[name] = rule["expr"]
    return found


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _with_targets(job: dict[str, Any], targets: Path) -> dict[str, Any]:
    quick = {name: value for name, value in job.items() if name not in ("scrape_interval", "scrape_timeout")}
    return {**quick, "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}


def _hurried(rules: dict[str, Any], pace: Pace) -> dict[str, Any]:
    for group in rules["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = pace.hold
            rule.pop("keep_firing_for", None)
    return rules


def _routes(route: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield route
    for child in route.get("routes", ()):
        yield from _routes(child)


async def until(condition: Any, timeout_s: float, what: str, pause_s: float = 1.0) -> Any:
    """Like `eventually` for questions that cost something: asks once in `pause_s`."""

    async def paced() -> Any:
        value = await condition()
        if not value:
            await asyncio.sleep(pause_s)
        return value

    return await eventually(paced, timeout_s, what)
