"""The operations that the truth bench runs against :mod:`bench.outage_server`: connect, send a line, read a line. Raw and small."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import cast

from chaos.measure.workload import Call


class LineConnection:
    """A TCP connection; ``close`` ends it at once."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.busy = False

    def fileno(self) -> int:
        """For the workload's process to see a hang-up."""
        return self.socket.fileno()

    def close(self) -> None:
        """Shut down; what is under way then ends by itself and closes (its descriptor must not be reused while it is waited for)."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        if not self.busy:
            self.socket.close()


async def connect(call: Call) -> LineConnection:
    """Connect to ``params["port"]`` of the loopback address."""
    connection = socket.socket()
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", cast("int", call.params["port"])))
    except BaseException:
        connection.close()
        raise
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return LineConnection(connection)


async def ask(call: Call) -> None:
    """One line there, one back."""
    connection = cast("LineConnection", call.connection)
    loop = asyncio.get_running_loop()
    call.is_write = connection.busy = True
    try:
        await loop.sock_sendall(connection.socket, b"%d\n" % call.id)
        answer = await loop.sock_recv(connection.socket, 64)
    finally:
        connection.busy = False
    if answer != b"ok\n":
        raise ConnectionError(f"the server answered {answer!r}")
