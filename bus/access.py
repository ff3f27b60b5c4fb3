"""Who may do what on the bus: one table of services, their commands and their streams, rendered as an ACL file.

Valkey and Redis 7 check each command against a user's rules. Every grant becomes a selector, which ties commands to keys: a
connector may acknowledge in its command stream and yet not add to it. What no grant allows is refused (NOPERM), and who gives no
name and password is refused everything. One thing that an ACL cannot express is the consumer group: whoever may acknowledge in a
stream may do so for every group of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from bus.streams import Stream, Streams

OPERATOR, EXPORTER = "operator", "exporter"
"""The command line with its people, and the process that measures the server for Prometheus."""

MIN_PASSWORD = 16

GREETING = ("ping", "select", "client|setname", "client|setinfo", "multi", "exec", "discard")
"""What every connection may say: greetings, and transactions, whose commands are checked one by one."""

ADD = ("xadd",)
TAIL = ("xread", "xinfo|stream")
LOOK = (*TAIL, "xrange", "xrevrange", "xlen", "xinfo|groups", "xinfo|consumers", "xpending", "type", "memory|usage")
CONSUME = (
    *("xinfo|stream", "xinfo|groups", "xpending", "xreadgroup", "xclaim", "xautoclaim", "xack"),
    *("xgroup|create", "xgroup|setid"),
)
TRIM = ("xtrim", "xgroup|delconsumer")
LEASE = ("eval", "get", "set", "del", "pttl")  # a script's own commands are checked like any others
OPERATE = ("info", "config|get")
SIZES = ("xinfo|stream", "xinfo|groups", "xinfo|consumers", "xlen", "type", "memory|usage")
MEASURE = ("info", "dbsize", "scan", "slowlog|get", "slowlog|len", "latency|latest", "latency|histogram")


@dataclass(frozen=True, slots=True)
class Grant:
    """Commands on keys. `access` says what the commands may do with the keys: `R` read, `W` write, `RW` both."""

    commands: tuple[str, ...]
    access: str
    keys: tuple[str, ...]

    def __str__(self) -> str:
        """The selector in the server's words."""
        words = [f"+{command}" for command in self.commands] + [f"%{self.access}~{key}" for key in self.keys]
        return f"({' '.join(words)})"


@dataclass(frozen=True, slots=True)
class User:
    """One user of the server; `commands` are those that touch no key."""

    name: str
    grants: tuple[Grant, ...]
    commands: tuple[str, ...] = GREETING

    def line(self, password: str) -> str:
        """The user's line of an ACL file. Only the password's hash is in it."""
        digest = hashlib.sha256(password.encode()).hexdigest()
        return " ".join((f"user {self.name} on #{digest}", *(f"+{command}" for command in self.commands), *map(str, self.grants)))


def users(streams: Streams, accounts: Mapping[str, str]) -> tuple[User, ...]:
    """Every user of one mode; `accounts` gives each exchange's account (`{"binance": "main"}`)."""
    connectors = tuple(_connector(streams, exchange, account) for exchange, account in accounts.items())
    named = _Named(streams, accounts)
    return (
        *connectors,
        _bot(streams, named),
        _recorder(streams, named),
        _alerts(streams, named),
        User("traces", (Grant(TAIL, "R", named.chain_of_an_order),)),
        _operator(streams, named),
        User(EXPORTER, (Grant(SIZES, "R", named.everything),), (*GREETING, *MEASURE)),
    )


def acl_file(passwords: Mapping[str, str], mode: str = "simulation", accounts: Mapping[str, str] | None = None) -> str:
    """The text of an ACL file (`aclfile` in redis.conf) with every user of a mode, and nobody else.

    `passwords` has one for each of `user_names(accounts)`; raises ValueError when one is missing, unknown, short or used twice.
    """
    found = users(Streams(mode), accounts or {"binance": "main"})
    names = [user.name for user in found]
    wrong = sorted({*names} ^ passwords.keys())
    if wrong:
        raise ValueError(f"one password for each user of the bus is needed, and no others; wrong: {', '.join(wrong)}")
    short = sorted(name for name in names if len(passwords[name]) < MIN_PASSWORD)
    if short:
        raise ValueError(f"passwords of the bus have {MIN_PASSWORD} characters at least; too short: {', '.join(short)}")
    if len({*passwords.values()}) < len(passwords):
        raise ValueError("two users of the bus have the same password: each needs its own")
    lines = ["user default off resetpass resetkeys resetchannels -@all", *(user.line(passwords[user.name]) for user in found)]
    return "".join(f"{line}\n" for line in lines)


