"""docker-compose.yml is what docs/operations.md says of it: hardened, closed, complete."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from postgres.roles import ROLES
from runtime.settings_loader import load_settings
from tests.support.compose_file import COMPOSE, OURS, ROOT, compose, interpolated, services
from tradebot import deployment_secrets
from tradebot.service_commands import service_command

CORE = {"redis", "postgres", "roles", "migrate", "simulator-binance", "connector-binance", "bot", "recorder", "alerts"}
PROFILES = {
    "monitoring": {"prometheus", "alertmanager", "grafana", "redis-exporter", "postgres-exporter"},
    "logging": {"elasticsearch", "elasticsearch-setup", "logstash", "kibana", "filebeat"},
    "tracing": {"traces", "otel-collector", "jaeger"},
    "cli": {"cli", "backup"},
}
ONE_SHOT = {"roles", "migrate", "elasticsearch-setup", "cli", "backup"}
CANNOT_ASK_ITSELF = {"otel-collector"}  # its image has no shell and no client
TAG_ONLY = {
    "redis_exporter",
    "elasticsearch",
    "logstash",
    "kibana",
    "filebeat",
    "jaeger",
}  # no digest known to us: docs/operations.md
KNOWN_SECRETS = re.compile(r"(password|token|secret|api_?key)", re.IGNORECASE)

every_service = pytest.mark.parametrize("name", sorted(services()))
our_service = pytest.mark.parametrize("name", sorted(name for name, service in services().items() if service.get("image") == OURS))


@functools.cache
def prepared() -> dict[str, str]:
    """What `make env` makes for the configuration as it is delivered: text by path."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder)
        shutil.copy(ROOT / ".env.example", checkout / ".env.example")
        deployment_secrets.prepare(checkout, load_settings(ROOT, environ={}, files=[ROOT / "config/exchanges.yaml"]))
        return {str(path.relative_to(checkout)): path.read_text() for path in checkout.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.compose-spec", [COMPOSE]),
        ("vendor.github-workflows", sorted((ROOT / ".github/workflows").glob("*.yml"))),
        ("vendor.dependabot", [ROOT / ".github/dependabot.yml"]),
    ],
)
def test_files_fit_the_json_schema_of_their_format(schema: str, files: list[Path]) -> None:
    check = Path(sys.executable).with_name("check-jsonschema")

    result = subprocess.run([check, "--builtin-schema", schema, *files], capture_output=True, text=True, check=False)

    assert files
    assert result.returncode == 0, result.stdout


def test_without_a_profile_the_core_starts_and_nothing_else() -> None:
    found: dict[str, set[str]] = {}
    for name, service in services().items():
        for profile in service.get("profiles", ["core"]):
            found.setdefault(profile, set()).add(name)

    assert found == {"core": CORE, **PROFILES}


@every_service
def test_a_service_can_do_little(name: str) -> None:
    service = services()[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode", "userns_mode"} & service.keys()
    assert service["ulimits"]["core"] == 0
    assert any(mount.startswith("/tmp:size=") for mount in service["tmpfs"])
    user, _, group = service["user"].partition(":")
    assert user not in ("", "0", "root")
    assert group != ""


@every_service
def test_a_service_has_bounds(name: str) -> None:
    service = services()[name]

    assert service["mem_limit"]
    assert service["cpus"] > 0
    assert 0 < service["pids_limit"] <= 1024
    assert service["logging"]["driver"] == "json-file"
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()
    assert all("size=" in mount for mount in service["tmpfs"]), "a tmpfs without a size may take half of the memory"


@every_service
def test_no_service_sees_the_host(name: str) -> None:
    for mount in services()[name].get("volumes", []):
        source, target, *mode = mount.split(":")
        assert "docker.sock" not in mount
        if source.startswith((".", "/", "~")):
            assert source.startswith("./"), "of the host only the checkout is seen"
            if (name, source) == ("backup", f"./{deployment_secrets.BACKUPS}"):
                continue  # the only place on the host that is written to, made by `make env`
            assert mode == ["ro"]
            assert (ROOT / source).is_dir(), f"{source} is not in the checkout"
        else:
            assert source in compose()["volumes"]
        assert target.startswith("/")


@every_service
def test_a_service_restarts_and_says_how_it_is(name: str) -> None:
    service = services()[name]

    assert service["init"] is True
    if name in ONE_SHOT:
        assert service["restart"] in ("no", "on-failure:5")
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        if name not in CANNOT_ASK_ITSELF:
            assert {"test", "interval", "timeout", "retries", "start_period"} <= service["healthcheck"].keys()
    assert service["stop_grace_period"]


@every_service
def test_a_service_waits_for_what_it_needs(name: str) -> None:
    for other, how in services()[name].get("depends_on", {}).items():
        needed = services()[other]
        if other in ONE_SHOT:
            assert how["condition"] == "service_completed_successfully"
        elif other in CANNOT_ASK_ITSELF:
            assert how["condition"] == "service_started"
        else:
            assert how["condition"] == "service_healthy"
        profiles = set(needed.get("profiles", services()[name].get("profiles", [])))
        assert profiles >= set(services()[name].get("profiles", [])), f"{other} does not start with {name}"


@every_service
def test_only_pages_for_people_are_published_and_those_on_loopback(name: str) -> None:
    ports = services()[name].get("ports", [])

    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert bool(ports) == (name in {"grafana", "kibana", "jaeger"})
    assert ("edge" in services()[name].get("networks", [])) == bool(ports)


def test_networks_connect_only_who_must_talk() -> None:
    networks = compose()["networks"]
    members = {network: {name for name, service in services().items() if network in service["networks"]} for network in networks}

    assert {name for name, network in networks.items() if not network.get("internal")} == {"edge", "internet"}
    assert networks["edge"]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}, "in, and not out"
    assert members["internet"] == {"alerts"}
    assert members["venue"] == {"simulator-binance", "connector-binance", "prometheus"}
    assert not members["database"] & {"connector-binance", "simulator-binance", "prometheus", "traces"}
    assert not members["bus"] & {"grafana", "postgres", "simulator-binance", "migrate"}
    assert all(members.values())


