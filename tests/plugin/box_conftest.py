"""The conftest of a project under test: a real system of one process, a line server that keeps what it acknowledges.

Copied into the project as ``conftest.py``; not collected here. ``@pytest.mark.box(lossy=True)`` acknowledges what it does not keep,
``stuck=True`` cannot be thawed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from chaos import Drill, Environment, EnvironmentFailed, Json, Node, NodeRef, NotHealthy, SurvivorRead, WorkloadSpec, now_ns, wait_for
from chaos.environments.host_client import HostClient
from chaos.plugin.hookspecs import SystemSupport

SERVER = """
import ctypes, os, socketserver, sys, time
ctypes.CDLL(None).prctl(1, 9)  # it ends with whoever started it, by SIGKILL, frozen or not
ledger, lossy = open(sys.argv[1], "a", buffering=1), sys.argv[2] == "lossy"
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            if os.path.exists(sys.argv[1] + ".delay"):
                time.sleep(float(open(sys.argv[1] + ".delay").read() or 0))
            if line == b"read\\n":
                self.wfile.write(b"ok\\n")
                continue
            if not (lossy and int(line) % 7 == 0):
                ledger.write(line.decode())
            self.wfile.write(b"ok\\n")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 128
with Server(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""
OPERATIONS = Path(__file__).with_name("box_operations.py")


class BoxNode:
    """The server's process seen as a machine that can be frozen."""

    name, address = "box", "127.0.0.1"

    def __init__(self, ref: NodeRef, pid: int, stuck: bool) -> None:
        self.ref, self._pid, self._stuck = ref, pid, stuck

    def state(self) -> dict[str, Json]:
        return {"frozen": self.frozen()}

    def freeze(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._stuck:
            raise EnvironmentFailed("the box does not thaw", where=str(self.ref))
        os.kill(self._pid, signal.SIGCONT)

    def frozen(self) -> bool:
        return Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class Box:
    """The system: one node, one ledger file."""

    detect_s, check_interval_s, name = 0.0, 0.0, "box"

    def __init__(self, environment: Environment, folder: Path, *, lossy: bool, stuck: bool) -> None:
        self.environment, self._ledger = environment, folder / "ledger"
        argv = [sys.executable, "-c", SERVER, str(self._ledger), "lossy" if lossy else "safe"]
        self._server = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        self.port = int(self._server.stdout.readline())
        self.node = BoxNode(NodeRef(environment.name, "box", "box"), self._server.pid, stuck)
        self._clients: list[HostClient] = []

    @property
    def nodes(self) -> Mapping[str, Node]:
        return {"box": self.node}

    def resolve(self, ref: NodeRef) -> Node:
        return self.node

    def describe(self) -> dict[str, Json]:
        return {"kind": "box"}

    def caveats(self) -> Sequence[str]:
        return ()

    def prove_healthy(self, timeout_s: float) -> str:
        return wait_for(self._answers, timeout_s=timeout_s, what="the box to answer")

    def prove_whole(self, timeout_s: float) -> str:
        return self.prove_healthy(min(timeout_s, 1.0))

    def _answers(self) -> str:
        with socket.create_connection(("127.0.0.1", self.port), timeout=0.5):
            if self.node.frozen():
                raise NotHealthy("the box is frozen")
            return f"port {self.port} answers"

    def begin_drill(self, drill_id: str) -> None:
        self._ledger.write_text("")

    def read_survivors(self, label: str) -> SurvivorRead:
        began_ns = now_ns()
        ids = tuple(int(line) for line in self._ledger.read_text().splitlines())
        return SurvivorRead(label, began_ns, now_ns(), ids, source=str(self._ledger))

    def spawn_client(self, argv: Sequence[str], *, log: Path) -> HostClient:
        self._clients.append(HostClient(argv, log))
        return self._clients[-1]

    def delay(self, seconds: float) -> None:
        """Every answer takes so much longer from now on."""
        staged = self._ledger.with_suffix(".staged")
        staged.write_text(str(seconds))
        staged.rename(f"{self._ledger}.delay")

    def reads(self, rate_hz: float = 100.0, rto: str | None = None) -> WorkloadSpec:
        return WorkloadSpec(
            name="reads",
            operation=f"{OPERATIONS}::read",
            connect=f"{OPERATIONS}::connect",
            params={"port": self.port},
            rate_hz=rate_hz,
            timeout_s=0.5,
            rto=rto,
        )

    def writes(self, rate_hz: float = 5.0, timeout_s: float = 0.5) -> WorkloadSpec:
        """Slow and patient: verdicts are tested with these, not what a busy machine does to a fine clock."""
        return WorkloadSpec(
            name="writes",
            operation=f"{OPERATIONS}::write",
            connect=f"{OPERATIONS}::connect",
            params={"port": self.port},
            rate_hz=rate_hz,
            timeout_s=timeout_s,
            ledger=True,
        )

    def close(self) -> None:
        for client in self._clients:
            if client.poll() is None:
                client.kill()
            client.wait(5)
        self._server.kill()
        self._server.wait()
        if self._server.stdout is not None:
            self._server.stdout.close()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "box(lossy, stuck): parameters of the system")


def pytest_gameday_systems() -> list[SystemSupport]:
    return [SystemSupport("box", ("here",))]


@pytest.fixture
def box(request: pytest.FixtureRequest, drill: Drill, environment: Environment, tmp_path: Path) -> Iterator[Box]:
    """A system of this test alone."""
    mark = request.node.get_closest_marker("box")
    parameters = {"lossy": False, "stuck": False} | (dict(mark.kwargs) if mark else {})
    system = Box(environment, tmp_path, **parameters)
    drill.use(system)
    yield system
    system.close()
