"""The core of docker-compose.yml, started for real: the image's virtual environment, the file's commands, environment and secrets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose_file import ROOT, interpolated, services
from tests.support.containers import PROGRAMS, Container, Image, Network, NoNamespaces, interpreter_folders
from tests.support.dockerfile import build_virtual_environment, interpreter, stages
from tests.support.monitoring_servers import Missing, programs
from tests.support.waiting import eventually

pytestmark = [pytest.mark.ops, pytest.mark.timeout(900)]

HEALTHY_S = 90.0
TRADED_S = 120.0
SERVERS = ("redis", "postgres")
ONCE = ("roles", "migrate")
PROCESSES = ("simulator-binance", "connector-binance", "bot", "recorder", "alerts", "traces")

POSTGRES_ENTRYPOINT = """
# What the official image does on an empty volume and then always, as far as our file uses it.
set -e
PGDATA=/var/lib/postgresql/18/docker
if [ ! -s $PGDATA/PG_VERSION ]; then
    initdb --pgdata=$PGDATA --username=postgres --pwfile=$POSTGRES_PASSWORD_FILE $POSTGRES_INITDB_ARGS
    echo "host all all all scram-sha-256" >> $PGDATA/pg_hba.conf
    export PGPASSWORD="$(cat $POSTGRES_PASSWORD_FILE)" PGHOST=/var/run/postgresql PGUSER=postgres
    pg_ctl --pgdata=$PGDATA --wait -o "-c listen_addresses='' -k /var/run/postgresql" start
    createdb "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sql; do psql -v ON_ERROR_STOP=1 --dbname="$POSTGRES_DB" --file="$script"; done
    pg_ctl --pgdata=$PGDATA --wait --mode=fast stop
    unset PGPASSWORD
