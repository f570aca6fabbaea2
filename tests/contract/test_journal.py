"""The journal on its own: what survives a torn write, what does not pass unnoticed, and what a full disk does."""

from __future__ import annotations

import multiprocessing
import resource
import signal
from pathlib import Path

import pytest

from chaos.core.errors import EXIT_JOURNAL_UNREADABLE, GamedayError
from chaos.core.model import FaultState, NodeRef, Proof, Undo
from chaos.engine.injection import InjectedFault
from chaos.engine.journal import Journal, JournalUnreadable, open_faults, read_journal
from chaos.faults._single import OneNode

NODE = NodeRef("embedded", "system", "a", {"container": "0123"})


def undo(number: int, padding: str = "") -> Undo:
    return Undo(f"fault-{number}", "noop", 1, (NODE,), {"text": "ü\n\u2028", "padding": padding}, {"state": {"powered": True}})


def three(path: Path) -> Path:
    """Three faults, the second healed."""
    journal = Journal(path)
    for number in (1, 2, 3):
        journal.intent(undo(number), "a drill")
    journal.state("fault-2", FaultState.LANDED)
    journal.state("fault-2", FaultState.VERIFIED)
    journal.close()
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Every record in order, any text intact, one line a record; open are those that nobody verified, oldest first."""
    records, torn = read_journal(three(tmp_path / "deep" / "journal.jsonl"))
    assert not torn and [record.fault_id[-1] for record in records] == ["1", "2", "3", "2", "2"]
    assert open_faults(records) == [undo(1), undo(3)]
    assert len((tmp_path / "deep" / "journal.jsonl").read_bytes().split(b"\n")) == 6
    assert (tmp_path / "deep" / "journal.jsonl").stat().st_mode & 0o077 == 0


def test_a_torn_last_record_is_told_and_tolerated_wherever_it_was_cut(tmp_path: Path) -> None:
    """Each prefix of the last record reads as: all before it, and torn; the fault that it would have closed stays open."""
    path = three(tmp_path / "journal.jsonl")
    content = path.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last + 1, len(content)):
        path.write_bytes(content[:cut])
        records, torn = read_journal(path)
        assert torn and len(records) == 4 and undo(2) in open_faults(records)
    path.write_bytes(content[:last])
    assert read_journal(path)[1] is False


def test_the_next_writer_removes_a_torn_record(tmp_path: Path) -> None:
    """What is written after a torn record can be read, and so can everything before it."""
    path = three(tmp_path / "journal.jsonl")
    path.write_bytes(path.read_bytes()[:-7])
    journal = Journal(path)
    journal.intent(undo(4), "a drill")
    journal.state("fault-4", FaultState.VERIFIED)
    journal.close()
    records, torn = read_journal(path)
    assert not torn and [record.fault_id[-1] for record in records] == ["1", "2", "3", "2", "4", "4"]
    assert open_faults(records) == [undo(1), undo(2), undo(3)]


@pytest.mark.parametrize("line", [0, 2])
@pytest.mark.parametrize("change", ["flipped", "emptied", "cut", "not ours"])
def test_a_bad_record_before_the_last_is_an_error_that_names_its_line(tmp_path: Path, line: int, change: str) -> None:
    """A flipped byte (the checksum sees it), a lost line, a torn one that is not last, or other text: exit code 12, and which line."""
    path = three(tmp_path / "journal.jsonl")
    lines = path.read_bytes().split(b"\n")
    lines[line] = {
        "flipped": lines[line].replace(b"noop", b"nOop").replace(b"verified", b"verifieD"),
        "emptied": b"",
        "cut": lines[line][:40],
        "not ours": b"hello",
    }[change]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(JournalUnreadable, match=rf"journal\.jsonl:{line + 1}: a record of the journal does not decode") as caught:
        read_journal(path)
    assert caught.value.exit_code == EXIT_JOURNAL_UNREADABLE == 12
    journal = Journal(path)
    with pytest.raises(JournalUnreadable):
        journal.intent(undo(9), "a drill")
    journal.close()


def test_an_id_that_is_there_already_is_refused(tmp_path: Path) -> None:
    """By the writer who wrote it, and by another one of the same file."""
    path = three(tmp_path / "journal.jsonl")
    journal = Journal(path)
    for _ in range(2):
        with pytest.raises(GamedayError, match="'fault-2' already"):
            journal.intent(undo(2), "a drill")
    journal.intent(undo(4), "a drill")
    with pytest.raises(GamedayError, match="'fault-4' already"):
        journal.intent(undo(4), "a drill")
    journal.close()


def _write_many(path: Path, writer: int) -> None:
    journal = Journal(path)
    for number in range(25):
        journal.intent(undo(writer * 100 + number, padding="x" * 3000), "a drill")
        journal.state(f"fault-{writer * 100 + number}", FaultState.VERIFIED)
    journal.close()


def test_writers_of_several_processes_share_a_file(tmp_path: Path) -> None:
    """Records of workers that write at the same time are whole, and all there."""
    path = tmp_path / "journal.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    records, torn = read_journal(path)
    assert not torn and len(records) == 150 and open_faults(records) == []


class Effect(OneNode, frozen=True):
    """Would leave a file, if it were ever injected."""

    path: str = ""
    kind = "effect"

    def plan(self, fault_id, resolve):  # type: ignore[no-untyped-def]
        return undo(int(fault_id.rpartition("-")[2]) + 1000, padding="x" * 2000)

    def inject(self, undo, resolve):  # type: ignore[no-untyped-def]
        Path(self.path).touch()

    def landed(self, undo, resolve):  # type: ignore[no-untyped-def]
        return Proof(1, "there") if Path(self.path).exists() else None

    @classmethod
    def heal(cls, undo, resolve):  # type: ignore[no-untyped-def]
        raise AssertionError("nothing was injected")


def test_a_disk_that_takes_no_record_refuses_the_fault(tmp_path: Path) -> None:
    """The disk ends in the middle of the intent: nothing is injected, there is nothing to heal, the error says where and what to do,
    and what was in the journal can still be read."""
    path, limit = three(tmp_path / "journal.jsonl"), resource.getrlimit(resource.RLIMIT_FSIZE)
    before = path.read_bytes()
    fault = Effect(NODE, path=str(tmp_path / "effect"))
    resource_signal = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    journal = Journal(path)
    for room in (0, 1, 700):
        injected = InjectedFault(fault, f"full-{room}", lambda ref: None, journal, lambda *_: None, cause=False)  # type: ignore[arg-type,return-value]
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limit[1]))
        try:
            with pytest.raises(
                GamedayError, match=r"journal\.jsonl: the journal does not take a record, so no fault may be injected"
            ) as refused:
                injected.inject("a drill")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert "free space" in refused.value.next_step and refused.value.observed
        assert not (tmp_path / "effect").exists() and not injected.open
        injected.heal()
        assert path.read_bytes() == before
    signal.signal(signal.SIGXFSZ, resource_signal)
    journal.close()


def test_a_directory_that_cannot_be_written_refuses_at_once(tmp_path: Path) -> None:
    """Where the journal cannot even be made, the error is the same."""
    (tmp_path / "file").touch()
    with pytest.raises(GamedayError, match="does not take a record"):
        Journal(tmp_path / "file" / "journal.jsonl")
