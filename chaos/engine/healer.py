"""The healer: a process of its own that heals when the runner vanishes, however it does: SIGKILL, out of memory, a closed terminal.

It is started before the first fault, in a session of its own, and knows of its runner by one socket: a heartbeat keeps its lease, a
hang-up or an expired lease means that nobody else will heal. Then it undoes what the journal holds open, newest first, again and again
until nothing is left or its patience ends, and writes down what it did. It extends the dead-man's switches as long as the runner lives.
With an orderly goodbye and nothing open it just ends. One runner, one healer, one journal file: two of them never mix.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from chaos.core.clock import NS, now_ns, wait_for
from chaos.core.errors import EnvironmentFailed, GamedayError
from chaos.core.model import FaultState
from chaos.engine.journal import Journal, OpenFault, Origin, open_records
from chaos.engine.residue import Healing, heal_open, reopened
from chaos.environments.base import Environment

BEAT_S = 1.0
READY_WITHIN_S = 20.0
LEASE_S = 30.0
PATIENCE_S = 900.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 10.0
BEAT, GOODBYE, READY, ACTED = b"b", b"g", b"r", b"a"


class Orders(msgspec.Struct, frozen=True):
    """What a healer is told at its start, as JSON on its command line. Seconds; ``socket`` is its end's descriptor."""

    journal: str
    origin: Origin
    socket: int
    deadline_s: float
    lease_s: float = LEASE_S
    patience_s: float = PATIENCE_S


class HealerHandle:
    """The runner's side. ``start`` returns at once; ``ready`` waits, so that starting it costs no time of the drill."""

    def __init__(self, journal: Path, origin: Origin, *, deadline_s: float, lease_s: float = LEASE_S) -> None:
        self._log_path = journal.with_suffix(".healer.log")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket = ours
        orders = Orders(str(journal), origin, theirs.fileno(), deadline_s, lease_s)
        journal.parent.mkdir(parents=True, exist_ok=True)
        with theirs, self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "chaos.engine.healer", msgspec.json.encode(orders).decode()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._is_ready = self._acted = False
        self._stopping = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="gameday-lease", daemon=True)
        self._beating.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self) -> None:
        """Wait until it could heal.

        Raises:
            EnvironmentFailed: it did not start, with its own words: then nothing may be injected.
        """
        try:
            wait_for(lambda: self._listen() and self._is_ready, timeout_s=READY_WITHIN_S, what="the healer", interval_s=0.005)
        except GamedayError as err:
            said = self._log_path.read_text(errors="replace")[-500:] if self._log_path.exists() else ""
            raise EnvironmentFailed("the healer did not start", where=str(self._log_path), observed=said or str(err)) from err

    def trouble(self) -> str:
        """Why this drill must end: the healer is gone, or has healed because it thought that we were. "" while all is well."""
        alive = self._listen()
        if self._acted:
            return "the healer has put everything back, because it had not heard from this process for too long"
        return "" if alive else f"the healer (process {self.pid}) is gone"

    def _listen(self) -> bool:
        """Take in what it said; False where it has ended."""
        while select.select([self._socket], [], [], 0)[0]:
            said = self._socket.recv(64)
            if not said:
                return False
            self._is_ready |= READY in said
            self._acted |= ACTED in said
        return self._process.poll() is None

    def _beat(self) -> None:
        while not self._stopping.wait(BEAT_S):
            try:
                self._socket.send(BEAT)
            except OSError:
                return  # it has ended; whoever asks for trouble() hears of it

    def close(self, timeout_s: float = 10.0) -> None:
        """Say goodbye: it ends by itself, at once where nothing is open; where something is, it stays and goes on healing."""
        self._stopping.set()
        self._beating.join()
        with self._socket:
            if self._process.poll() is None:
                self._socket.sendall(GOODBYE)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            # It is busy with what could not be healed. Python would warn of a child that was left: here that is what is wanted.
            self._process.returncode = 0
        if self._log_path.exists() and self._log_path.stat().st_size == 0:
            self._log_path.unlink()  # it had nothing to say


