"""The lease of a standing environment: at most one run drills there at a time. Taken before anything is touched, renewed while the drill
runs, given back at its end.

Expiry is told by the monotonic clock wherever holder and reader share a boot of one machine, so a wall clock that jumps changes nothing.
Across machines the wall clock only raises a suspicion: a lease that looks expired is taken over after it was watched, by our own
monotonic clock, for longer than its heartbeat, and nobody renewed it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from chaos.core.clock import NS, now_ns, utc_label, utc_now, wait_for
from chaos.core.durations import format_s
from chaos.core.errors import BadInput, DeadlineExceeded, GamedayError
from chaos.environments.owner import Owner
from chaos.environments.standing import LeaseStore

FILE = "lease.json"
TURN_WITHIN_S = 4 * 3600.0
POLL_S = 0.1
HEARTBEATS = 3


class Lease(msgspec.Struct, frozen=True):
    """What the store holds. ``token`` is unique to one taking; ``renewals`` counts heartbeats, so that a watcher sees one without any
    clock. ``expires_ns`` is on the holder's monotonic clock, ``expires_utc`` its wall clock's idea of the same moment."""

    token: str
    run: str
    by: str
    host: str
    owner: Owner
    drill: str
    ttl_s: float
    taken_utc: str
    expires_ns: int
    expires_utc: str
    renewals: int = 0

    def __str__(self) -> str:
        return f"{self.by} on {self.host} (run {self.run}, {self.owner})"


class LeaseHeld(BadInput):
    """Somebody else drills there. ``lease`` is theirs."""

    def __init__(self, lease: Lease, where: str, why: str) -> None:
        self.lease = lease
        super().__init__(
            f"the environment is leased to {lease} until {lease.expires_utc}{why}",
            where=where,
            next_step="wait until that run has ended; when its process is gone the lease expires by itself",
        )


class LeaseLost(GamedayError):
    """The lease is not ours any more: another run may be drilling. Whoever learns it stops."""


class FileLeaseStore:
    """The lease as a file on this machine; implements :class:`~chaos.environments.standing.LeaseStore`. Replaced whole, under a lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def where(self) -> str:
        return str(self._path)

    def read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def swap(self, old: bytes | None, new: bytes | None) -> bool:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock():
            if self.read() != old:
                return False
            if new is None:
                self._path.unlink(missing_ok=True)
                return True
            beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            with beside.open("wb") as file:
                file.write(new)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            return True

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        fd = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


