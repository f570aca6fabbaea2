"""A loopback server that is up and down on a plan, and logs the truth. A process of its own: see :func:`server_argv`.

Line protocol over TCP: a line in, ``ok`` out. One thread, so that nothing is answered between the two ends of a transition. Down by
``refuse``: the listening socket is closed and every connection reset. Down by ``hang``: connections are accepted and kept, and what is
asked while it is down is never answered, not even afterwards.

The plan is ``{"mode", "outages": [[gap_s, length_s], …], "log"}``; a gap counts from the end of the outage before, the first from the
start. It prints its port, and logs ``{"down_ns", "up_ns"}`` after each outage: nothing is answered between the two. It ends when its
standard input does.
"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import sys
from pathlib import Path

import msgspec

from chaos.core.clock import NS, now_ns

_LINGER_RESET = struct.pack("ii", 1, 0)
_HOST = "127.0.0.1"


class OutagePlan(msgspec.Struct, frozen=True):
    """``mode`` is ``refuse`` or ``hang``; ``outages`` are (gap before, length) in seconds; ``log`` is the file of the truth."""

    mode: str
    outages: tuple[tuple[float, float], ...]
    log: str


class Truth(msgspec.Struct, frozen=True):
    """One outage as the server had it (monotonic ns)."""

    down_ns: int
    up_ns: int


class OutageServer:
    """The server, from its plan to the end of its standard input."""

    def __init__(self, plan: OutagePlan) -> None:
        self._plan = plan
        self._down = False
        self._poll = select.epoll()
        self._clients: dict[int, socket.socket] = {}
        self.port, self._listener = self._first_listen()

    def _first_listen(self) -> tuple[int, socket.socket]:
        """A port below the range that clients are given: a client that connects to a closed port of that range may be given the very
        port that it asks for, and then talks to itself."""
        ceiling = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        for port in random.Random(os.getpid()).sample(range(ceiling // 2, ceiling), 200):
            try:
                return port, self._listen(port)
            except OSError as err:
                last = err
        raise last

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((_HOST, port))
            listener.listen(512)
        except OSError:
            listener.close()
            raise
        listener.setblocking(False)
        self._poll.register(listener.fileno(), select.EPOLLIN)
        return listener

    def run(self) -> None:
        """Serve; go down and up as planned; return when standard input ends."""
        self._poll.register(0, select.EPOLLIN)
        log = os.open(self._plan.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        at_ns = now_ns()
        for gap_s, length_s in self._plan.outages:
            if not self._serve(until_ns=at_ns + int(gap_s * NS)):
                return
            down_ns = self._go_down()
            alive = self._serve(until_ns=down_ns + int(length_s * NS))
            at_ns = self._go_up()
            os.write(log, msgspec.json.encode(Truth(down_ns, at_ns)) + b"\n")
            if not alive:
                return
        self._serve(until_ns=None)

    def _go_down(self) -> int:
        down_ns = now_ns()
        self._down = True
        if self._plan.mode == "refuse":
            self._poll.unregister(self._listener.fileno())
            self._listener.close()
            for client in list(self._clients.values()):
                self._drop(client)
        return down_ns

    def _go_up(self) -> int:
        if self._plan.mode == "refuse":
            self._listener = self._listen(self.port)
        else:
            self._turn(0)  # what was asked while down is read and forgotten before the instant that counts as up
        self._down = False
        return now_ns()

    def _serve(self, until_ns: int | None) -> bool:
        while until_ns is None or now_ns() < until_ns:
            wait_s = None if until_ns is None else max(0.0, (until_ns - now_ns()) / NS)
            if not self._turn(wait_s):
                return False
        return True

    def _turn(self, wait_s: float | None) -> bool:
        """One round of events; False where standard input ended."""
        for fd, _ in self._poll.poll(wait_s, 1024):
            if fd == 0:
                if not os.read(0, 4096):
                    return False
            elif fd in self._clients:
                self._answer(self._clients[fd])
            else:
                self._accept()
        return True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients[client.fileno()] = client
            self._poll.register(client.fileno(), select.EPOLLIN)

    def _answer(self, client: socket.socket) -> None:
        try:
            asked = client.recv(65536)
            if asked and not self._down:
                client.send(b"ok\n" * asked.count(b"\n"))
        except BlockingIOError:
            return  # an event of a connection that had this number before
        except OSError:
            asked = b""
        if not asked:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client.fileno()]
        self._poll.unregister(client.fileno())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        client.close()


def server_argv(plan: Path) -> list[str]:
    """The command that runs the server described by the plan file ``plan``, from this checkout's root."""
    return [sys.executable, "-c", "import sys; from bench.outage_server import main; sys.exit(main(sys.argv[1:]))", str(plan)]


def main(argv: list[str]) -> int:
    """Run the server described by the plan file ``argv[0]``."""
    server = OutageServer(msgspec.json.decode(Path(argv[0]).read_bytes(), type=OutagePlan))
    os.write(1, f"{server.port}\n".encode())
    server.run()
    return 0
