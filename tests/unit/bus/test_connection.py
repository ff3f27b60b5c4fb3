"""Addresses, and the protocol against servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from bus.connection import Address, Connection
from bus.errors import (
    AuthRefused,
    BusError,
    BusUnavailable,
    CommandTimeout,
    DiskTrouble,
    NoGroup,
    OutOfMemory,
    ReadOnlyServer,
    ServerError,
    ServerLoading,
    TransientServerError,
    WrongType,
    server_error,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", Address()),
        ("redis://h:1/2", Address("h", 1, database=2)),
        ("redis://:p%40ss@h", Address("h", password="p@ss")),
        ("rediss://u:p@h:1", Address("h", 1, tls=True, username="u", password="p")),
        ("unix://:p@/run/bus.sock?db=3", Address(path="/run/bus.sock", password="p", database=3)),
    ],
)
def test_an_address_is_read_from_its_url(url: str, expected: Address) -> None:
    assert Address.parse(url) == expected


@pytest.mark.parametrize("url", ["", "http://h", "redis://h:port", "redis://h/one", "redis://h:99999999"])
def test_a_wrong_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(BusError, match="write redis://"):
        Address.parse(url)
    assert "secret" not in repr(Address.parse("redis://user:secret@h"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("OOM command not allowed", OutOfMemory),
        ("MISCONF Errors writing", DiskTrouble),
        ("READONLY You can't write", ReadOnlyServer),
        ("LOADING Valkey is loading", ServerLoading),
        ("EXECABORT Transaction discarded", TransientServerError),
        ("NOAUTH Authentication required.", AuthRefused),
        ("NOPERM no permissions", AuthRefused),
        ("WRONGTYPE Operation against", WrongType),
        ("NOGROUP No such key", NoGroup),
        ("ERR unknown command", ServerError),
    ],
)
def test_an_error_reply_becomes_the_error_that_says_what_to_do(text: str, kind: type[ServerError]) -> None:
    error = server_error(text)
    assert type(error) is kind
    assert error.code == text.split(maxsplit=1)[0]
    assert error.advice in str(error)


@asynccontextmanager
async def server(*answers: bytes, greet: bytes = b"+OK\r\n+PONG\r\n") -> AsyncIterator[str]:
    """A server that greets, then answers each further read with the next of `answers`; b"" closes the connection."""

    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError):  # the client ends connections without a goodbye
            await reader.read(65536)
            writer.write(greet)
            for answer in answers:
                await reader.read(65536)
                if not answer:
                    break
                for index in range(len(answer)):  # byte by byte: replies may be cut anywhere
                    writer.write(answer[index : index + 1])
                    await writer.drain()
            else:
                await reader.read()
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    finally:
        running.close()
        for writer in writers:
            writer.close()


async def test_replies_are_put_together_from_any_pieces() -> None:
    async with server(b"*2\r\n$3\r\na\r\n\r\n:5\r\n", b"-OOM no\r\n") as url:
        connection = await Connection.open(url)
        assert await connection.command("A") == [b"a\r\n", 5]
        with pytest.raises(OutOfMemory):
            await connection.command("B")
        connection.close()


async def test_a_late_reply_ends_the_connection() -> None:
    async with server() as url:
        connection = await Connection.open(url)
        first, second = connection.command("A", timeout_s=0.05), connection.command("B", timeout_s=60)
        with pytest.raises(CommandTimeout):
            await first
        with pytest.raises(BusUnavailable):
            await second
        assert isinstance(await connection.closed, CommandTimeout)


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n", b"", b"+A\r\n+nobody asked\r\n"])
async def test_a_server_of_another_kind_ends_the_connection(nonsense: bytes) -> None:
    async with server(nonsense) as url:
        connection = await Connection.open(url)
        answer = connection.command("A")
        await asyncio.wait_for(asyncio.shield(connection.closed), 5)
        await asyncio.wait({answer})
        assert answer.exception() is None or isinstance(answer.exception(), BusUnavailable)


async def test_a_server_that_is_loading_is_not_connected_to() -> None:
    async with server(greet=b"+OK\r\n-LOADING dataset in memory\r\n") as url:
        with pytest.raises(ServerLoading):
            await Connection.open(url)


async def test_a_silent_server_is_given_up() -> None:
    async with server(greet=b"") as url:
        with pytest.raises(BusUnavailable):
            await Connection.open(url, timeout_s=0.1)
