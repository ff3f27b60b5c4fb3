"""Each barrier around a worker, tried by a plugin that goes below Python: with all of them, and with what is left without one."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.isolation.nursery import children_of
from bot.isolation.protocol import Done, encode_event
from bot.isolation.source import source_of
from bot.isolation.workers import Nursery, Worker, WorkerGone
from runtime.settings import WorkerSettings
from strategy.testing import MARKET, tickers
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="the barriers are Linux's")

ROOT = os.geteuid() == 0
NOBODY = 65534
PROJECT = Path(__file__).resolve().parents[2]

PROBE = b'''
"""Executes its setting and says what came of it: the errno of system calls, or what `answer` is."""
import ctypes, errno, os
from strategy import Direction, Plugin, PluginSettings

class ProbeSettings(PluginSettings):
    code: str

LIBC = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    """`allowed`, or how the system refused the C library's function."""
    ctypes.set_errno(0)
    return "allowed" if getattr(LIBC, name)(*arguments) != -1 else errno.errorcode[ctypes.get_errno()]

class Probe(Plugin[ProbeSettings]):
    name = "probe"
    settings_type = ProbeSettings

    def on_ticker(self, ticker):
        names = {"call": call, "os": os, "ctypes": ctypes, "LIBC": LIBC, "errno": errno}
        try:
            exec(self.settings.code, names)
        except OSError as error:
            names["answer"] = errno.errorcode[error.errno]
        yield self.signal(ticker, Direction.BUY, reason=str(names["answer"]))