def user_names(accounts: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The users that need a password."""
    return tuple(user.name for user in users(Streams("simulation"), accounts or {"binance": "main"}))


class _Named:
    """Names of streams that several users share."""

    def __init__(self, streams: Streams, accounts: Mapping[str, str]) -> None:
        pairs = accounts.items()
        self.market = _names(*(streams.market(name, kind) for name in accounts for kind in Streams.MARKET_KINDS))
        self.commands = _names(*(streams.commands(name, account) for name, account in pairs))
        self.positions = _names(*(streams.account(name, account, "positions") for name, account in pairs))
        self.account = _names(*(streams.account(name, account, kind) for name, account in pairs for kind in Streams.ACCOUNT_KINDS))
        self.everything = (*self.market, *self.account, *self.commands, *_names(*streams.shared))
        spoken = _names(streams.signals, streams.decisions, streams.round_trips)
        self.chain_of_an_order = (*spoken, *self.commands, *self.account)


def _connector(streams: Streams, exchange: str, account: str) -> User:
    """Its own facts out, its own commands in; the lease of its account, and the last values of its markets."""
    market = (streams.market(exchange, kind) for kind in Streams.MARKET_KINDS)
    facts = (streams.account(exchange, account, kind) for kind in ("orders", "fills", "balances", "status"))
    mode, lease = streams.mode, f"{streams.mode}:lease:{{{exchange}}}:{account}"
    last_values = f"{'' if mode == 'live' else f'{mode}:'}{exchange}_spot:*"
    grants = (
        Grant(ADD, "W", _names(*market, *facts, streams.alerts, streams.dead_letters)),
        Grant(CONSUME, "RW", _names(streams.commands(exchange, account))),
        Grant(TAIL, "R", _names(streams.control)),
        Grant(LEASE, "RW", (lease, f"{lease}:epoch")),
        Grant(("set",), "RW", (f"{mode}:bus-epoch",)),
        Grant(("hset", "expire"), "W", (last_values,)),
    )
    return User(f"connector-{exchange}", grants)


def _bot(streams: Streams, named: _Named) -> User:
    """Opinions, decisions, commands and positions out; markets and facts in."""
    spoken = _names(streams.signals, streams.decisions, streams.round_trips, streams.plugins, streams.alerts, streams.dead_letters)
    facts = tuple(name for name in named.account if name not in named.positions)
    grants = (
        Grant(ADD, "W", (*spoken, *named.commands, *named.positions)),
        Grant(CONSUME, "RW", facts),
        Grant(TAIL, "R", (*named.market, *_names(streams.control))),
    )
    return User("bot", grants)


def _recorder(streams: Streams, named: _Named) -> User:
    """Reads what is history, and sweeps every stream; it adds alerts and dead letters only."""
    spoken = _names(streams.signals, streams.decisions, streams.round_trips, streams.alerts, streams.control, streams.plugins)
    grants = (
        Grant(ADD, "W", _names(streams.alerts, streams.dead_letters)),
        Grant(CONSUME, "RW", (*named.market, *named.account, *spoken)),
        Grant((*LOOK, *TRIM), "RW", named.everything),
    )
    return User("recorder", grants, (*GREETING, "info"))


def _alerts(streams: Streams, named: _Named) -> User:
    """Hears everything that concerns people, and passes on what they say: stop, pause, switch a plugin, cancel what rests."""
    heard = _names(streams.alerts, streams.control, streams.round_trips, streams.plugins, streams.decisions, streams.dead_letters)
    grants = (
        Grant(ADD, "W", (*_names(streams.alerts, streams.control, streams.dead_letters), *named.commands)),
        Grant(CONSUME, "RW", (*named.account, *heard)),
        Grant(LOOK, "R", named.everything),
    )
    return User("alerts", grants)


def _operator(streams: Streams, named: _Named) -> User:
    """The command line: looks at everything, says what people say, and brings streams back from a backup."""
    bookkeeping = (f"{streams.mode}:bus-epoch",)
    grants = (
        Grant(LOOK, "R", named.everything),
        Grant((*ADD, "xdel"), "W", named.everything),  # a dead letter goes back into the stream that it came from
        Grant(("exists", "del", "xgroup|create"), "RW", (*named.everything, *bookkeeping)),  # a restore
    )
    return User(OPERATOR, grants, (*GREETING, *OPERATE))


def _names(*streams: Stream) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain(stream.name for stream in streams)))
