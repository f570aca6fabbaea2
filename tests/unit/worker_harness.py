"""What the tests of the workload process share: a tiny TCP server with moods, a way to run a worker, and its history."""

from __future__ import annotations

import selectors
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec

from chaos.core.clock import wait_for
from chaos.measure.history import Event, Operation
from chaos.measure.worker import WorkerSpec, worker_argv, write_spec
from chaos.measure.workload import WorkloadSpec

OPERATIONS = Path(__file__).with_name("worker_operations.py")
_LINE = msgspec.json.Decoder(Operation | Event)


class TinyServer:
    """Serves in a thread. ``mood``: ``answer`` (``ok`` to each line), ``hang``, ``garbage``, ``once`` (answer, then hang up), ``reset``."""

    def __init__(self, mood: str) -> None:
        self.mood = mood
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self.asked = self.hung_up = 0
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for sock in (self._listener, self._woken):
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> TinyServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self._wake.send(b"x")
        self._thread.join(10)
        for key in list(self._selector.get_map().values()):
            socket_of(key).close()
        self._selector.close()
        self._wake.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listener:
                    client, _ = self._listener.accept()
                    self._selector.register(client, selectors.EVENT_READ)
                else:
                    self._answer(socket_of(key))

    def _answer(self, client: socket.socket) -> None:
        try:
            asked = client.recv(65536)
            self.asked += bool(asked)
            if asked and self.mood in ("answer", "once"):
                client.sendall(b"ok\n")
            if asked and self.mood == "garbage":
                client.sendall(b"\x00\xff garbage")
        except OSError:
            asked = b""
        if not asked:
            self.hung_up += 1
        if not asked or self.mood in ("once", "reset"):
            self._selector.unregister(client)
            client.close()


def socket_of(key: selectors.SelectorKey) -> socket.socket:
    """The socket that was registered."""
    assert isinstance(key.fileobj, socket.socket)
    return key.fileobj


def closed_port() -> int:
    """A port of the loopback address on which nobody listens; below the range that clients are given, so that none meets itself."""
    ceiling = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(ceiling - 1, 1024, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("every port is taken")


class Run:
    """One worker process and its history. Ends with the block, killed where need be."""

    def __init__(self, directory: Path, workload: WorkloadSpec, *, index: int = 0, **spec: object) -> None:
        self.history = directory / "history.jsonl"
        self.spec = WorkerSpec(workload=workload, index=index, history=str(self.history), **spec)  # type: ignore[arg-type]
        self.path = write_spec(directory / "spec.json", self.spec)
        self._said = directory / "stderr.txt"
        with open(self._said, "wb") as said:
            self.process = subprocess.Popen(worker_argv(self.path), stdin=subprocess.PIPE, stderr=said)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        """SIGTERM and the exit code."""
        self.process.terminate()
        return self.process.wait(20)

    def stderr(self) -> str:
        """What it has said so far."""
        return self._said.read_text("utf-8")

    def operations(self) -> list[Operation]:
        """Those in whole lines of the history so far."""
        return [line for line in lines_of(self.history) if isinstance(line, Operation)]

    def wait(self, what: str, enough: Callable[[list[Operation]], object]) -> list[Operation]:
        """Wait until the history's operations are ``enough``; returns them."""

        def look() -> list[Operation] | None:
            assert self.process.poll() is None, self.stderr()
            operations = self.operations()
            return operations if enough(operations) else None

        return wait_for(look, timeout_s=30, what=what, last="too few operations")


def lines_of(history: Path) -> list[Operation | Event]:
    """The whole lines of a history, decoded; none where there is no file yet."""
    data = history.read_bytes() if history.exists() else b""
    return _LINE.decode_lines(data[: data.rfind(b"\n") + 1])


def spec(operation: str = "ask", connect: str = "connect", *, port: int = 0, **settings: object) -> WorkloadSpec:
    """A workload of :mod:`worker_operations`."""
    values: dict[str, object] = {"name": "w", "rate_hz": 100.0, "timeout_s": 0.3, "connections": 64} | settings
    return WorkloadSpec(
        operation=f"{OPERATIONS}::{operation}",
        connect=f"{OPERATIONS}::{connect}" if connect else "",
        params={"port": port},
        **values,  # type: ignore[arg-type]
    )
