"""The audit log: a chain that shows whatever was done to it."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.core.errors import GamedayError
from chaos.engine.audit import DONE, FIRST, AuditBroken, AuditLog, read_audit, verify


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    """A log with four records."""
    log = AuditLog(tmp_path / "state" / "audit.jsonl", environment="staging", by="ann", run="r1", drill="t::a")
    for number in range(4):
        log.write("injected", DONE, f"fault {number}")
    return log


def test_a_record_says_who_what_where_and_when(log: AuditLog) -> None:
    """Every record holds person, account, machine, run, drill, environment, time, action and decision, and the first one follows zeros."""
    records = [record for _, record in read_audit(log.path)]
    assert [record.seq for record in records] == [1, 2, 3, 4]
    first = records[0]
    assert (first.prev, first.by, first.run, first.drill, first.environment) == (FIRST, "ann", "r1", "t::a", "staging")
    assert first.user and first.host and first.pid and re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", first.utc)
    assert verify(log.path).count == 4


def test_only_its_owner_can_read_it(log: AuditLog) -> None:
    """The file is made for its owner alone."""
    assert log.path.stat().st_mode & 0o777 == 0o600


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_every_changed_byte_is_found(log: AuditLog, data: st.DataObject) -> None:
    """Whatever byte of the file is changed, the chain breaks at its line."""
    content = log.path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    changed = log.path.with_name("changed")
    changed.write_bytes(content[:at] + bytes([other]) + content[at + 1 :])
    with pytest.raises(AuditBroken) as caught:
        verify(changed)
    line = content.count(b"\n", 0, at) + 1
    assert int(caught.value.where.rpartition(":")[2]) in (line, line + 1)


@pytest.mark.parametrize(("gone", "line"), [(0, 1), (1, 2), (2, 3)])
def test_a_removed_record_is_found(log: AuditLog, gone: int, line: int) -> None:
    """A record that was taken out breaks the chain where it stood."""
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    with pytest.raises(AuditBroken, match=rf"audit\.jsonl:{line}: .*removed, inserted or moved"):
        verify(log.path)


def test_a_cut_off_end_is_found_by_a_head_that_was_noted(log: AuditLog) -> None:
    """Cutting the last records off leaves a chain that holds, but not the head that somebody wrote down."""
    head = verify(log.path).head
    log.write("healed", DONE, "one more")
    assert verify(log.path, holds=head).count == 5
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:3]))
    assert verify(log.path).count == 3
    with pytest.raises(AuditBroken, match="cut off or replaced"):
        verify(log.path, holds=head)


def test_a_rehashed_forgery_breaks_the_next_record(log: AuditLog) -> None:
    """Whoever changes a record and recomputes its hash breaks the record behind it."""
    from chaos.engine.audit import AuditRecord, hash_of

    lines = log.path.read_bytes().splitlines(keepends=True)
    forged = json.loads(lines[1]) | {"text": "nothing happened"}
    forged["hash"] = hash_of(AuditRecord(**forged))
    log.path.write_bytes(b"".join([lines[0], msgspec.json.encode(AuditRecord(**forged)) + b"\n", *lines[2:]]))
    with pytest.raises(AuditBroken, match=r"audit\.jsonl:3"):
        verify(log.path)


def test_a_torn_record_is_kept_as_evidence(log: AuditLog) -> None:
    """After a writer died in the middle of a record, the next one records the torn text, and the chain holds."""
    with log.path.open("ab") as file:
        file.write(b'{"seq":5,"pr')
    with pytest.raises(AuditBroken, match=r"audit\.jsonl:5: .*torn"):
        verify(log.path)
    log.write("healed", DONE, "after")
    records = [record for _, record in read_audit(log.path)]
    assert [record.action for record in records[4:]] == ["torn", "healed"]
    assert '{"seq":5,"pr' in records[4].text
    assert verify(log.path).count == 6


def test_many_writers_make_one_chain(log: AuditLog) -> None:
    """Threads and processes that write at the same time make one chain without a gap."""
    code = (
        "import sys; from pathlib import Path; from chaos.engine.audit import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]), environment='staging')\n"
        "for n in range(20): log.write('injected', 'done', str(n))"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(log.path)]) for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: log.write("injected", DONE, str(n)), range(40)))
    assert [process.wait(60) for process in others] == [0, 0, 0]
    assert verify(log.path).count == 4 + 60 + 40


def test_a_disk_that_takes_no_record_is_an_error(tmp_path: Path) -> None:
    """Where the file may not grow, writing says so and leaves the chain whole."""
    log = AuditLog(tmp_path / "audit.jsonl", environment="staging")
    log.write("injected", DONE, "fits")
    size = log.path.stat().st_size
    code = (
        "import sys, signal, resource; from pathlib import Path; from chaos.engine.audit import AuditLog\n"
        "from chaos.core.errors import GamedayError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try: AuditLog(Path(sys.argv[1]), environment='staging').write('injected', 'done', 'x' * 500)\n"
        "except GamedayError as err: print(err)"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", code, str(log.path), str(size + 50)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "does not take a record, so nothing may be broken" in done.stdout
    assert verify(log.path).count == 1


def test_no_log_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    """Verifying what is not there is no success."""
    with pytest.raises(GamedayError, match="cannot be read"):
        verify(tmp_path / "nothing.jsonl")
