"""The lease: one drill at a time, whatever clocks and processes do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from chaos.core.clock import NS, now_ns, wait_for
from chaos.core.errors import BadInput, GamedayError
from chaos.engine.lease import FileLeaseStore, Lease, LeaseHeld, LeaseHolder, LeaseLost
from chaos.environments.owner import Owner

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Clock:
    """A wall and a monotonic clock that go as the test says."""

    def __init__(self) -> None:
        self.at, self.ns = NOON, 1_000 * NS

    def wall(self) -> datetime:
        return self.at

    def monotonic_ns(self) -> int:
        return self.ns


@pytest.fixture
def store(tmp_path: Path) -> FileLeaseStore:
    return FileLeaseStore(tmp_path / "state" / "lease.json")


def _holder(store: FileLeaseStore, run: str, clock: Clock | None = None, *, ttl_s: float = 60.0, wait_s: float = 0.0) -> LeaseHolder:
    clock = clock or Clock()
    return LeaseHolder(
        store, run=run, by=f"{run}'s", drill="t::a", ttl_s=ttl_s, wait_s=wait_s, wall=clock.wall, monotonic_ns=clock.monotonic_ns
    )


def _held(store: FileLeaseStore) -> Lease:
    content = store.read()
    assert content is not None
    return msgspec.json.decode(content, type=Lease)


def _put(store: FileLeaseStore, **changes: object) -> None:
    """The lease that stands there, changed: that of another machine, say."""
    assert store.swap(store.read(), msgspec.json.encode(msgspec.structs.replace(_held(store), **changes)))


ELSEWHERE = Owner(1, "1", "another-boot", "another-machine:there/pid:[1]")


def test_a_second_run_is_refused_with_owner_and_expiry(store: FileLeaseStore) -> None:
    """While one run holds the lease another is refused, and told who holds it and until when; afterwards it is free."""
    first, second = _holder(store, "r1"), _holder(store, "r2")
    assert first.take() == ""
    with pytest.raises(LeaseHeld, match=r"leased to r1's on .* \(run r1, process \d+ on .*until 2026-06-01T12:01:00.*next: wait"):
        second.take()
    first.give_back()
    first.give_back()
    assert second.take() == ""


def test_a_run_that_is_willing_to_wait_gets_its_turn(store: FileLeaseStore) -> None:
    """With ``wait`` a second run takes the lease as soon as the first one gives it back."""
    first, second = _holder(store, "r1"), _holder(store, "r2", wait_s=30.0)
    first.take()
    taking = threading.Thread(target=second.take)
    taking.start()
    first.give_back()
    taking.join(20)
    assert not taking.is_alive()
    assert _held(store).run == "r2"


def test_workers_of_one_run_take_turns(store: FileLeaseStore) -> None:
    """A second worker of the same run waits, without being told to, and never holds the lease beside the first."""
    first, second = _holder(store, "r1"), _holder(store, "r1")
    first.take()
    token = _held(store).token
    taking = threading.Thread(target=second.take)
    taking.start()
    first.renew()
    assert (taking.is_alive(), _held(store).token) == (True, token)
    first.give_back()
    taking.join(20)
    assert _held(store).token != token


def test_an_expired_lease_is_taken_over_and_says_whose(store: FileLeaseStore) -> None:
    """After its time without a heartbeat a lease may be taken over, and what comes back names its owner for the audit log."""
    clock = Clock()
    _holder(store, "r1", clock).take()
    clock.ns += 61 * NS
    over = _holder(store, "r2", clock).take()
    assert "run r1" in over and "it expired 1 s ago" in over


@pytest.mark.parametrize("jump", [timedelta(days=1), -timedelta(days=1), timedelta(days=4000)])
def test_a_wall_clock_that_jumps_changes_nothing_on_one_machine(store: FileLeaseStore, jump: timedelta) -> None:
    """On the holder's own machine a jump of the wall clock neither frees a lease that is alive nor keeps one that has expired."""
    clock = Clock()
    first = _holder(store, "r1", clock)
    first.take()
    clock.at += jump
    with pytest.raises(LeaseHeld):
        _holder(store, "r2", clock).take()
    first.renew()
    clock.ns += 61 * NS
    assert "run r1" in _holder(store, "r2", clock).take()


