"""What the micro-hosts of the tests run, and how a test watches a connection between them. No fixtures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from chaos.core.clock import wait_for
from chaos.environments.base import Process
from chaos.environments.microhost.client import MicroHost, Sandbox
from chaos.environments.microhost.protocol import ServiceSpec

MakeSandbox = Callable[[str], Sandbox]
# Answers every line on every connection with the same line.
ECHO = """
import socketserver, sys
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("0.0.0.0", int(sys.argv[1])), Echo).serve_forever()
"""
# Connects, says so on the disk, and tells how the connection ends within the given seconds: closed, reset, or not at all.
WATCH = """
import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
c.sendall(b"hello\\n"); assert c.recv(64) == b"hello\\n"
print("connected", flush=True)
c.settimeout(float(sys.argv[3]))
try: print("closed" if c.recv(1) == b"" else "data")
except TimeoutError: print("silence")
except OSError as err: print("reset" if err.errno == 104 else err)
"""
KNOCK = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()"


def python(code: str, *arguments: str) -> tuple[str, ...]:
    """The command line of a program in this Python, without site packages."""
    return (sys.executable, "-I", "-S", "-c", code, *arguments)


def listener(port: int) -> ServiceSpec:
    """A service that echoes lines on ``port``."""
    return ServiceSpec("listener", python(ECHO, str(port)))


def wait_listening(host: MicroHost, port: int = 8080) -> None:
    """Until the host's own listener takes a connection on the host's own loopback."""
    wait_for(lambda: knocks(host, "127.0.0.1", port), timeout_s=10, what=f"{host.name} to listen on {port}")


def knocks(host: MicroHost, address: str, port: int = 8080, within_s: float = 0.3) -> bool:
    """Does ``host`` get a TCP connection to ``address``?"""
    return host.run(python(KNOCK, address, str(port), str(within_s))).code == 0


def watch(host: MicroHost, target: MicroHost, do: Callable[[], object], *, for_s: float, port: int = 8080) -> str:
    """How a connection of ``host`` to ``target`` ends within ``for_s`` while ``do`` is called."""
    log = host.disk / "watch.log"
    with open(log, "wb") as out, open("/dev/null", "rb") as null:
        program = host.spawn(python(WATCH, target.address, str(port), str(for_s)), stdio=(null.fileno(), out.fileno(), out.fileno()))
    wait_for(lambda: "connected" in log.read_text(), timeout_s=10, what="a connection to stand", last="no connection")
    do()
    program.wait(for_s + 10)
    return log.read_text().split()[-1]


def called(processes: Sequence[Process], word: str) -> list[Process]:
    """Those with ``word`` in their command line."""
    return [process for process in processes if any(word in part for part in process.cmdline)]
