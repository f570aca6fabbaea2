"""What the workload of the box does, in its own process: one line out, one line back. Copied into the project under test."""

from __future__ import annotations

import asyncio

from chaos import Call, Refused


class Connection:
    """A connection that can be aborted at once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def close(self) -> None:
        self.writer.transport.abort()


async def connect(call: Call) -> Connection:
    port = call.params["port"]
    assert isinstance(port, int)
    return Connection(*await asyncio.open_connection("127.0.0.1", port))


async def write(call: Call) -> None:
    connection = call.connection
    assert isinstance(connection, Connection)
    call.is_write = True
    connection.writer.write(f"{call.id}\n".encode())
    answer = await connection.reader.readline()
    if answer != b"ok\n":
        raise Refused(f"answered {answer!r}")


async def read(call: Call) -> None:
    connection = call.connection
    assert isinstance(connection, Connection)
    connection.writer.write(b"read\n")
    if await connection.reader.readline() != b"ok\n":
        raise Refused("no answer")
