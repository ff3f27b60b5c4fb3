"""What is read of a process, by the quick way and by the one of other systems."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from bot.isolation import process_view


@pytest.fixture(params=["here", "elsewhere"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "elsewhere":
        monkeypatch.setattr(process_view, "_LINUX", False)


@pytest.mark.usefixtures("_way")
def test_processor_time_memory_threads_and_company_are_seen() -> None:
    before = process_view.usage_of(os.getpid())
    assert before is not None
    while (now := process_view.usage_of(os.getpid())) is not None and now.cpu_s < before.cpu_s + 0.05:
        sum(range(10_000))
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        during = process_view.usage_of(os.getpid())
        company = process_view.company_of(os.getpid())
        assert child.stdin is not None
        child.stdin.close()
    stop.set()
    thread.join()

    assert during is not None
    assert during.threads == before.threads + 1
    assert company >= 1
    assert process_view.memory_of(os.getpid()) > 10_000_000


@pytest.mark.usefixtures("_way")
def test_a_process_that_is_gone_has_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()

    assert process_view.usage_of(child.pid) is None
    assert process_view.memory_of(child.pid) == 0
    assert process_view.company_of(child.pid) == 0