def test_across_machines_a_clock_that_is_ahead_takes_nothing_over(store: FileLeaseStore) -> None:
    """Where the reader's wall clock says "expired", a heartbeat that comes while it watches proves the lease alive."""
    first = _holder(store, "r1", ttl_s=3.0)
    first.take()
    _put(store, owner=ELSEWHERE)
    ahead = Clock()
    ahead.at = NOON + timedelta(hours=1)
    ended = threading.Event()
    renewed = 0

    def beat() -> None:
        nonlocal renewed
        while not ended.wait(0.3):
            renewed += 1
            _put(store, renewals=renewed)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(LeaseHeld, match="renewed while we watched"):
            _holder(store, "r2", ahead).take()
    finally:
        ended.set()
        beating.join()


def test_across_machines_a_silent_lease_is_taken_over_after_it_was_watched(store: FileLeaseStore) -> None:
    """An expired lease of another machine is taken over only after longer than a heartbeat without one."""
    _holder(store, "r1", ttl_s=3.0).take()
    _put(store, owner=ELSEWHERE)
    later = Clock()
    later.at = NOON + timedelta(minutes=1)
    begun = now_ns()
    assert "no heartbeat came while it was watched" in _holder(store, "r2", later).take()
    assert now_ns() - begun >= 2 * NS


def test_across_machines_a_clock_that_is_behind_is_told(store: FileLeaseStore) -> None:
    """A lease that seems to hold for longer than it can is refused with the reason: the clocks disagree."""
    _holder(store, "r1").take()
    _put(store, owner=ELSEWHERE)
    behind = Clock()
    behind.at = NOON - timedelta(hours=1)
    with pytest.raises(LeaseHeld, match="the clocks of the two machines disagree"):
        _holder(store, "r2", behind).take()


def test_a_dead_owner_s_lease_is_free_at_once(store: FileLeaseStore) -> None:
    """A holder that was killed on this machine does not keep others waiting for the expiry."""
    code = (
        "import sys; from pathlib import Path; from chaos.engine.lease import *\n"
        "LeaseHolder(FileLeaseStore(Path(sys.argv[1])), run='r1', by='ann', drill='', ttl_s=3000).take(); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, store.where]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        second = LeaseHolder(store, run="r2", by="bob", drill="", ttl_s=60)
        with pytest.raises(LeaseHeld, match="leased to ann on"):
            second.take()
        other.kill()
        other.wait(20)
        assert "its process is gone" in second.take()


def test_a_stolen_lease_is_noticed_by_the_next_heartbeat(store: FileLeaseStore) -> None:
    """Whoever renews a lease that is another's now, or gone, learns it, and gives nothing back that is not his."""
    clock = Clock()
    first = _holder(store, "r1", clock)
    first.take()
    first.renew()
    assert _held(store).renewals == 1
    clock.ns += 100 * NS
    second = _holder(store, "r2", clock)
    second.take()
    with pytest.raises(LeaseLost, match=r"now it is that of r2's"):
        first.renew()
    first.give_back()
    assert _held(store).run == "r2"
    Path(store.where).unlink()
    with pytest.raises(LeaseLost, match="it was removed"):
        second.renew()


def test_of_many_that_try_at_once_one_gets_it(store: FileLeaseStore) -> None:
    """Eight runs that take the lease at the same moment: one has it, seven are told."""
    start, outcomes = threading.Barrier(8), []

    def take(number: int) -> None:
        start.wait()
        try:
            _holder(store, f"r{number}").take()
            outcomes.append("held")
        except LeaseHeld:
            outcomes.append("refused")

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["held"] + ["refused"] * 7


def test_a_lease_that_nobody_can_read_is_no_lease(store: FileLeaseStore) -> None:
    """A record that does not decode, and a place that cannot be written, are errors that say what to do, and give nobody the lease."""
    Path(store.where).parent.mkdir(parents=True)
    Path(store.where).write_bytes(b"{}")
    with pytest.raises(BadInput, match=r"does not decode.*next: look who drills there"):
        _holder(store, "r1").take()
    blocked = FileLeaseStore(Path(store.where) / "below" / "lease.json")
    with pytest.raises(GamedayError, match="nobody knows who drills there"):
        _holder(blocked, "r1").take()


def test_looking_takes_nothing(store: FileLeaseStore) -> None:
    """A dry run asks whether the lease could be had, and leaves the store as it was."""
    _holder(store, "r1").look()
    assert store.read() is None
    _holder(store, "r1").take()
    before = store.read()
    with pytest.raises(LeaseHeld):
        _holder(store, "r2").look()
    assert store.read() == before
    assert wait_for(lambda: os.listdir(Path(store.where).parent), timeout_s=1, what="the files") is not None
