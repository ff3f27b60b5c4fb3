"""The supervisor, with tiny processes in place of servers and services."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from runtime.settings import LogSettings, Settings
from tests.support.waiting import eventually
from tradebot.exit_codes import ExitCode
from tradebot.managed_process import ManagedProcess, StartFailed, State
from tradebot.orphans import living
from tradebot.process_lock import ProcessLock
from tradebot.process_plan import ProcessSpec
from tradebot.story import Story
from tradebot.supervisor import Supervisor

RUN_FOR_EVER = "import signal; signal.pause()"
TOUCH_AND_RUN = "import pathlib, signal, sys; pathlib.Path(sys.argv[1]).touch(); signal.pause()"
IGNORES_SIGTERM = (
    "import pathlib, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path(sys.argv[1]).touch(); "
    "[signal.pause() for _ in iter(int, 1)]"
)
NOTES_ITS_END = """
import pathlib, signal, sys
def end(*_):
    with open(sys.argv[1], "a") as file: file.write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end); signal.signal(signal.SIGINT, end)
pathlib.Path(sys.argv[3]).touch()
while True: signal.pause()
"""
WITH_HELPER = f"""
import pathlib, subprocess, sys, signal
helper = subprocess.Popen([sys.executable, "-S", "-c", {RUN_FOR_EVER!r}], close_fds=False)
pathlib.Path(sys.argv[1]).write_text(str(helper.pid)); signal.pause()
"""


def settings_for(home: Path, **limits: float) -> Settings:
    quick = {"restart_first_s": 0.01, "restart_cap_s": 0.05, "stop_grace_s": 5.0, "min_free_disk_mb": 0, **limits}
    return Settings.model_validate({"home": home, "supervisor": quick})


def spec(name: str, code: str, *arguments: object, **options: object) -> ProcessSpec:
    """A process that runs `code`; ready when it has made the file named by its last argument, or at once."""
    marker = Path(str(arguments[-1])) if arguments else None

    async def ready(_: int) -> bool:
        return marker is None or marker.exists()

    argv = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    return ProcessSpec(name=name, argv=lambda: argv, environment=dict(os.environ), ready=ready, **options)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(supervisor.run())
    try:
        yield task
    finally:
        supervisor.stop.set()
        await asyncio.wait({task}, timeout=30)
        if not task.cancelled() and task.done():
            task.exception()  # looked at by the test where it matters


def orphaned(code: str, *arguments: object, lock: int | None = None) -> subprocess.Popen[bytes]:
    """A process as a killed supervisor leaves it: in a session of its own, holding its lock."""
    argv = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    return subprocess.Popen(argv, start_new_session=True, pass_fds=() if lock is None else (lock,))


def texts(story: Story) -> str:
    return "\n".join(line.text for line in story.lines)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def by_name(supervisor: Supervisor, name: str) -> ManagedProcess:
    return next(process for process in supervisor.processes if process.spec.name == name)


async def test_a_killed_process_comes_back_and_it_is_told(tmp_path: Path) -> None:
    story = Story()
    supervisor = Supervisor(settings_for(tmp_path), [spec("bot", RUN_FOR_EVER)], story)
    async with running(supervisor):
        bot = by_name(supervisor, "bot")
        first = await eventually(lambda: bot.state is State.READY and bot.pid)

        os.kill(first or 0, signal.SIGKILL)

        second = await eventually(lambda: bot.state is State.READY and bot.pid != first and bot.pid)
        assert bot.restarts == 1
        assert "bot was ended by SIGKILL; starting it again" in texts(story)
    assert not alive(second or 0)


async def test_the_helpers_of_a_killed_process_do_not_outlive_it(tmp_path: Path) -> None:
    marker = tmp_path / "helper"
    supervisor = Supervisor(settings_for(tmp_path), [spec("bot", WITH_HELPER, marker)], Story())
    async with running(supervisor):
        bot = by_name(supervisor, "bot")
        first = int(await eventually(lambda: bot.state is State.READY and marker.read_text()) or 0)

        os.kill(bot.pid or 0, signal.SIGKILL)

        await eventually(lambda: not alive(first))
        second = int(await eventually(lambda: bot.restarts == 1 and (text := marker.read_text()) != str(first) and text) or 0)
    await eventually(lambda: not alive(second))


async def test_waits_grow_while_a_process_keeps_dying_and_its_last_words_are_told(tmp_path: Path) -> None:
    story = Story()
    supervisor = Supervisor(settings_for(tmp_path), [spec("bot", "raise SystemExit('no plugins here')")], story)
    async with running(supervisor):
        await eventually(lambda: by_name(supervisor, "bot").restarts >= 4)

    assert "bot ended with exit code 1: no plugins here" in texts(story)


async def test_a_process_starts_after_those_it_needs_are_ready(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = spec("valkey", RUN_FOR_EVER, gate)  # ready when the test makes the file
    supervisor = Supervisor(settings_for(tmp_path), [spec("bot", RUN_FOR_EVER, needs=("valkey",)), first], Story())
    async with running(supervisor):
        await eventually(lambda: by_name(supervisor, "valkey").state is State.STARTING)
        assert by_name(supervisor, "bot").state is State.WAITING

        gate.touch()

        await eventually(lambda: by_name(supervisor, "bot").state is State.READY)


async def test_a_process_that_may_go_on_without_another_waits_only_so_long(tmp_path: Path) -> None:
    never = spec("connector-x", RUN_FOR_EVER, tmp_path / "never")
    supervisor = Supervisor(
        settings_for(tmp_path, ready_timeout_s=0.2), [never, spec("bot", RUN_FOR_EVER, after=("connector-x",))], Story()
    )
    async with running(supervisor):
        await eventually(lambda: by_name(supervisor, "bot").state is State.READY)


async def test_processes_end_in_order_and_servers_last(tmp_path: Path) -> None:
    names = ["valkey", "postgres", "simulator-x", "recorder", "connector-x", "bot"]
    ends = tmp_path / "ends"
    specs = [spec(name, NOTES_ITS_END, ends, name, tmp_path / f"{name}.ready") for name in names]
    supervisor = Supervisor(settings_for(tmp_path), specs, Story())
    async with running(supervisor) as task:
        await eventually(lambda: supervisor.all_ready)
        supervisor.stop.set()
        await task

    assert ends.read_text().split() == ["bot", "connector-x", "recorder", "simulator-x", "postgres", "valkey"]


async def test_a_process_that_does_not_stop_in_time_is_killed_and_the_rest_still_drains(tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    specs = [
        spec("bot", IGNORES_SIGTERM, tmp_path / "bot.ready"),
        spec("valkey", NOTES_ITS_END, ends, "valkey", tmp_path / "valkey.ready"),
    ]
    story = Story()
    supervisor = Supervisor(settings_for(tmp_path, stop_grace_s=0.2), specs, story)
    async with running(supervisor) as task:
        await eventually(lambda: supervisor.all_ready)
        pid = by_name(supervisor, "bot").pid or 0
        supervisor.stop.set()
        await task

    assert not alive(pid)
    assert "bot did not stop in time: killed" in texts(story)
    assert ends.read_text().split() == ["valkey"]


async def test_a_second_interrupt_shortens_the_wait_but_not_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradebot.supervisor.HURRY_S", 0.1)
    ends = tmp_path / "ends"
    specs = [
        spec("bot", IGNORES_SIGTERM, tmp_path / "bot.ready"),
        spec("valkey", NOTES_ITS_END, ends, "valkey", tmp_path / "valkey.ready"),
    ]
    supervisor = Supervisor(settings_for(tmp_path, stop_grace_s=600), specs, Story())
    async with running(supervisor) as task:
        await eventually(lambda: supervisor.all_ready)
        os.kill(os.getpid(), signal.SIGINT)
        await eventually(lambda: by_name(supervisor, "bot").state is State.STOPPING)
        assert not task.done()

        os.kill(os.getpid(), signal.SIGINT)

        await asyncio.wait_for(task, 10)
    assert ends.read_text().split() == ["valkey"]


async def test_a_stop_during_a_start_leaves_nothing_running(tmp_path: Path) -> None:
    started, go_on = asyncio.Event(), tmp_path / "go on"
    loop = asyncio.get_running_loop()

    def slow_initdb() -> None:
        loop.call_soon_threadsafe(started.set)
        while not go_on.exists():
            pass

    supervisor = Supervisor(settings_for(tmp_path), [spec("postgres", RUN_FOR_EVER, prepare=slow_initdb)], Story())
    async with running(supervisor) as task:
        await started.wait()
        supervisor.stop.set()
        await asyncio.sleep(0)
        go_on.touch()
        await task

    assert by_name(supervisor, "postgres").pid is None
    assert living(tmp_path / "run") == []


async def test_work_that_ends_well_is_done_and_lets_others_start(tmp_path: Path) -> None:
    specs = [spec("migrations", "pass", once=True), spec("recorder", RUN_FOR_EVER, needs=("migrations",))]
    supervisor = Supervisor(settings_for(tmp_path), specs, Story())
    async with running(supervisor):
        await eventually(lambda: supervisor.all_ready)
        assert by_name(supervisor, "migrations").state is State.DONE


async def test_two_stacks_never_share_a_home(tmp_path: Path) -> None:
    first = Supervisor(settings_for(tmp_path), [spec("bot", RUN_FOR_EVER)], Story())
    async with running(first):
        await eventually(lambda: first.all_ready)

        with pytest.raises(StartFailed, match=rf"already in use by `tradebot up`, process {os.getpid()}"):
            await Supervisor(settings_for(tmp_path), [], Story()).run()


async def test_a_killed_supervisors_processes_are_ended_by_the_next_one(tmp_path: Path) -> None:
    ends, ready = tmp_path / "ends", tmp_path / "bot.ready"
    lock = ProcessLock(tmp_path / "run", "bot")
    held = lock.claim()
    assert held is not None
    orphan = orphaned(NOTES_ITS_END, ends, "orphan", ready, lock=held)
    lock.write(held, orphan.pid)
    os.close(held)
    await eventually(ready.exists)
    story = Story()
    supervisor = Supervisor(settings_for(tmp_path), [spec("bot", RUN_FOR_EVER)], story)

    async with running(supervisor):
        await eventually(lambda: supervisor.all_ready)
        assert orphan.poll() == 0  # asked to finish, and waited for
        assert by_name(supervisor, "bot").pid != orphan.pid
    assert ends.read_text().split() == ["orphan"]
    assert f"bot (process {orphan.pid}) outlived its supervisor" in texts(story)


async def test_an_orphan_that_nobody_noted_is_found_by_its_lock(tmp_path: Path) -> None:
    """The supervisor died between the birth of a process and the note of its pid."""
    ready = tmp_path / "ready"
    held = ProcessLock(tmp_path / "run", "valkey").claim()
    assert held is not None
    orphan = orphaned(IGNORES_SIGTERM, ready, lock=held)
    os.close(held)
    await eventually(ready.exists)
    supervisor = Supervisor(settings_for(tmp_path, stop_grace_s=0.1), [spec("valkey", RUN_FOR_EVER)], Story())

    async with running(supervisor):
        await eventually(lambda: supervisor.all_ready)
        assert orphan.poll() == -signal.SIGKILL


async def test_a_recycled_pid_in_a_stale_note_is_never_touched(tmp_path: Path) -> None:
    bystander = orphaned(RUN_FOR_EVER)
    try:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "bot.lock").write_text(f'{{"pid": {bystander.pid}, "started_s": 12345.0}}')
        supervisor = Supervisor(settings_for(tmp_path), [spec("bot", RUN_FOR_EVER)], Story())
        async with running(supervisor):
            await eventually(lambda: supervisor.all_ready)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


async def test_a_refused_configuration_ends_the_start_with_its_own_exit_code(tmp_path: Path) -> None:
    refuses = spec("bot", "import sys; print('config/tradebot.yaml:3: bot.port: too large'); sys.exit(4)", tmp_path / "never")
    supervisor = Supervisor(settings_for(tmp_path), [spec("valkey", RUN_FOR_EVER), refuses], Story())

    with pytest.raises(StartFailed, match=r"bot refuses its configuration: config/tradebot.yaml:3") as failed:
        await supervisor.run()

    assert failed.value.code is ExitCode.CONFIG
    assert living(tmp_path / "run") == []


async def test_a_server_that_never_gets_ready_ends_the_start_with_a_time_out(tmp_path: Path) -> None:
    never = spec("valkey", RUN_FOR_EVER, tmp_path / "never", essential=True)
    supervisor = Supervisor(settings_for(tmp_path, ready_timeout_s=0.2), [never], Story())

    with pytest.raises(StartFailed, match=r"valkey was not ready after 0 s: see .*valkey.out") as failed:
        await supervisor.run()

    assert failed.value.code is ExitCode.TIMEOUT


async def test_a_full_disk_is_told_before_anything_starts(tmp_path: Path) -> None:
    supervisor = Supervisor(settings_for(tmp_path, min_free_disk_mb=10**12), [spec("bot", RUN_FOR_EVER)], Story())

    with pytest.raises(StartFailed, match=r"too full to start.*min_free_disk_mb"):
        await supervisor.run()


async def test_a_running_process_holds_its_lock_and_nobody_else_does(tmp_path: Path) -> None:
    supervisor = Supervisor(settings_for(tmp_path), [spec("bot", RUN_FOR_EVER)], Story())
    async with running(supervisor):
        pid = await eventually(lambda: by_name(supervisor, "bot").state is State.READY and by_name(supervisor, "bot").pid)
        holder = ProcessLock(tmp_path / "run", "bot").holder()
        assert holder is not None
        assert holder.pid == pid
        assert [file.path for file in psutil.Process().open_files() if file.path.endswith("bot.lock")] == []


async def test_children_live_in_sessions_of_their_own(tmp_path: Path) -> None:
    supervisor = Supervisor(settings_for(tmp_path), [spec("bot", RUN_FOR_EVER)], Story())
    async with running(supervisor):
        pid = await eventually(lambda: by_name(supervisor, "bot").state is State.READY and by_name(supervisor, "bot").pid)
        assert os.getsid(pid or 0) == pid


async def test_output_is_kept_short_while_its_writer_goes_on(tmp_path: Path) -> None:
    """Two megabytes and more a second, against a bound of one."""
    chatty = "import sys, time\nwhile True: sys.stdout.write('x' * 65535 + chr(10)); sys.stdout.flush(); time.sleep(0.02)"
    settings = settings_for(tmp_path).model_copy(update={"log": LogSettings(file_mb=1)})
    supervisor = Supervisor(settings, [spec("bot", chatty)], Story())
    async with running(supervisor):
        output = by_name(supervisor, "bot").log_file
        kept = output.with_name("bot.out.1")
        await eventually(lambda: kept.exists() and output.stat().st_size < kept.stat().st_size)
        await eventually(lambda: output.stat().st_size > 0)
