"""What can go wrong on the bus, named by what the caller may do about it."""

from __future__ import annotations


class BusError(Exception):
    """Anything that the bus refuses or fails to do."""


class CodecError(BusError):
    """Bytes that are no message of ours, or a message that may not travel: never retried, parked or reported instead."""


class BufferFull(BusError):
    """The publisher holds as much lossless data as it may: `await publisher.room()` first, and take no new risk meanwhile."""


class BusUnavailable(BusError):
    """No answer: the server is down, frozen or cut off. Whether a write took effect is unknown; everything is tried again."""


class CommandTimeout(BusUnavailable):
    """The server did not answer in time; the connection is given up, since its later answers could not be told apart."""


class ServerError(BusError):
    """The server answered with an error. `code` is its first word; `advice` says what a person can do."""

    advice = "see the server's log"

    def __init__(self, text: str) -> None:
        super().__init__(f"{text} ({self.advice})")
        self.code = text.partition(" ")[0]
        self.text = text


class TransientServerError(ServerError):
    """The server's state forbids it now; the same request may succeed later."""


class OutOfMemory(TransientServerError):
    advice = "maxmemory is reached: raise bus.maxmemory_mb or look for a consumer that lags with `tradebot bus lag`"


class DiskTrouble(TransientServerError):
    advice = "the server cannot write its append-only file: free some disk space, it recovers by itself"


class ReadOnlyServer(TransientServerError):
    advice = "this is a replica: point bus.url at the primary"


class ServerLoading(TransientServerError):
    advice = "the server is loading its data: wait"


class ServerBusy(TransientServerError):
    advice = "a script blocks the server: wait, or SCRIPT KILL"


class AuthRefused(ServerError):
    advice = "check user, password and ACL rules in bus.url"


class WrongType(ServerError):
    advice = "a key with the name of a stream holds something else: delete or rename that key"


class NoGroup(ServerError):
    advice = "the stream or its consumer group is gone: it is created again"


_BY_CODE: dict[str, type[ServerError]] = {
    "OOM": OutOfMemory,
    "MISCONF": DiskTrouble,
    "READONLY": ReadOnlyServer,
    "LOADING": ServerLoading,
    "BUSY": ServerBusy,
    "TRYAGAIN": TransientServerError,
    "CLUSTERDOWN": TransientServerError,
    "MASTERDOWN": TransientServerError,
    "NOAUTH": AuthRefused,
    "WRONGPASS": AuthRefused,
    "NOPERM": AuthRefused,
    "WRONGTYPE": WrongType,
    "NOGROUP": NoGroup,
}


def server_error(text: str) -> ServerError:
    """The typed error of one error reply, such as `OOM command not allowed when used memory > 'maxmemory'.`"""
    code = text.partition(" ")[0]
    if code == "EXECABORT":
        return TransientServerError(text)
    return _BY_CODE.get(code, ServerError)(text)
