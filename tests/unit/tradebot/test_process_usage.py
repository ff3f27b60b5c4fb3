"""What a process costs includes its helpers, those with sessions of their own as well: a bot's plugins are such."""

from __future__ import annotations

import subprocess
import sys

from tradebot.process_usage import UsageMeter

HELPER = "import sys; held = bytearray(60_000_000); print('ready', flush=True); sys.stdin.read()"
NURSERY = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HELPER!r}], start_new_session=True)"
MAKER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {NURSERY!r}])"


def test_a_helper_in_a_session_of_its_own_is_counted_with_the_process_that_made_it() -> None:
    maker = subprocess.Popen(
        [sys.executable, "-c", MAKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
        usage = UsageMeter().measure([maker.pid, other.pid])
        assert usage[maker.pid].memory_mb > 60
        assert usage[other.pid].memory_mb < 60
    finally:
        for process in (maker, other):
            process.communicate()
