"""The way of a log line: file, shipper, pipeline, index. None of those servers runs here; what they are told must fit together."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.compose_file import ROOT, services

MONITORING = ROOT / "monitoring"
PIPELINE = (MONITORING / "logstash/pipeline/tradebot.conf").read_text()
TEMPLATE = json.loads((MONITORING / "elasticsearch/index-template.json").read_text())
PASSWORDS = ("elastic_password", "kibana_password", "logstash_password")


class Elastic(BaseHTTPRequestHandler):
    """Takes every request and remembers it."""

    seen: list[tuple[str, str, str, Any]]

    def _take(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        user = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        self.seen.append((self.command, self.path, user, body))
        self.send_response(200)
        self.end_headers()

    do_PUT = do_POST = _take  # noqa: N815 the names that the server looks for

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


@pytest.fixture
def elastic() -> Iterator[tuple[str, list[tuple[str, str, str, Any]]]]:
    handler = type("Handler", (Elastic,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.seen
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl, which Elasticsearch's image has")
def test_elasticsearch_is_prepared_with_the_passwords_of_the_secrets(
    elastic: tuple[str, list[tuple[str, str, str, Any]]], tmp_path: Path
) -> None:
    url, seen = elastic
    for name in PASSWORDS:
        (tmp_path / name).write_text(f"made-of-{name}\n")
    script = MONITORING / "elasticsearch/setup.sh"

    environment = {"ELASTICSEARCH": url, "SECRETS": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert {user for _, _, user, _ in seen} == {"elastic:made-of-elastic_password"}
    told = {path: body for _, path, _, body in seen}
    assert told["/_security/user/kibana_system/_password"] == {"password": "made-of-kibana_password"}
    writer = told["/_security/user/logstash_tradebot"]
    assert writer == {"password": "made-of-logstash_password", "roles": ["logstash_tradebot"]}
    assert told["/_index_template/tradebot-logs"] == TEMPLATE
    assert "delete" in told["/_ilm/policy/tradebot-logs"]["policy"]["phases"], "logs do not stay for ever"
    assert not [name for name in PASSWORDS if f"made-of-{name}" in done.stdout + done.stderr]


def test_the_shipper_reads_where_our_processes_write() -> None:
    inputs = yaml.safe_load((MONITORING / "filebeat/filebeat.yml").read_text())["filebeat.inputs"]
    mounts = {name: service.get("volumes", []) for name, service in services().items()}

    assert "logs:/logs:ro" in mounts["filebeat"]
    assert inputs[0]["paths"] == ["/logs/*.log", "/logs/plugins/*.log"]
    assert "logs:/var/lib/tradebot/logs" in mounts["bot"]


def test_every_hop_finds_the_next() -> None:
    filebeat = yaml.safe_load((MONITORING / "filebeat/filebeat.yml").read_text())
    collector = yaml.safe_load((MONITORING / "otel/collector.yaml").read_text())
    kibana = yaml.safe_load((MONITORING / "kibana/kibana.yml").read_text())

    hops = [
        ("filebeat", filebeat["output.logstash"]["hosts"][0], "logstash:5044"),
        ("logstash", *re.findall(r'hosts => \["([^"]+)"\]', PIPELINE), "http://elasticsearch:9200"),
        ("kibana", kibana["elasticsearch.hosts"][0], "http://elasticsearch:9200"),
        ("otel-collector", collector["exporters"]["otlphttp/jaeger"]["endpoint"], "http://jaeger:4318"),
        ("traces", services()["traces"]["environment"]["TRADEBOT_TRACES_ENDPOINT"], "http://otel-collector:4318"),
    ]
    for name, told, wanted in hops:
        assert told == wanted
        other = wanted.removeprefix("http://").partition(":")[0]
        assert set(services()[name]["networks"]) & set(services()[other]["networks"]), f"{name} cannot reach {other}"
    assert "port => 5044" in PIPELINE


def test_what_the_pipeline_keeps_at_the_top_has_a_place_in_the_index() -> None:
    known = re.search(r"known = %w\[([^\]]+)\]", PIPELINE)
    assert known is not None
    mapped = TEMPLATE["template"]["mappings"]["properties"]

    assert {*known[1].split()} - {"@version"} <= mapped.keys()
    assert mapped["context"]["type"] == "flattened", "whatever our lines bear, the index does not grow new columns"
    assert TEMPLATE["template"]["mappings"]["dynamic"] is False


def test_a_line_of_ours_has_what_the_pipeline_looks_for(tmp_path: Path) -> None:
    script = """
import sys; from pathlib import Path
import structlog
from runtime.logs import bound, setup_logging
from runtime.settings import LogSettings
setup_logging("bot", LogSettings(), Path(sys.argv[1]))
with bound(correlation_id="c-1"):
    structlog.get_logger("x").warning("order.sent", exchange="binance")
"""
    subprocess.run([sys.executable, "-c", script, tmp_path], cwd=ROOT, check=True, capture_output=True)

    line = json.loads((tmp_path / "bot.log").read_text())

    assert {"timestamp", "event", "level", "service", "correlation_id", "exchange"} <= line.keys()
    assert line.keys() <= TEMPLATE["template"]["mappings"]["properties"].keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert line["service"] == "bot"


def test_braces_of_the_pipeline_close() -> None:
    text = re.sub(r"#.*", "", re.sub(r"'[^']*'|\"[^\"]*\"", "''", PIPELINE))

    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"^(\w+) \{", text, re.MULTILINE) == ["input", "filter", "output"]
