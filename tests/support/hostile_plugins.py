"""Plugin files that do harm, by kind and seed, each with what must become of it."""

from __future__ import annotations

import os
import random
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Fate = Literal["refused", "ended", "lives"]

LATIN = 'NAME = "caf\xe9"\n'.encode("latin-1")
ENDLESS = r"endless loop: .* CPU without returning"


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file and its fate: refused when it is loaded, ended (also while it is loaded), or alive without having done harm.

    `reason` is a pattern that the stated reason must match. `burns` says that it keeps a processor busy until it is ended,
    `in_callback` that its harm is done when it is handed an event.
    """

    kind: str
    path: Path
    fate: Fate
    reason: str
    burns: bool = False
    in_callback: bool = False


@dataclass(frozen=True, slots=True)
class _Kind:
    fate: Fate
    reason: str
    code: str | bytes = ""
    burns: bool = False
    make: Callable[[Path], None] | None = None
    file: str = ""


def _in(callback: str, imports: str = "") -> Callable[[str], str]:
    """A complete plugin whose callback has the body that follows."""

    def complete(body: str) -> str:
        return (
            f"from strategy import Direction, Plugin, Signal\n{imports}\n\nclass Hostile(Plugin):\n    name = 'NAME'\n\n"
            f"    def on_ticker(self, ticker):\n"
            + (textwrap.indent(body.strip(), " " * 8) if callback == "on_ticker" else "        return None")
            + ("" if callback == "on_ticker" else f"\n\n    def {callback}:\n" + textwrap.indent(body.strip(), " " * 8))
            + "\n\nPLUGIN = Hostile\n"
        )

    return complete


def _tick(body: str, imports: str = "") -> str:
    return _in("on_ticker", imports)(body)


def _said(strength: str = "1.0", direction: str = "Direction.BUY", extra: str = "") -> str:
    return _tick(
        f"signal = Signal(strategy='good', exchange='other', symbol='ETH/USDT', direction={direction}, confidence=1.0,\n"
        f"    strength={strength}, reason='x', ts_event_ns=1, causation_id='stolen')\n{extra}\nyield signal"
    )


GOOD = _tick("yield self.signal(ticker, Direction.BUY, reason='x')")

KINDS: dict[str, _Kind] = {
    # -- files that are no plugin
    "syntax": _Kind("refused", r":2: SyntaxError", "x = 1\ny = = 2\n"),
    "indentation": _Kind("refused", r":\d: (IndentationError|TabError)", "def f():\n  x = 1\n\ty = 2\n"),
    "unknown_import": _Kind("refused", r":1: ModuleNotFoundError: No module named 'no_such_NAME'", "import no_such_NAME\n"),
    "raises_at_import": _Kind("refused", r":3: ValueError: bad luck", "\n\nraise ValueError('bad luck')\n"),
    "exits_at_import": _Kind("refused", r":2: SystemExit: 3", "import sys\nsys.exit(3)\n"),
    "raises_in_init": _Kind("refused", r"RuntimeError: not today", _in("__init__(self, *args)")("raise RuntimeError('not today')")),
    "no_class": _Kind("refused", "sets no PLUGIN", "x = 1\n"),
    "empty": _Kind("refused", "sets no PLUGIN", ""),
    "no_subclass": _Kind("refused", "PLUGIN is 5, not a subclass", "PLUGIN = 5\n"),
    "many_classes": _Kind(
        "refused", "PLUGIN is \\[", "from strategy import Plugin\nPLUGIN = [type('A', (Plugin,), {}), type('B', (Plugin,), {})]\n"
    ),
    "bad_name": _Kind("refused", "must be lower case", GOOD.replace("'NAME'", "'../../etc'")),
    "misspelled_callback": _Kind("refused", "on_tick is no callback", GOOD.replace("on_ticker", "on_tick")),
    "circular_import": _Kind(
        "refused", "(AttributeError|ModuleNotFoundError)", "import tradebot_plugin_files.NAME as me\nPLUGIN = me.PLUGIN\n"
    ),
    "latin_1": _Kind("refused", "is not UTF-8", LATIN),
    "nul": _Kind("refused", "NUL byte", b"x = 1\n\0\n"),
    "binary": _Kind("refused", "(not UTF-8|NUL byte)", random.Random(1).randbytes(4000)),
    "nested": _Kind("refused", "(SyntaxError|RecursionError|memory)", "x = " + "(" * 5000 + ")" * 5000 + "\n"),
    "nested_calls": _Kind("refused", "(SyntaxError|RecursionError|memory|sets no)", "x = " + "-" * 90_000 + "1\n"),
    "two_megabytes": _Kind("refused", "at most", b"#" * 2_000_000),
    "symlink_out": _Kind("refused", "leads out", make=lambda path: path.symlink_to("/etc/passwd")),
    "symlink_loop": _Kind("refused", "(leads out|cannot be read|symbolic link|loop)", make=lambda path: path.symlink_to(path)),
    "pipe": _Kind("refused", "no plain file", make=os.mkfifo),
    "directory": _Kind("refused", "no plain file", make=lambda path: path.mkdir()),
    "evil_repr": _Kind(
        "refused",
        "RuntimeError",
        "class M(type):\n    def __repr__(cls): raise RuntimeError('no')\nclass A(metaclass=M): ...\nPLUGIN = A\n",
    ),
    "evil_error": _Kind("refused", "whose text raised", "class E(Exception):\n    def __str__(self): raise ValueError\nraise E\n"),
    "wild_warm_up": _Kind(
        "refused",
        "warm_up must be",
        _in("on_candle(self, candle)")("pass").replace("def on_candle", "warm_up = 10**12\n\n    def on_candle"),
    ),
    # -- files that look strange and are in order
    "byte_order_mark": _Kind("lives", "", b"\xef\xbb\xbf" + GOOD.encode()),
    "shadows_json": _Kind("lives", "", GOOD, file="json"),
    "shadows_asyncio": _Kind("lives", "", GOOD, file="asyncio"),
    # -- harm while loading
    "loop_at_import": _Kind("ended", ENDLESS + r".*NAME\.py:1 ", "while True: pass\n", burns=True),
    "exit_at_import": _Kind("ended", r"ended itself with exit code 7", "import os\nos._exit(7)\n"),
    "crash_at_import": _Kind("ended", "SIGSEGV", "import ctypes\nctypes.string_at(0)\n"),
    "fork_at_import": _Kind("refused", "start processes", "import os\nos.fork()\n"),
    "memory_at_import": _Kind("refused", "memory:", "x = []\nwhile True: x.append(bytearray(10**7))\n"),
    # -- not returning
    "loop": _Kind("ended", ENDLESS + r".*NAME\.py:\d+ in on_ticker", _tick("while True: pass"), burns=True),
    "stubborn_loop": _Kind(
        "ended", ENDLESS, _tick("while True:\n    try:\n        while True: pass\n    except BaseException: pass"), burns=True
    ),
    "deaf_loop": _Kind(
        "ended",
        ENDLESS,
        _tick(
            "for n in range(1, 64):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass",
            "import signal",
        ),
        burns=True,
    ),
    "hang_in_c": _Kind("ended", ENDLESS, _tick("int(decimal.Decimal('1e9999999'))", "import decimal"), burns=True),
    "regular_expression": _Kind("ended", ENDLESS, _tick("re.match('(a+)+$', 'a' * 60 + 'b')", "import re"), burns=True),
    "endless_generator": _Kind(
        "ended", ENDLESS, _tick("for _ in itertools.repeat(0): pass\nyield", "import itertools"), burns=True
    ),
    "sleep": _Kind("ended", "hangs: on_ticker", _tick("time.sleep(60)", "import time")),
    "reads_standard_input": _Kind("ended", "failed 5 times, last EOFError", _tick("input()")),
    "stops_itself": _Kind("ended", "hangs: on_ticker", _tick("signal.raise_signal(signal.SIGSTOP)", "import signal")),
    "loop_in_heartbeat": _Kind("ended", "endless loop: heartbeat", _in("heartbeat(self)")("while True: pass"), burns=True),
    "loop_in_save": _Kind("ended", "endless loop: on_save", _in("on_save(self)")("while True: pass"), burns=True),
    "no_answer": _Kind("ended", "hangs: on_ticker", _tick("worker.pack = lambda frame: b''", "from bot.isolation import worker")),
    # -- ending itself
    "os_exit": _Kind("ended", r"ended itself with exit code 3 \(os._exit\?\)", _tick("os._exit(3)", "import os")),
    "sys_exit": _Kind("ended", "failed 5 times, last SystemExit", _tick("sys.exit(3)", "import sys")),
    "segfault": _Kind("ended", "killed by signal SIGSEGV", _tick("ctypes.string_at(0)", "import ctypes")),
    "abort": _Kind("ended", "killed by signal SIGABRT", _tick("os.abort()", "import os")),
    "closes_everything": _Kind("ended", "closed its connection", _tick("os.closerange(0, 1000)", "import os")),
    "raises": _Kind("ended", "failed 5 times, last RuntimeError: no luck", _tick("raise RuntimeError('no luck')")),
    "raises_interrupt": _Kind("ended", "failed 5 times, last KeyboardInterrupt", _tick("raise KeyboardInterrupt")),
    "raises_evil": _Kind(
        "ended", "failed 5 times, last E ", _tick("raise E", "class E(BaseException):\n    def __str__(self): raise ValueError")
    ),
    "recursion": _Kind("ended", "failed 5 times, last RecursionError", _tick("self.on_ticker(ticker)")),
    "stack_overflow": _Kind(
        "ended",
        "(SIGSEGV|memory|RecursionError|SIGBUS)",
        _tick("sys.setrecursionlimit(10**9)\nx = ()\nfor _ in range(10**5): x = (x,)\nrepr(x)", "import sys"),
    ),
    # -- taking too much
    "memory": _Kind("ended", "memory: on_ticker needed more than", _tick("x = []\nwhile True: x.append(bytearray(10**7))")),
    "much_memory": _Kind("ended", "memory: on_ticker needed more than", _tick("'x' * 10**12")),
    "hidden_memory": _Kind(
        "ended",
        "(memory:|endless loop)",
        _tick("x = []\nwhile True:\n    try: x.append(bytearray(10**7))\n    except MemoryError: pass"),
        burns=True,
    ),
    "fork_bomb": _Kind("ended", "tried to start processes: os.fork", _tick("while True: os.fork()", "import os")),
    "quiet_fork": _Kind("ended", "tried to start processes: os.fork", _tick("try: os.fork()\nexcept OSError: pass", "import os")),
    "libc_fork_bomb": _Kind(
        "ended",
        "(endless loop|tried to start processes)",
        _tick("while True: libc.fork()", "import ctypes\nlibc = ctypes.CDLL(None)"),
        burns=True,
    ),
    "shell": _Kind(
        "ended", "tried to start processes: (os.system|subprocess.Popen)", _tick("os.system('touch /tmp/hostile')", "import os")
    ),
    "subprocess": _Kind(
        "ended", "tried to start processes: subprocess.Popen", _tick("subprocess.run(['true'])", "import subprocess")
    ),
    "exec": _Kind("ended", "tried to start processes: os.exec", _tick("os.execv('/bin/true', ['true'])", "import os")),
    "threads": _Kind(
        "ended",
        "(tried to start threads|can't start new thread)",
        _tick("while True: threading.Thread(target=time.sleep, args=(99,)).start()", "import threading, time"),
    ),
    "descriptors": _Kind("ended", "Too many open files", _tick("while True: KEEP.append(open('/dev/urandom', 'rb'))", "KEEP = []")),
    "log_flood": _Kind("ended", "log flood: more than 100 lines a second", _tick("while True: print('x' * 50)")),
    "one_long_line": _Kind("ended", "(log flood|hangs)", _tick("while True: print('x' * 5000, end='')")),
    "logging_flood": _Kind("ended", "log flood", _tick("for _ in range(10**6): logging.error('x')", "import logging")),
    # -- saying what is not so
    "garbage": _Kind("ended", "said garbage", _tick("os.write(3, os.urandom(400))", "import os")),
    "forged_answer": _Kind(
        "ended",
        "said garbage",
        _tick("os.write(3, pack(Done(10**6, [], [], 1)))", "import os\nfrom bot.isolation.protocol import Done, pack"),
    ),
    "endless_frame": _Kind("ended", "said garbage: a frame of 4294967295 bytes", _tick("os.write(3, b'\\xff' * 400)", "import os")),
    "spoken_unasked": _Kind(
        "ended",
        "said garbage",
        _tick("os.write(3, pack(Saved(1, b'x')))", "import os\nfrom bot.isolation.protocol import Saved, pack"),
    ),
    "million_signals": _Kind(
        "ended",
        "too many signals: more than 16 for one event",
        _tick("for _ in range(10**6): yield self.signal(ticker, Direction.BUY)"),
    ),
    "always_signals": _Kind(
        "ended", "too many signals: more than 200 a second", _tick("for _ in range(16): yield self.signal(ticker, Direction.BUY)")
    ),
    "nan": _Kind("ended", "failed 5 times, .*strength must lie in 0..1, not nan", _said("float('nan')")),
    "infinity": _Kind("ended", "strength must lie in 0..1, not inf", _said("float('inf')")),
    "negative": _Kind("ended", "strength must lie in 0..1, not -1", _said("-1")),
    "text_strength": _Kind("ended", "strength must lie in 0..1, not 'much'", _said("'much'")),
    "no_direction": _Kind("ended", "which is no Signal", _said(direction="'buy'")),
    "no_signal": _Kind("ended", "said 5, which is no Signal", _tick("yield 5")),
    "no_iterable": _Kind("ended", "failed 5 times, last TypeError", _tick("return 7")),
    "forged_nan": _Kind(
        "ended",
        "said garbage",
        _tick(
            "worker.pack = lambda frame: pack(Done(frame.seq, [Said(0, Direction.BUY, float('nan'), 1.0, '')], [], 1))",
            "from bot.isolation import worker\nfrom bot.isolation.protocol import Done, Said, pack",
        ),
    ),
    "forged_event": _Kind(
        "ended",
        "said garbage",
        _tick(
            "worker.pack = lambda frame: pack(Done(frame.seq, [Said(99, Direction.BUY, 1.0, 1.0, '')], [], 1))",
            "from bot.isolation import worker\nfrom bot.isolation.protocol import Done, Said, pack",
        ),
    ),
    "other_name": _Kind("lives", "", _said()),
    "huge_reason": _Kind("lives", "", _tick("yield self.signal(ticker, Direction.BUY, reason='x' * 10**7)")),
    "broken_text": _Kind("lives", "", _tick("yield self.signal(ticker, Direction.BUY, reason='\\ud800')")),
    "huge_state": _Kind("lives", "", _in("on_save(self)")("return 'x' * 50_000_000")),
    "unwritable_state": _Kind("lives", "", _in("on_save(self)")("return object()")),
    # -- reaching out
    "kills_its_parent": _Kind(
        "ended", "failed 5 times, last blocked: PermissionError", _tick("os.kill(os.getppid(), 9)", "import os")
    ),
    "kills_everything": _Kind("ended", "failed 5 times, last blocked: PermissionError", _tick("os.kill(-1, 9)", "import os")),
    "connects": _Kind(
        "ended",
        "failed 5 times, last blocked: PermissionError",
        _tick("socket.create_connection(('127.0.0.1', 6390))", "import socket"),
    ),
    "writes_a_file": _Kind("ended", "failed 5 times, last blocked: PermissionError", _tick("open('/tmp/hostile', 'w').write('x')")),
    "removes_a_file": _Kind("ended", "failed 5 times, last blocked: PermissionError", _tick("os.unlink('CANARY')", "import os")),
    "reads_a_secret": _Kind("ended", "failed 5 times, last blocked: PermissionError", _tick("print(open('CANARY').read())")),
    "reads_quietly": _Kind(
        "lives",
        "",
        _tick(
            "for path in ('CANARY', f'/proc/{os.getppid()}/environ', '/proc/self/environ', '/proc/1/environ'):\n    try: print(open(path).read())\n    except OSError: pass\nprint(os.environ)",
            "import os",
        ),
    ),
    "lifts_its_limits": _Kind(
        "ended",
        "failed 5 times, last (blocked: PermissionError|ValueError)",
        _tick("resource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "import resource"),
    ),
    "becomes_another": _Kind("ended", "failed 5 times, last blocked: PermissionError", _tick("os.setuid(1)", "import os")),
    # -- making a mess at home
    "patches_strategy": _Kind(
        "lives",
        "",
        _tick("strategy.Plugin.signal = strategy.Signal.__init__ = None\nstrategy.make_plugin = None", "import strategy"),
    ),
    "patches_builtins": _Kind("ended", "", _tick("builtins.__dict__.clear()", "import builtins")),
    "at_exit": _Kind(
        "lives",
        "",
        _tick("atexit.register(time.sleep, 99)\ngc.disable()\nsys.settrace(lambda *a: None)", "import atexit, gc, sys, time"),
    ),
    "clears_modules": _Kind("lives", "", _tick("sys.modules.clear()\nsys.path.clear()", "import sys")),
}


ALWAYS = (
    "loop",
    "hang_in_c",
    "os_exit",
    "memory",
    "fork_bomb",
    "libc_fork_bomb",
    "log_flood",
    "garbage",
    "million_signals",
    "shadows_json",
    "reads_quietly",
    "kills_its_parent",
    "connects",
    "syntax",
)
"""However few files are wanted, these are among them."""


def write_hostile(folder: Path, count: int, seed: int, canary: Path) -> Iterator[Hostile]:
    """Write `count` hostile files of all kinds into `folder`; `canary` is a file that none of them may read or remove.

    The first of each kind is plain; further ones carry noise around what they do.
    """
    chance = random.Random(seed)
    others = [name for name in KINDS if name not in ALWAYS]
    chance.shuffle(others)
    names = [*ALWAYS, *others]
    for number in range(count):
        kind = names[number % len(names)]
        yield _written(folder, kind, number, chance if number >= len(names) else None, canary)


def _written(folder: Path, name: str, number: int, chance: random.Random | None, canary: Path) -> Hostile:
    kind = KINDS[name]
    stem = f"{name}_{number}"
    place = folder / str(number)
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{kind.file or stem}.py"
    if kind.make is not None:
        kind.make(path)
    else:
        code = kind.code.encode() if isinstance(kind.code, str) else kind.code
        code = code.replace(b"NAME", f"x{number}_{name}"[:32].encode() if b"'NAME'" in code else stem.encode()).replace(
            b"CANARY", str(canary).encode()
        )
        path.write_bytes(code + _noise(chance) if chance is not None and kind.fate != "refused" else code)
    in_callback = kind.fate == "ended" and "on_ticker(self, ticker):\n        return None" not in str(kind.code)
    return Hostile(name, path, kind.fate, kind.reason.replace("NAME", stem), kind.burns, in_callback)


def _noise(chance: random.Random) -> bytes:
    """Harmless lines, so that no two files are the same."""
    lines = [f"# {chance.random()}", *(f"VALUE_{chance.randrange(10**6)} = {chance.random()}" for _ in range(chance.randrange(50)))]
    return ("\n" + "\n".join(lines) + "\n").encode()