fi
exec postgres -D $PGDATA -c listen_addresses='*' -k /var/run/postgresql "$@"
"""


class Deployment:
    """A checkout as an operator has it after `make env`, and the services of its compose file."""

    def __init__(self, folder: Path, virtual_environment: Path, python: str, network: Network) -> None:
        self.folder, self.network = folder, network
        self._environment, self._python = virtual_environment, python
        for name in ("config", "plugins"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / ".env.example", folder)
        subprocess.run([virtual_environment / "bin/tradebot", "env"], cwd=folder, check=True, capture_output=True)
        lines = [line for line in (folder / ".env").read_text().splitlines() if "=" in line and not line.startswith("#")]
        self.services: dict[str, Any] = interpolated(services(), dict(line.split("=", 1) for line in lines))
        self.containers: dict[str, Container] = {}

    def container(self, name: str) -> Container:
        if name not in self.containers:
            image = {"redis": self._redis, "postgres": self._postgres}.get(name, self._ours)()
            self.containers[name] = Container(name, self.services[name], image, self.folder, self.network)
        return self.containers[name]

    async def up(self, name: str) -> Container:
        """Start a service and wait until its own health check says yes."""
        container = self.container(name)
        container.start()

        def healthy() -> bool:
            assert container.running, f"{name} ended: {container.output.read_text()[-4000:]}"
            return container.healthy()

        try:
            await eventually(healthy, HEALTHY_S, f"{name} healthy")
        except AssertionError as error:
            asked = container.check_health()
            raise AssertionError(f"{error}; {asked.stdout} {asked.stderr}; {container.output.read_text()[-4000:]}") from error
        return container

    def once(self, name: str, *command: str) -> str:
        """Run a service that ends; its output."""
        done = self.container(name).run(*command)
        assert done.returncode == 0, f"{name} {command}: {done.stdout} {done.stderr}"
        return done.stdout

    def end(self) -> None:
        for container in self.containers.values():
            container.end()

    def _ours(self) -> Image:
        entrypoint = tuple(json.loads(next(one.text for one in stages(ROOT / "Dockerfile")[-1] if one.name == "ENTRYPOINT")))
        return Image(entrypoint, (self._environment / "bin",), (self._environment, *interpreter_folders(self._python)))

    def _redis(self) -> Image:
        command = tuple(json.loads(next(one.text for one in stages(ROOT / "redis/Dockerfile")[-1] if one.name == "CMD")))
        tools = self.folder / "redis-tools"
        tools.mkdir()
        client = shutil.which("redis-cli")
        assert client is not None
        (tools / "valkey-cli").symlink_to(client)
        (tools / "valkey-server").symlink_to(next(self._environment.rglob("valkey-server")))
        return Image(command, (tools,), (tools, self._environment), {"/etc/valkey/redis.conf": ROOT / "redis/redis.conf"})

    def _postgres(self) -> Image:
        entrypoint = self.folder / "postgres-entrypoint"
        entrypoint.write_text(POSTGRES_ENTRYPOINT)
        binaries = next(self._environment.rglob("pginstall18")) / "bin"
        scripts = {f"/docker-entrypoint-initdb.d/{path.name}": path for path in (ROOT / "postgres/init").iterdir()}
        return Image(("bash", "/entrypoint.sh"), (binaries,), (self._environment,), {"/entrypoint.sh": entrypoint} | scripts)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes a network and containers of its own")
    made = Network()
    try:
        programs(PROGRAMS)
        made.up()
        yield made
    except (Missing, NoNamespaces) as missing:
        pytest.skip(str(missing))
    finally:
        made.down()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Iterator[Deployment]:
    python = interpreter()
    virtual_environment = build_virtual_environment(tmp_path_factory.mktemp("image"), python)
    made = Deployment(tmp_path_factory.mktemp("checkout"), virtual_environment, python, network)
    try:
        yield made
    finally:
        made.end()


async def test_the_core_starts_trades_is_saved_and_brought_back_as_the_compose_file_says(deployment: Deployment) -> None:
    for name in SERVERS:
        await deployment.up(name)
    for name in ONCE:
        deployment.once(name)
    await _start(deployment)

    await eventually(lambda: trades(deployment), TRADED_S, "an order is filled and recorded")
    await _the_emergency_stop_reaches_the_connector(deployment)
    for name in PROCESSES:
        _has_no_rights(deployment.container(name))
        _shows_no_secret(deployment, name)

    deployment.once("backup")
    (archive,) = (deployment.folder / "backups").iterdir()
    saved = trades(deployment)
    _stop(deployment, PROCESSES)
    deployment.once("backup", "restore", f"/backups/{archive.name}", "--homes", "/homes", "--force")
    await _start(deployment)
    kept = {trade["trade_id"] for trade in trades(deployment)}

    assert {trade["trade_id"] for trade in saved} <= kept
    _stop(deployment, [*SERVERS, *PROCESSES])


def trades(deployment: Deployment) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(deployment.once("cli", "trades", "--json"))
    return found


async def _start(deployment: Deployment) -> None:
    for name in PROCESSES:
        await deployment.up(name)


def _stop(deployment: Deployment, names: Sequence[str]) -> None:
    """In the opposite order, each by its own signal and within its own grace period."""
    for name in reversed(names):
        assert deployment.container(name).stop() == 0, f"{name}: {deployment.container(name).output.read_text()[-3000:]}"


def _has_no_rights(container: Container) -> None:
    status = container.kernel_view()
    assert {*status["Uid"].split()} == {container.service["user"].partition(":")[0]}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def _shows_no_secret(deployment: Deployment, name: str) -> None:
    """No password is in an argument, in the environment, or in a line that was written."""
    passwords = [path.read_text().strip() for path in (deployment.folder / "secrets").glob("*_password*")]
    process = deployment.container(name).main_process
    written = [deployment.container(name).output, *(deployment.folder / "volumes/logs").rglob("*.log*")]
    shown = [*process.cmdline(), *process.environ().values(), *(path.read_text() for path in written)]
    assert not [text for text in shown for password in passwords if password in text]


async def _the_emergency_stop_reaches_the_connector(deployment: Deployment) -> None:
    """Pressed in a container of its own, it is durable in the home of the connector: the bus carried it."""
    state = deployment.folder / "volumes/connector-binance/stop/state.json"

    for command, pressed in (("halt", True), ("resume", False)):
        deployment.once("cli", command, *(["--reason", "drill"] if pressed else []))
        await eventually(lambda pressed=pressed: json.loads(state.read_text())["pressed"] is pressed, 10.0, f"{command} is durable")
