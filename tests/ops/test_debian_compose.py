"""The compose file is also what Debian 12's docker-compose 1.29 understands: many servers have that one."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml

from tests.support.compose_file import COMPOSE, services
from tests.support.monitoring_servers import Missing, programs

pytestmark = pytest.mark.ops


def test_debians_docker_compose_reads_the_file() -> None:
    try:
        program = programs({"docker-compose": "docker-compose"})["docker-compose"]
    except Missing as missing:
        pytest.skip(str(missing))
    environment = {**os.environ, "TRADEBOT_UID": "1234", "TRADEBOT_GID": "2345"}

    done = subprocess.run([program, "--file", COMPOSE, "config"], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    read = yaml.safe_load(done.stdout)["services"]
    assert read.keys() == services().keys()
    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in read.values())
    assert read["bot"]["user"] == "1234:2345"