class LeaseHolder:
    """Takes, renews and gives back one lease. Not thread-safe: the thread that renews is the only one while it does."""

    def __init__(
        self,
        store: LeaseStore,
        *,
        run: str,
        by: str,
        drill: str,
        ttl_s: float,
        wait_s: float = 0.0,
        wall: Callable[[], datetime] = utc_now,
        monotonic_ns: Callable[[], int] = now_ns,
    ) -> None:
        self._store, self._run, self._by, self._drill = store, run, by, drill
        self._ttl_s, self._wait_s = ttl_s, wait_s
        self._wall, self._monotonic_ns = wall, monotonic_ns
        self._held: tuple[Lease, bytes] | None = None

    @property
    def heartbeat_s(self) -> float:
        return self._ttl_s / HEARTBEATS

    def take(self) -> str:
        """Take it; returns whose expired lease was taken over, "" where there was none. Workers of one run wait for each other.

        Raises:
            LeaseHeld: somebody else's is alive, with their name and until when.
            GamedayError: the store cannot be read or written.
        """
        begun = now_ns()
        while True:
            try:
                return self._try()
            except LeaseHeld as held:
                allowed_s = TURN_WITHIN_S if held.lease.run == self._run else self._wait_s
                if now_ns() - begun >= allowed_s * NS:
                    raise
            time.sleep(POLL_S)

    def look(self) -> None:
        """Could it be taken now? Takes nothing. Raises LeaseHeld where not."""
        content = self._read()
        lease = self._decode(content)
        if lease is not None and content is not None and lease.run != self._run:
            self._abandoned(lease, content)

    def _try(self) -> str:
        content = self._read()
        lease = self._decode(content)
        over = ""
        if lease is not None and content is not None:
            over = self._abandoned(lease, content)
        mine = self._mine(0, os.urandom(8).hex(), utc_label(self._wall()))
        encoded = msgspec.json.encode(mine)
        if not self._swap(content, encoded):
            now = self._decode(self._read())
            if now is None:
                return self._try()
            raise LeaseHeld(now, self._store.where, "; it was quicker")
        self._held = (mine, encoded)
        return over

    def renew(self) -> None:
        """The heartbeat.

        Raises:
            LeaseLost: it was taken over or removed.
        """
        if self._held is None:
            raise LeaseLost("there is no lease to renew", where=self._store.where)
        lease, content = self._held
        mine = self._mine(lease.renewals + 1, lease.token, lease.taken_utc)
        encoded = msgspec.json.encode(mine)
        if not self._swap(content, encoded):
            self._held = None
            there = self._decode(self._read())
            raise LeaseLost(
                "the lease is not ours any more",
                where=self._store.where,
                observed=f"now it is that of {there}" if there else "it was removed",
                next_step="no two drills may overlap: see that run's report before drilling again",
            )
        self._held = (mine, encoded)

    def give_back(self) -> None:
        """Remove it where it is ours still; idempotent."""
        if self._held is not None:
            _, content = self._held
            self._held = None
            self._swap(content, None)

    # -- inside

    def _mine(self, renewals: int, token: str, taken_utc: str) -> Lease:
        ends = self._wall().timestamp() + self._ttl_s
        return Lease(
            token=token,
            run=self._run,
            by=self._by,
            host=platform.node(),
            owner=Owner.of(os.getpid()),
            drill=self._drill,
            ttl_s=self._ttl_s,
            taken_utc=taken_utc,
            expires_ns=self._monotonic_ns() + int(self._ttl_s * NS),
            expires_utc=utc_label(datetime.fromtimestamp(ends, UTC)),
            renewals=renewals,
        )

    def _abandoned(self, lease: Lease, content: bytes) -> str:
        """Why this lease may be taken over.

        Raises:
            LeaseHeld: it may not.
        """
        if lease.owner.dead():
            return f"{lease}: its process is gone"
        if self._same_boot(lease):
            left_s = (lease.expires_ns - self._monotonic_ns()) / NS
            if left_s > 0:
                raise LeaseHeld(lease, self._store.where, f" ({format_s(left_s)} from now)")
            return f"{lease}: it expired {format_s(-left_s)} ago"
        left_s = datetime.fromisoformat(lease.expires_utc).timestamp() - self._wall().timestamp()
        if left_s > lease.ttl_s + 1:
            raise LeaseHeld(lease, self._store.where, f", later than its {lease.ttl_s:g} s can be: the clocks of the two machines disagree")
        if left_s > 0:
            raise LeaseHeld(lease, self._store.where, "")
        self._watch(lease, content)
        return f"{lease}: it expired at {lease.expires_utc}, and no heartbeat came while it was watched"

    def _same_boot(self, lease: Lease) -> bool:
        mine = Owner.of(os.getpid())
        return lease.owner.boot == mine.boot and lease.owner.scope.rpartition("/")[0] == mine.scope.rpartition("/")[0]

    def _watch(self, lease: Lease, content: bytes) -> None:
        """For longer than a heartbeat, by our own clock: was it renewed?"""
        with contextlib.suppress(DeadlineExceeded):
            wait_for(
                lambda: self._read() != content,
                timeout_s=lease.ttl_s / HEARTBEATS + 1.0,
                what="a heartbeat of the lease",
                interval_s=POLL_S,
            )
            now = self._decode(self._read())
            if now is not None:
                raise LeaseHeld(now, self._store.where, "; it was renewed while we watched, so one of the two wall clocks is wrong")

    def _read(self) -> bytes | None:
        try:
            return self._store.read()
        except OSError as err:
            raise self._unreachable(err) from err

    def _swap(self, old: bytes | None, new: bytes | None) -> bool:
        try:
            return self._store.swap(old, new)
        except OSError as err:
            raise self._unreachable(err) from err

    def _unreachable(self, err: OSError) -> GamedayError:
        return GamedayError(
            "the lease cannot be read or written, so nobody knows who drills there",
            where=self._store.where,
            observed=err.strerror or str(err),
            next_step="make it reachable and writable",
        )

    def _decode(self, content: bytes | None) -> Lease | None:
        if content is None:
            return None
        try:
            return msgspec.json.decode(content, type=Lease)
        except (msgspec.DecodeError, ValueError) as err:
            raise BadInput(
                "the lease does not decode: a newer release may hold it",
                where=self._store.where,
                observed=str(err),
                next_step="look who drills there; remove it by hand only when nobody does",
            ) from err
