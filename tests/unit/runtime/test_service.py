from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp

from runtime.endpoints import NotRunning, service_port
from runtime.service import Service, ServiceError, run_service
from runtime.settings import Settings


def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_a_signal_lets_the_service_drain_and_end_well(tmp_path: Path) -> None:
    seen: list[str] = []

    async def main(service: Service) -> None:
        assert (tmp_path / "run/x.pid").read_text() == str(os.getpid())
        os.kill(os.getpid(), signal.SIGTERM)
        await service.stop.wait()
        seen.append("drained")

    assert run_service("x", settings(tmp_path), 0, main) == 0
    assert seen == ["drained"]
    assert not list((tmp_path / "run").iterdir())


def test_a_second_signal_does_not_wait_for_the_drain(tmp_path: Path) -> None:
    async def main(service: Service) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await service.stop.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    assert run_service("x", settings(tmp_path), 0, main) == 1


def test_a_reason_to_refuse_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    async def refuse(_: Service) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())

    async def fail() -> None:
        raise ServiceError("another connector has the lease")

    async def no_bus(_: Service) -> None:
        raise NotRunning("start it")

    assert run_service("x", settings(tmp_path), 0, refuse) == 1
    text = (tmp_path / "logs/x.log").read_text()
    assert "another connector has the lease" in text
    assert "Traceback" not in text
    assert run_service("x", settings(tmp_path), 0, no_bus) == 3


def test_health_tells_the_truth_over_http(tmp_path: Path) -> None:
    answers: list[int] = []

    async def main(service: Service) -> None:
        url = f"http://127.0.0.1:{service_port(service.settings, 'x', 0)}"
        async with aiohttp.ClientSession() as http:

            async def status(path: str) -> int:
                async with http.get(url + path) as answer:
                    await answer.read()
                    return answer.status

            answers.append(await status("/ready"))  # nothing reported yet
            service.health.report("bus", True)
            answers.extend([await status("/ready"), await status("/live"), await status("/metrics"), await status("/health")])
            service.health.report("bus", False, "connection refused")
            answers.append(await status("/ready"))

    assert run_service("x", settings(tmp_path), 0, main) == 0
    assert answers == [503, 200, 200, 200, 200, 503]


def test_a_second_process_of_the_same_name_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async def main(service: Service) -> None:
        before = (tmp_path / "run/x.port").read_text()
        second = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import pathlib, sys\n"
            "from runtime.service import run_service\n"
            "from runtime.settings import Settings\n"
            "sys.exit(run_service('x', Settings(home=pathlib.Path(sys.argv[1])), 0, None))",
            str(tmp_path),
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await second.communicate()
        assert second.returncode == 1
        assert f"already runs on this home with pid {os.getpid()}" in errors.decode()
        assert (tmp_path / "run/x.port").read_text() == before
        assert (tmp_path / "run/x.pid").exists()

    assert run_service("x", settings(tmp_path), 0, main) == 0
