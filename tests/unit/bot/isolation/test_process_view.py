"""What is read of a process, by the quick way and by the one of other systems."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bot.isolation import process_view


@pytest.fixture(params=["here", "elsewhere"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "elsewhere":
        monkeypatch.setattr(process_view, "_LINUX", False)


BUSY = """
import subprocess, sys, threading, time
while time.process_time() < 0.1:
    sum(range(10_000))
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL):
    print("ready", flush=True)
    sys.stdin.read()
stop.set()
"""


@pytest.mark.usefixtures("_way")
def test_processor_time_memory_threads_and_company_are_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as busy:
        assert busy.stdout is not None
        assert busy.stdout.readline() == "ready\n"
        usage = process_view.usage_of(busy.pid)
        company = process_view.company_of(busy.pid)
        memory = process_view.memory_of(busy.pid)

    assert usage is not None
    assert usage.cpu_s >= 0.05  # told in ticks of ten milliseconds
    assert usage.threads == 2
    assert company == 1
    assert memory > 5_000_000


@pytest.mark.usefixtures("_way")
def test_a_process_that_is_gone_has_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()

    assert process_view.usage_of(child.pid) is None
    assert process_view.memory_of(child.pid) == 0
    assert process_view.company_of(child.pid) == 0
