"""Carries connections from unix sockets to addresses on the micro-hosts' network: ``python -m … SOCKET=HOST:PORT …``.

Runs on a micro-host, so that what it carries meets the same partitions as that host's own traffic. A connection that cannot be
made is closed; silence stays silence. Ends when its standard input does, that is with whoever started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

CHUNK = 1 << 16


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
    except OSError:
        sink.transport.abort()  # a reset on one side is a reset on the other


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection(host, port)
    except OSError:
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
    finally:
        writer.close()
        far_writer.close()


async def serve(routes: list[str]) -> None:
    """Listen on every ``SOCKET=HOST:PORT`` until standard input ends."""
    servers = []
    for route in routes:
        path, _, target = route.rpartition("=")
        host, _, port = target.rpartition(":")
        Path(path).parent.mkdir(parents=True, exist_ok=True)

        async def accept(r: asyncio.StreamReader, w: asyncio.StreamWriter, host: str = host, port: int = int(port)) -> None:
            await _carry(r, w, host, port)

        servers.append(await asyncio.start_unix_server(accept, path))
    await asyncio.get_running_loop().run_in_executor(None, os.read, 0, 1)
    for server in servers:
        server.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1:]))
