"""Runs one command in a container through the engine's API, with a deadline, standard input and both outputs apart.

Not a shell and not a pool: one call, one command. It needs no rights on the host beyond the engine's socket.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from chaos.core.clock import NS, now_ns, wait_for
from chaos.core.errors import DeadlineExceeded, EnvironmentFailed
from chaos.environments.base import Completed
from chaos.environments.docker.engine import calling

KEEP_BYTES = 1 << 20
_HEADER = struct.Struct(">BxxxL")
_KILLED = 128 + 9


def run_in(
    client: Any,
    container: str,
    argv: Sequence[str],
    *,
    user: str = "",
    stdin: bytes = b"",
    timeout_s: float = 30.0,
    where: str = "",
    bounded: bool = True,
    privileged: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Run ``argv`` to its end in ``container`` as ``user``.

    The command runs under coreutils' ``timeout``, so that the deadline kills it inside too; not so where ``bounded`` is False, for a
    container that may have no such program: whoever asks for that kills it.

    Raises:
        DeadlineExceeded: it did not end within ``timeout_s`` (killed).
        EnvironmentFailed: the engine refused (no such container, not running, frozen).
    """
    command = ["timeout", "-s", "KILL", f"{timeout_s:.3f}", *argv] if bounded else list(argv)
    deadline_ns = now_ns() + int((timeout_s + (2.0 if bounded else 0.0)) * NS)
    with calling(f"run {argv[0]}", where):
        made = client.api.exec_create(
            container, command, stdin=bool(stdin), user=user, privileged=privileged, environment=dict(environment or {})
        )
        stream = client.api.exec_start(made["Id"], socket=True)
    try:
        sock = getattr(stream, "_sock", stream)
        out, err = _converse(sock, _read_already(stream, sock), stdin, deadline_ns)
    except TimeoutError:
        raise DeadlineExceeded(f"{argv[0]} did not end within {timeout_s:g} s", where=where) from None
    except OSError as broken:
        raise EnvironmentFailed(f"the connection to {argv[0]} broke", where=where, observed=str(broken)) from broken
    finally:
        # Closing the response closes the connection beneath it; closing the stream first would make that fail.
        getattr(stream, "_response", stream).close()
    code = _exit_code(client, made["Id"], where)
    if bounded and code == _KILLED and now_ns() >= deadline_ns - 2 * NS:
        raise DeadlineExceeded(
            f"{argv[0]} did not end within {timeout_s:g} s and was killed", where=where, observed=_text(out + err)[-500:]
        )
    return Completed(code, _text(out), _text(err))


def _read_already(stream: Any, sock: socket.socket) -> bytes:
    """What the HTTP client took from the socket together with the answer's headers: a command that is faster than we are has said all
    that it has to say by then, and the socket alone would never show it."""
    response = getattr(stream, "_response", None)
    if response is None:
        return b""
    sock.setblocking(False)
    taken: bytes = response.raw._fp.fp.peek()
    return taken


def _converse(sock: socket.socket, taken: bytes, stdin: bytes, deadline_ns: int) -> tuple[bytes, bytes]:
    """Send ``stdin``, then read the engine's multiplexed stream to its end; ``taken`` is its beginning."""
    parts: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
    buffer = bytearray(taken)
    if stdin:
        sock.settimeout(max(0.001, (deadline_ns - now_ns()) / NS))
        sock.sendall(stdin)
        sock.shutdown(socket.SHUT_WR)
    while True:
        while len(buffer) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(buffer)
            if len(buffer) < _HEADER.size + size:
                break
            kept = parts[2 if kind == 2 else 1]
            kept += buffer[_HEADER.size : _HEADER.size + size]
            del kept[:-KEEP_BYTES], buffer[: _HEADER.size + size]
        sock.settimeout(max(0.001, (deadline_ns - now_ns()) / NS))
        chunk = sock.recv(65536)
        if not chunk:
            return bytes(parts[1]), bytes(parts[2])
        buffer += chunk


def _exit_code(client: Any, exec_id: str, where: str) -> int:
    """The engine may close the stream a moment before it knows the exit code."""

    def look() -> tuple[int] | None:
        with calling("tell a command's exit code", where):
            code = client.api.exec_inspect(exec_id)["ExitCode"]
        return None if code is None else (int(code),)

    return wait_for(look, timeout_s=5.0, what="the exit code of a command", interval_s=0.005)[0]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
