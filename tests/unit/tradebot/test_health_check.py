"""The health check of the image: quick, and right about every way of not being well."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {"pydantic", "yaml", "asyncio", "typer", "http.client", "urllib.request", "runtime.settings"}


@pytest.fixture
async def answers(tmp_path: Path) -> AsyncIterator[dict[str, int]]:
    """The statuses of a process that says its port in the home `tmp_path`."""
    statuses = {"/ready": 200, "/live": 200}

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"waiting_for": ["market_data"]}, status=statuses[request.path])

    app = web.Application()
    for path in statuses:
        app.router.add_get(path, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bot.port").write_text(str(runner.addresses[0][1]))
    yield statuses
    await runner.cleanup()


async def check(home: Path, *arguments: str) -> tuple[int, str]:
    import asyncio

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tradebot.health_check", *arguments,
        cwd=ROOT, env={**os.environ, "TRADEBOT_HOME": str(home)}, stderr=subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    return process.returncode or 0, errors.decode()


async def test_a_ready_process_is_well(answers: dict[str, int], tmp_path: Path) -> None:
    assert await check(tmp_path) == (0, "")


async def test_a_process_that_waits_is_not_ready_and_yet_alive(answers: dict[str, int], tmp_path: Path) -> None:
    answers["/ready"] = 503

    code, text = await check(tmp_path)

    assert code == 1
    assert text.startswith("bot is not ready: ")
    assert "market_data" in text
    assert await check(tmp_path, "live") == (0, "")


async def test_a_port_without_a_process_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bot.port").write_text("1")

    code, text = await check(tmp_path)

    assert code == 1
    assert text.startswith("bot does not answer: ")


async def test_a_home_in_which_nothing_runs_is_not_well(tmp_path: Path) -> None:
    assert await check(tmp_path) == (1, f"nothing runs here: no port is said in {tmp_path}/run\n")


async def test_a_wrong_question_is_refused(tmp_path: Path) -> None:
    assert await check(tmp_path, "rich") == (1, "usage: python -m tradebot.health_check [ready|live]\n")


def test_it_imports_nothing_heavy() -> None:
    """It runs every ten seconds in every container."""
    script = "import sys, tradebot.health_check; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert not HEAVY & {*done.stdout.split()}