def test_prometheus_asks_what_is_there_and_can_be_reached() -> None:
    prometheus = services()["prometheus"]
    listed = list((ROOT / "monitoring/prometheus/targets").glob("compose*.json"))

    targets = {target for path in listed for group in json.loads(path.read_text()) for target in group["targets"]}

    assert {"connector-binance:8001", "bot:5000", "recorder:5002", "alerts:5003", "simulator-binance:9101"} <= targets
    for name in {target.partition(":")[0] for target in targets} - {"127.0.0.1"}:
        assert set(prometheus["networks"]) & set(services()[name]["networks"]), f"{name} is out of reach"


@every_service
def test_every_image_is_named_exactly(name: str) -> None:
    service = services()[name]
    image = service["image"]

    if "build" in service:
        return  # ours: tests/unit/deployment/test_dockerfile.py
    assert re.search(r":v?\d+\.\d+\.\d+", image), "a version, no moving tag"
    known = re.search(r"@sha256:[0-9a-f]{64}$", image)
    assert known or image.rpartition("/")[2].partition(":")[0] in TAG_ONLY


@our_service
def test_our_services_are_one_image_and_a_command_that_exists(name: str) -> None:
    service = services()[name]

    assert "entrypoint" not in service
    assert service["healthcheck"].get("test") in (["CMD", "python", "-m", "tradebot.health_check"], None)
    if name not in ONE_SHOT:
        assert service_command(service["command"]) is not None


@our_service
def test_our_state_is_on_volumes(name: str) -> None:
    service = services()[name]
    targets = {mount.split(":")[1]: mount.split(":")[0] for mount in service["volumes"]}

    assert "/app/config" in targets
    if name in ONE_SHOT:
        assert any(mount.startswith("/var/lib/tradebot:") for mount in service["tmpfs"])
    else:
        assert targets["/var/lib/tradebot"] == name, "a home of its own: journal, lease and stop belong to one process"
        assert targets["/var/lib/tradebot/logs"] == "logs"
    assert ("/app/plugins" in targets) == (name in {"bot", "cli"})


def test_every_secret_is_made_by_make_env() -> None:
    declared = {name: entry["file"] for name, entry in compose()["secrets"].items()}
    used = {name for service in services().values() for name in service.get("secrets", [])}

    assert used == declared.keys()
    assert {*declared.values()} <= prepared().keys()


@every_service
def test_a_service_is_given_exactly_the_secrets_that_it_names(name: str) -> None:
    service = services()[name]
    text = json.dumps([service.get("environment"), service.get("entrypoint"), service.get("healthcheck"), service.get("command")])
    named = set(re.findall(r"/run/secrets/([\w.-]+)", text))
    if name == "redis":
        named |= set(re.findall(r"/run/secrets/([\w.-]+)", (ROOT / "redis/redis.conf").read_text()))
    if name == "roles":
        named |= {f"postgres_password_{role.name}" for role in ROLES}
    if name == "grafana":
        provisioned = (ROOT / "monitoring/grafana/provisioning").rglob("*.y*ml")
        named |= set(re.findall(r"/run/secrets/([\w.-]+)", "".join(path.read_text() for path in provisioned)))
    if name == "elasticsearch-setup":
        named |= set(re.findall(r"\b[a-z]+_password\b", (ROOT / "monitoring/elasticsearch/setup.sh").read_text()))

    assert named == {*service.get("secrets", [])}


@every_service
def test_no_password_is_written_down(name: str) -> None:
    for variable, value in services()[name].get("environment", {}).items():
        if KNOWN_SECRETS.search(variable) and value not in (None, "true", "false"):
            assert str(value).startswith("/run/secrets/"), f"{variable} of {name}"
        assert "@" not in str(value), f"{variable} of {name} has an address with a password"


def test_passwords_are_random_and_all_different() -> None:
    again = prepared.__wrapped__()
    passwords = {path: text for path, text in prepared().items() if "_password" in path}

    assert len(passwords) > 10
    assert len({*passwords.values()} | {again[path] for path in passwords}) == 2 * len(passwords)
    assert all(len(text.strip()) >= 43 for text in passwords.values()), "256 bits"


def test_the_example_needs_no_edit_to_start() -> None:
    variables = dict(line.split("=", 1) for line in prepared()[".env"].splitlines() if line and not line.startswith("#"))

    whole: dict[str, Any] = interpolated(compose(), variables)

    assert whole["services"]["bot"]["user"] == f"{variables['TRADEBOT_UID']}:{variables['TRADEBOT_GID']}"
    assert whole["services"]["grafana"]["ports"] == ["127.0.0.1:3000:3000"]


def test_every_variable_of_the_file_is_explained_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    passed = {name for service in services().values() for name, value in service.get("environment", {}).items() if value is None}
    example = (ROOT / ".env.example").read_text()

    assert {name for name in used | passed if not re.search(rf"^(# )?{name}=", example, re.MULTILINE)} == set()


def test_yaml_has_no_key_twice() -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: Strict, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.value != "<<"]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: {sorted(keys)}"
        loader.flatten_mapping(node)
        return dict(loader.construct_pairs(node))

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in (COMPOSE, *(ROOT / ".github").rglob("*.yml")):
        yaml.load(path.read_text(), Strict)
