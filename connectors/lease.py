"""One live writer per account, on this machine and on every other that shares the bus.

Two locks are needed, since neither sees everything:

* A file lock in the home directory. The kernel drops it when its process dies, however it dies, and keeps it while the process is
  merely frozen. So after `kill -9` the next connector on the same home starts at once: holding the lock proves that the former
  holder is dead. A second connector beside a living one gets a clear refusal.
* A key on the bus with a time to live, for a connector elsewhere. It outlives its holder by `W + clock bound + margin`: whatever
  the holder signed before it lost the lease carries a time stamp that the venue refuses by then (W is the receive window).

The holder looks at `held` immediately before it sends: true only within `VALID_S` of the start of the last successful renewal, on a
clock that also runs while the machine sleeps. Each new holder gets a higher epoch, which stands in every record of the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import platform
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import structlog

from bus.connection import Connection
from bus.errors import BusError
from runtime.endpoints import write_private
from runtime.service import ServiceError

OpenBus = Callable[[], Awaitable[Connection]]

log = structlog.get_logger(__name__)

VALID_S: Final = 5.0
RENEW_EVERY_S: Final = 1.0
CLOCK_BOUND_S: Final = 2.0
"""The venue accepts time stamps up to 1 s ahead; the rest is our own error."""
MARGIN_S: Final = 1.0

_ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and string.sub(holder, 1, string.len(ARGV[3])) ~= ARGV[3] then
  return {0, holder, redis.call('PTTL', KEYS[1])}
end
local epoch = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[4])) + 1
redis.call('SET', KEYS[2], string.format('%d', epoch))
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, ARGV[1], epoch}
"""
"""KEYS: lease, epoch. ARGV: our token, life in ms, prefix of holders known to be dead, last epoch of this home."""

_RENEW = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class LeaseHeld(ServiceError):
    """Another connector serves this account: this one must not start, or go on."""


class HostLock:
    """The file lock of one account in one home directory, and the last epoch used there."""

    def __init__(self, home: Path, mode: str, exchange: str, account: str) -> None:
        """Take the lock; raises LeaseHeld when a living process has it."""
        folder = home / "lease"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{mode}-{exchange}-{account}"
        self._epoch_path = folder / f"{name}.epoch"
        self._file = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._file, 20).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise LeaseHeld(
                f"a connector for {exchange} account {account!r} ({mode}) already runs from {home}: process {holder}; "
                "one account has one writer: stop that one first (`tradebot down`, or end the process)"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    @property
    def epoch(self) -> int:
        """The last epoch that this home has used; 0 at first. Raises ServiceError when the file is damaged."""
        try:
            return int(self._epoch_path.read_text())
        except FileNotFoundError:
            return 0
        except ValueError:
            raise ServiceError(f"{self._epoch_path} holds no number; restore it, epochs must only rise") from None

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        write_private(self._epoch_path, str(epoch))

    def close(self) -> None:
        os.close(self._file)


class Lease:
    """The lease of one account. `acquire`, run `keep` beside the work, `release` at the end."""

    def __init__(self, lock: HostLock, open_bus: OpenBus, key: str, installation: str, recv_window_s: float) -> None:
        """`key` is the bus key; `installation` names this home, whose former holders the file lock proves dead.

        A file lock proves that within one running kernel only, so that is a part of the holder's name: a copied or shared home
        on another machine gets no short cut.
        """
        self.epoch = 0
        self.life_s = VALID_S + recv_window_s + CLOCK_BOUND_S + MARGIN_S
        self._lock = lock
        self._open_bus = open_bus
        self._key = key
        self._home = f"{installation}@{_kernel()}:"
        self._token = f"{self._home}{os.getpid()}:{secrets.token_hex(8)}"
        self._bus: Connection | None = None
        self._valid_until_s = 0.0
        self.failures = 0

    @property
    def held(self) -> bool:
        """Whether this process may send now. Cheap: ask immediately before every send."""
        return boot_s() < self._valid_until_s

    async def acquire(self) -> int:
        """Become the writer; returns the epoch. Raises LeaseHeld when a connector elsewhere keeps renewing, BusError without bus.

        A key that nobody renews runs out within its life, for which this waits.
        """
        patience_s = boot_s() + self.life_s + MARGIN_S
        while True:
            started_s = boot_s()
            won, holder, number = await self._call(_ACQUIRE, 2, self._token, self._life_ms, self._home, self._lock.epoch)
            if won:
                self.epoch = int(number)
                self._lock.epoch = self.epoch
                self._valid_until_s = started_s + VALID_S
                log.info("lease.acquired", key=self._key, epoch=self.epoch)
                return self.epoch
            if boot_s() > patience_s:
                raise LeaseHeld(
                    f"a connector elsewhere holds {self._key} and renews it (holder {holder.decode(errors='replace')}); "
                    "one account has one writer: stop that one first"
                )
            log.warning("lease.waiting", key=self._key, holder=holder.decode(errors="replace"), left_ms=number)
            await asyncio.sleep(min(1.0, max(0.05, number / 1000)))

    async def keep(self) -> None:
        """Renew for ever; raises LeaseHeld when someone else has taken over. A bus that is away only ends `held` in time."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            started_s = boot_s()
            try:
                renewed = await self._call(_RENEW, 1, self._token, self._life_ms)
            except (BusError, OSError) as error:
                self.failures += 1
                log.warning("lease.not_renewed", key=self._key, error=str(error), held=self.held)
                continue
            if not renewed:
                self._valid_until_s = 0.0
                raise LeaseHeld(
                    f"another connector has taken over {self._key}: this one was frozen or cut off for too long, and stops"
                )
            self._valid_until_s = started_s + VALID_S

    async def release(self) -> None:
        """Give the lease back, so that the next holder need not wait. Nothing may be sent any more."""
        self._valid_until_s = 0.0
        with contextlib.suppress(BusError, OSError):  # it runs out by itself
            await self._call(_RELEASE, 1, self._token)
        if self._bus is not None:
            self._bus.close()

    @property
    def _life_ms(self) -> int:
        return int(self.life_s * 1000)

    async def _call(self, script: str, keys: int, *arguments: str | int) -> Any:
        if self._bus is None or self._bus.closed.done():
            self._bus = await self._open_bus()
        names = (self._key, f"{self._key}:epoch")[:keys]
        return await self._bus.command("EVAL", script, keys, *names, *arguments)


def _kernel() -> str:
    """What tells this running kernel from every other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def boot_s() -> float:
    """Seconds since boot, sleep included where the system can tell: a lease must not outlive a suspended machine."""
    return time.clock_gettime(_CLOCK)


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
