"""redis-py for control work: the command line, the janitor, the dead letters. Hot processes use `bus.connection` instead."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

CONTROL_TIMEOUT_S = 5.0


def open_redis(url: str, timeout_s: float = CONTROL_TIMEOUT_S) -> Redis:
    """A client of the bus, to be closed with `aclose()`. It answers bytes: RESP2 is pinned, as RESP3 changes the shape of replies.

    It connects with the first command, and repeats only connecting, not commands: repeating an XADD would write it twice.
    """
    return Redis.from_url(
        url,
        protocol=2,
        decode_responses=False,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 0),
        health_check_interval=30,
        client_name="tradebot-control",
    )