class Healer:
    """The process' own side."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._socket = socket.socket(fileno=orders.socket)
        self._path = Path(orders.journal)
        self._environment: Environment | None = None
        self._read_size = -1
        self._open: list[OpenFault] = []
        self._asked_to_end = self._hung_up = False

    def ask_to_end(self, *_: object) -> None:
        """SIGTERM: whoever sends it wants this machine quiet, and that is what it gets once everything is put back."""
        self._asked_to_end = True

    def run(self) -> int:
        """0: nothing is left; 11: something is."""
        self._environment = reopened(self._orders.origin)
        self._say(READY)
        orderly = self._watch()
        if (orderly or self._asked_to_end) and not self._look():
            return 0
        if not self._hung_up:
            self._say(ACTED)
        return self._heal()

    def _watch(self) -> bool:
        """Until the runner says goodbye (True), vanishes or falls silent (False)."""
        heard_ns = extended_ns = now_ns()
        while True:
            if select.select([self._socket], [], [], BEAT_S / 2)[0]:
                said = self._receive()
                if GOODBYE in said:
                    return True
                if not said:
                    log("the runner is gone")
                    self._hung_up = True
                    return False
                heard_ns = now_ns()
            if self._asked_to_end:
                log("asked to end")
                return False
            if now_ns() - heard_ns > self._orders.lease_s * NS:
                log(f"nothing was heard of the runner for {self._orders.lease_s:g} s")
                return False
            if now_ns() - extended_ns >= min(BEAT_S, self._orders.deadline_s / 4) * NS:
                extended_ns = now_ns()
                self._extend()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(4096)
        except ConnectionResetError:
            return b""

    def _look(self) -> list[OpenFault]:
        """What is open now, of this runner; the file is read again only when it has grown."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size != self._read_size:
            journal = Journal(self._path, by="healer")
            try:
                self._open = [fault for fault in open_records(journal.records()) if self._mine(fault)]
            finally:
                journal.close()
            self._read_size = size
        return self._open

    def _mine(self, fault: OpenFault) -> bool:
        return fault.origin is not None and fault.origin.owner == self._orders.origin.owner

    def _extend(self) -> None:
        """The heartbeat of the nodes. A fault whose healing failed is not kept up any longer: let the switch do it. Nothing that goes wrong
        here may end this process: what cannot be reached now may be there again in a second."""
        try:
            armed = [f for f in self._look() if FaultState.ARMED in f.states and FaultState.HEAL_FAILED not in f.states]
            dead_man = self._environment.dead_man() if armed and self._environment is not None else None
        except (GamedayError, OSError) as err:
            log(f"no deadline was extended: {err}")
            return
        if dead_man is None:
            return
        for fault in armed:
            try:
                dead_man.extend(fault.undo.fault_id, self._orders.deadline_s)
            except (GamedayError, OSError) as err:
                log(f"the deadline of {fault.undo.fault_id} was not extended: {err}")

    def _heal(self) -> int:
        """Again and again, with longer and longer pauses; nobody else is going to."""
        begun, pause_s = now_ns(), FIRST_PAUSE_S
        self._read_size = -1
        while self._look():
            log(f"healing {', '.join(fault.undo.fault_id for fault in self._open)}")
            for healing in heal_open(self._path, only=self._mine, by="healer"):
                log(describe(healing))
            self._read_size = -1
            if not self._look():
                break
            if now_ns() - begun > self._orders.patience_s * NS:
                log("giving up; gameday status shows what is left")
                return 11
            threading.Event().wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        self._reclaim()
        return 0

    def _reclaim(self) -> None:
        """What the dead runner's disposable systems left; its faults are gone with them. Beside standing nodes: the helpers through which
        it reached them."""
        environment = self._environment
        if environment is None:
            return
        try:
            for what in environment.reclaim():
                log(f"removed {what}")
            if environment.dead_man() is not None:  # whose switch we hold, its helpers we know
                environment.close()
        except GamedayError as err:
            log(f"not everything beside the nodes could be removed: {err}")

    def _say(self, what: bytes) -> None:
        try:
            self._socket.send(what, socket.MSG_NOSIGNAL)
        except OSError as err:
            log(f"the runner does not listen: {err}")


def describe(healing: Healing) -> str:
    """One line for the log."""
    return f"{healing.fault.undo.fault_id}: {'healed: ' if healing.done else 'NOT healed: '}{healing.text}"


def log(text: str) -> None:
    """To the log file beside the journal."""
    from chaos.core.clock import utc_label, utc_now

    print(f"{utc_label(utc_now())} {text}", flush=True)


def main(argv: list[str]) -> int:
    """``python -m chaos.engine.healer ORDERS``. Signals of the terminal are the runner's business; after SIGTERM it heals, then ends."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    healer = Healer(msgspec.json.decode(argv[0], type=Orders))
    signal.signal(signal.SIGTERM, healer.ask_to_end)
    return healer.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