PLUGIN = Probe
'''

AS_NOBODY = """
import importlib, os, sys
from bot.isolation import nursery
for name in nursery.PRELOADED: importlib.import_module(name)
os.setgroups([]); os.setgid({user}); os.setuid({user})
nursery.main()
"""
"""The test's Python may lie where an ordinary user cannot read it: imported first, it is there."""


class NurseryAsNobody(Nursery):
    def _command(self, control: int) -> list[str]:
        _, *options = super()._command(control)
        return [sys.executable, "-P", "-B", "-c", AS_NOBODY.format(user=NOBODY), *options[options.index(str(control)) :]]


@asynccontextmanager
async def nursery_of(who: str, *without: str) -> AsyncIterator[Nursery]:
    if who == "nobody" and not ROOT:
        pytest.skip("only root can become somebody else; as an ordinary user, `own` is the test")
    nursery = (NurseryAsNobody if who == "nobody" else Nursery)(WorkerSettings(memory_mb=64), None, without=without)
    await nursery.start()
    try:
        yield nursery
    finally:
        await nursery.close()


async def probing(nursery: Nursery, code: str) -> Worker:
    return await nursery.open(source_of("probe.py", PROBE), {"code": code}, [MARKET])


async def answers(worker: Worker) -> list[str]:
    """What the probe says to one event; raises WorkerGone when it is ended for it."""
    said: list[str] = []

    def done(answer: Done) -> None:
        said.extend(one.reason for one in answer.said)
        said.extend(failure.text for failure in answer.failures)

    worker.on_done = done
    (event,) = tickers([100])
    worker.send_events(1, [(encode_event(event), True)])
    await worker.save()
    return said


async def tried(nursery: Nursery, code: str) -> str:
    worker = await probing(nursery, code)
    try:
        (answer,) = await answers(worker)
    except WorkerGone as error:
        return str(error)
    await worker.stop()
    return answer


REFUSED: dict[str, str] = {
    "fork": "answer = call('fork')",
    "vfork": "answer = call('syscall', 57) if os.uname().machine == 'x86_64' else 'EPERM'",
    "clone": "answer = call('syscall', 56 if os.uname().machine == 'x86_64' else 220, 17, 0, 0, 0, 0)",
    "execute": "answer = call('execv', b'/bin/true', (ctypes.c_char_p * 2)(b'true', None))",
    "open a socket": "answer = call('socket', 2, 1, 0)",
    "open a local socket": "answer = call('socket', 1, 1, 0)",
    "make a pair of sockets": "answer = call('socketpair', 1, 1, 0, (ctypes.c_int * 2)())",
    "trace": "answer = call('ptrace', 16, os.getppid(), 0, 0)",
    "signal the nursery": "answer = call('kill', os.getppid(), 0)",
    "signal a thread": "answer = call('syscall', 234 if os.uname().machine == 'x86_64' else 131, os.getppid(), os.getppid(), 0)",
    "queue a signal": "answer = call('sigqueue', os.getppid(), 0, 0)",
    "have a signal sent": "answer = call('fcntl', 3, 8, os.getppid())",
    "read memory of others": "answer = call('process_vm_readv', os.getppid(), 0, 0, 0, 0, 0)",
    "mount": "answer = call('mount', b'none', b'/mnt', b'tmpfs', 0, 0)",
    "unshare": "answer = call('unshare', 0x10000000)",
    "io_uring": "answer = call('syscall', 425, 8, ctypes.create_string_buffer(200))",
    "bpf": "answer = call('syscall', 321 if os.uname().machine == 'x86_64' else 280, 0, 0, 0)",
    "keys": "answer = call('syscall', 250 if os.uname().machine == 'x86_64' else 219, 0, 0, 0)",
    "the other way to call": "answer = call('syscall', 0x40000000 + 39) if os.uname().machine == 'x86_64' else 'EPERM'",
    "create a file": "answer = call('open', b'/tmp/probe', 0o101, 0o600)",
    "write a file": "answer = call('open', b'TARGET', 1)",
    "empty a file": "answer = call('truncate', b'TARGET', 0)",
    "remove a file": "answer = call('unlink', b'TARGET')",
    "rename a file": "answer = call('rename', b'TARGET', b'TARGET2')",
    "link a file": "answer = call('link', b'TARGET', b'TARGET2')",
    "change a mode": "answer = call('chmod', b'TARGET', 0)",
    "change an owner": "answer = call('chown', b'TARGET', 1, 1)",
    "make a folder": "answer = call('mkdir', b'/tmp/probe', 0o700)",
    "make a device": "answer = call('mknod', b'/tmp/probe', 0o60600, 0)",
    "change priority": "answer = call('setpriority', 0, 0, -5)",
    "change its name": "answer = call('prctl', 15, b'other')",
    "lift a limit": "answer = call('setrlimit', 7, (ctypes.c_ulong * 2)(99, 99))",
    "limit others": "import resource; answer = resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
    "become another": "answer = call('setuid', 1)",
    "keep memory in a file": "answer = call('memfd_create', b'x', 0)",
}
"""What must fail with EPERM when all barriers stand."""

UNREADABLE: dict[str, str] = {
    "a secret": "answer = call('open', b'TARGET', 0)",
    "the environment of the nursery": "answer = call('open', f'/proc/{os.getppid()}/environ'.encode(), 0)",
    "the environment of init": "answer = call('open', b'/proc/1/environ', 0)",
    "memory of the nursery": "answer = call('open', f'/proc/{os.getppid()}/mem'.encode(), 0)",
    "a list of files": "answer = os.listdir('/')",
    "passwords": "answer = call('open', b'/etc/passwd', 0)",
}
"""What must fail with EACCES wherever Landlock is."""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "file"
    file.write_text("secret")
    file.chmod(0o666)  # whatever an ordinary user may do to it, the barriers must refuse
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    yield file
    assert file.read_text() == "secret"


async def wrong_answers(nursery: Nursery, attempts: dict[str, str], expected: str, file: Path) -> dict[str, str]:
    answers = {name: await tried(nursery, code.replace("TARGET", str(file))) for name, code in attempts.items()}
    return {name: answer for name, answer in answers.items() if answer != expected}


@pytest.mark.parametrize("who", ["own", "nobody"])
async def test_with_all_barriers_a_plugin_can_compute_and_nothing_else(who: str, file: Path) -> None:
    async with nursery_of(who) as nursery:
        assert nursery.boundaries.lacking == ()
        assert await wrong_answers(nursery, REFUSED, "EPERM", file) == {}
        assert await wrong_answers(nursery, UNREADABLE, "EACCES", file) == {}


@pytest.mark.parametrize("who", ["own", "nobody"])
async def test_without_the_filter_files_stay_out_of_reach_and_others_unharmed(who: str, file: Path) -> None:
    async with nursery_of(who, "seccomp") as nursery:
        assert any("system calls" in text for text in nursery.boundaries.lacking)
        assert await wrong_answers(nursery, UNREADABLE, "EACCES", file) == {}
        refused = ("create a file", "write a file", "remove a file", "make a folder", "empty a file", "signal the nursery", "trace")
        for name in refused:
            answer = await tried(nursery, REFUSED[name].replace("TARGET", str(file)))
            assert answer in {"EACCES", "EPERM"}, (name, answer)
        assert await tried(nursery, REFUSED["become another"]) == "EPERM"
        assert "allowed" not in await tried(nursery, REFUSED["mount"])


@pytest.mark.parametrize("who", ["own", "nobody"])
async def test_without_landlock_the_filter_still_keeps_everything_from_being_changed(who: str, file: Path) -> None:
    async with nursery_of(who, "landlock") as nursery:
        assert any("Landlock" in text for text in nursery.boundaries.lacking)
        assert await wrong_answers(nursery, REFUSED, "EPERM", file) == {}


BOMB = "while True: LIBC.fork()"
LEAVING_BOMB = "import time\nif LIBC.fork() == 0:\n    LIBC.setsid()\n    if LIBC.fork() == 0: time.sleep(99)\n    os._exit(0)\nanswer = 'left'"


async def test_without_the_filter_the_system_refuses_an_ordinary_user_any_process() -> None:
    async with nursery_of("own" if not ROOT else "nobody", "seccomp") as nursery:
        assert await tried(nursery, "answer = call('fork')") == "EAGAIN"


@pytest.mark.skipif(not ROOT, reason="the limit binds every user but root")
@pytest.mark.parametrize("bomb", [BOMB, LEAVING_BOMB], ids=["bomb", "daemon"])
async def test_without_the_filter_root_is_watched_and_what_it_started_is_ended_with_it(bomb: str) -> None:
    async with nursery_of("own", "seccomp") as nursery:
        worker = await probing(nursery, bomb)
        pid = worker.pid
        try:
            await answers(worker)
            await worker.stop()
        except WorkerGone as error:
            assert "tried to start processes" in str(error)  # either end is right, if nothing is left
        await eventually(lambda: not children_of(nursery.pid), what="nothing is left")
        assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether the process runs; one that init has not buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the 32-bit interface is x86's")
async def test_the_32_bit_way_into_the_kernel_ends_it() -> None:
    code = (
        "import mmap; page = mmap.mmap(-1, 4096, prot=7); page.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "answer = ctypes.CFUNCTYPE(ctypes.c_int)(address)()"
    )
    async with nursery_of("own") as nursery:
        assert await tried(nursery, code) in {
            "killed by signal SIGSYS",
            "killed by signal SIGSEGV",
        }  # the latter where there is none


def seen_from_outside(pid: int) -> tuple[str, dict[int, str]]:
    """The name of a process, and what its descriptors are."""
    descriptors = {int(path.name): str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return Path(f"/proc/{pid}/comm").read_text().strip(), descriptors


async def test_nothing_of_the_bot_is_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADEBOT__BUS__URL", "redis://:canary@127.0.0.1")
    monkeypatch.setenv("BINANCE_API_KEY", "canary")
    read, write = os.pipe()
    os.set_inheritable(write, True)
    async with nursery_of("own") as nursery:
        worker = await probing(nursery, "answer = sorted(os.environ)")
        named, descriptors = seen_from_outside(worker.pid)
        (names,) = await answers(worker)
    os.close(read)
    os.close(write)

    assert named == "plugin-probe"
    assert set(descriptors) == {0, 1, 2, 3}
    assert descriptors[0] == "/dev/null"
    assert descriptors[1].startswith("pipe:")
    assert descriptors[3].startswith("socket:")
    assert "TRADEBOT" not in names
    assert "BINANCE" not in names


async def test_workers_end_with_the_bot_and_with_the_nursery() -> None:
    async with nursery_of("own") as nursery:
        first = await probing(nursery, "while True: pass")  # deaf: it does not end because its connection does
        lost = asyncio.get_running_loop().create_future()
        nursery.on_lost = lambda: lost.set_result(None)
        first.on_gone = pytest.fail
        first.send_events(1, [(encode_event(tickers([1])[0]), True)])
        os.kill(nursery.pid, 9)
        await asyncio.wait_for(lost, 2)
        await eventually(lambda: not alive(first.pid))
        with pytest.raises(WorkerGone, match="the nursery ended"):
            await first.save()

        second = await probing(nursery, "answer = 2")
        assert await answers(second) == ["2"]

    bot = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTS_A_WORKER, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(PROJECT)}
    )
    assert bot.stdout is not None
    pids = [int(pid) for pid in (await bot.stdout.readline()).split()]
    assert all(map(alive, pids))
    bot.kill()
    await bot.wait()
    await eventually(lambda: not any(map(alive, pids)))


STARTS_A_WORKER = """
import asyncio
from bot.isolation.source import source_of
from bot.isolation.workers import Nursery
from runtime.settings import WorkerSettings
from strategy.testing import MARKET

CODE = b"from strategy import Plugin\\nclass P(Plugin):\\n    name = 'p'\\nPLUGIN = P\\n"

async def main():
    nursery = Nursery(WorkerSettings(), None)
    worker = await nursery.open(source_of("p.py", CODE), {}, [MARKET])
    print(nursery.pid, worker.pid, flush=True)
    await asyncio.sleep(99)

asyncio.run(main())
"""
