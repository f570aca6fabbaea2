"""The history file: what writers put there, readers get back, whatever happened to its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_histories import MS, S, workload_info

from chaos.core.errors import GamedayError
from chaos.measure.columns import MAX_TEXTS, OTHER_TEXT, columns_of
from chaos.measure.history import SCHEMA, HistoryWriter, Operation, Outcome, SurvivorRead, read_history
from chaos.measure.live import Tail
from chaos.measure.reader import CHUNK_BYTES

SMALL = st.integers(0, 2**31 - 1)
OPERATIONS = st.builds(
    Operation,
    w=st.integers(0, 5),
    k=SMALL,
    s=st.integers(0, 2**62),
    t=st.integers(0, 2**62),
    r=st.integers(0, 2**62),
    outcome=st.sampled_from(list(map(int, Outcome))),
    kind=st.integers(0, 3),
    id=st.none() | SMALL,
    node=st.none() | st.text(max_size=3),
    timeline=st.none() | st.integers(1, 9),
    error=st.text(max_size=3),
)


def good(k: int) -> Operation:
    return Operation(0, k, k * MS, k * MS, k * MS + 1, Outcome.OK, 0, k)


@settings(deadline=None, max_examples=60)
@given(st.lists(OPERATIONS, max_size=20))
def test_operations_survive_the_file(tmp_path_factory: pytest.TempPathFactory, ops: list[Operation]) -> None:
    """Every field of every operation is read back as it was written, none included."""
    path = tmp_path_factory.mktemp("history") / "h.jsonl"
    writer = HistoryWriter(path)
    writer.operations(ops)
    writer.close()
    columns = read_history(path).columns
    back = [
        Operation(
            int(columns.w[i]),
            int(columns.k[i]),
            int(columns.s[i]),
            int(columns.t[i]),
            int(columns.r[i]),
            int(columns.outcome[i]),
            int(columns.kind[i]),
            None if columns.id[i] < 0 else int(columns.id[i]),
            None if columns.node[i] < 0 else columns.node_names[columns.node[i]],
            None if columns.timeline[i] < 0 else int(columns.timeline[i]),
            columns.error_texts[columns.error[i]],
        )
        for i in range(len(columns))
    ]
    assert back == ops


def test_events_workloads_and_reads_survive_the_file(tmp_path: Path) -> None:
    """Structs written as events come back typed; a read's ids are arrays and its event carries only their number."""
    writer = HistoryWriter(tmp_path / "h")
    info, read = workload_info(MS, S), SurvivorRead("whole", 7, 8, (3, 3, 5), (5,), "pg2")
    writer.event("start", {"schema": SCHEMA, "drill": "d", "run_id": "r", "utc": "u"}, 1)
    writer.event("workload", info, 2)
    writer.event("read", read)
    writer.close()
    history = read_history(tmp_path / "h")
    assert history.workloads == (info,)
    assert (history.reads[0].ids.tolist(), history.reads[0].mutated.tolist(), history.reads[0].source) == ([3, 3, 5], [5], "pg2")
    assert [(event.t, event.type) for event in history.events][:2] == [(1, "start"), (2, "workload")]
    assert history.events[2].data["rows"] == 3
    assert history.events[2].t > 0


def test_a_torn_last_line_is_tolerated_and_reported(tmp_path: Path) -> None:
    """Whatever length the last line was cut to, all lines before it are read."""
    path = tmp_path / "h"
    HistoryWriter(path).operations([good(k) for k in range(3)])
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(whole) + 1):
        path.write_bytes(whole[:cut])
        history = read_history(path)
        complete = cut >= len(whole) - 1
        assert (len(history.columns), history.torn) == (3 if complete else 2, not complete and cut > last)


@pytest.mark.parametrize("bad", [b"nonsense", b'["o",0,1]', b'["x",1,2]', b'["o",0,"a",1,1,1,0]', b"\xff\xfe", b'["o",0,1,1,1,1,7]', b"{}"])
def test_any_other_damaged_line_is_an_error_that_names_it(tmp_path: Path, bad: bytes) -> None:
    """A damaged line with others after it stops the reader and the live view with file and line."""
    path = tmp_path / "h"
    HistoryWriter(path).operations([good(k) for k in range(2)])
    path.write_bytes(path.read_bytes() + bad + b"\n" + b'["o",0,9,1,1,1,0]\n')
    with pytest.raises(GamedayError) as caught:
        read_history(path)
    assert str(path) in str(caught.value)
    if bad[-2:] != b"7]":
        assert f"{path}:3" in str(caught.value)
        with pytest.raises(GamedayError, match=f"{path}:3"):
            Tail(path).poll()


@pytest.mark.parametrize("event", ['["e",1,"read",{"label":1}]', '["e",1,"workload",{}]', '["e",1,"start",{"schema":"gameday.history/9"}]'])
def test_an_event_of_another_shape_is_an_error_that_names_it(tmp_path: Path, event: str) -> None:
    """A read, a workload or a version that this release does not understand is refused, with its line."""
    (tmp_path / "h").write_text('["e",0,"note",{"text":"x"}]\n' + event + "\n")
    with pytest.raises(GamedayError, match="h:2"):
        read_history(tmp_path / "h")


def test_a_history_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """Reading a file that is not there names it; following one waits for it."""
    with pytest.raises(GamedayError, match="nowhere"):
        read_history(tmp_path / "nowhere")
    tail = Tail(tmp_path / "nowhere")
    tail.poll()
    assert tail.counts() == ()
    assert not tail.sustained_since(0, 0, 0, 1)


def test_lines_longer_than_a_chunk_are_read(tmp_path: Path) -> None:
    """A read of a million ids fills several chunks and is one line."""
    writer = HistoryWriter(tmp_path / "h")
    ids = tuple(range(10**6, 10**6 + CHUNK_BYTES // 4))
    for _ in range(2):
        writer.operations([good(0)])
        writer.event("read", SurvivorRead("recovered", 1, 2, ids), 3)
    writer.operations([good(1)])
    writer.close()
    history = read_history(tmp_path / "h")
    assert [len(read.ids) for read in history.reads] == [len(ids)] * 2
    assert history.columns.k.tolist() == [0, 0, 1]


def test_several_processes_write_one_file(tmp_path: Path) -> None:
    """Lines of four processes that write at once are all there and whole."""
    path = tmp_path / "h"
    code = (
        "import sys; from chaos.measure.history import HistoryWriter, Operation\n"
        "writer = HistoryWriter(sys.argv[1]); w = int(sys.argv[2])\n"
        "for k in range(400):\n"
        "    writer.operations([Operation(w, k, 1, 1, 1, 0, 0, None, 'n' * (k % 50))])\n"
        "    writer.event('note', {'text': 'x' * k})\n"
        "writer.close()\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(w)]) for w in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    history = read_history(path)
    assert (len(history.columns), len(history.events), history.torn) == (1600, 1600, False)
    for w in range(4):
        assert history.columns.k[history.columns.w == w].tolist() == list(range(400))


def test_a_full_disk_loses_nothing_while_the_writer_lives(tmp_path: Path) -> None:
    """Lines that the disk refuses are kept, every line that is there stays whole, and closing says how many are lost."""
    code = (
        "import resource, signal, sys; from chaos.core.errors import GamedayError\n"
        "from chaos.measure.history import HistoryWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "writer = HistoryWriter(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))\n"
        "for k in range(100): writer.event('note', {'k': k}, k)\n"
        "assert writer.trouble and not writer.flush()\n"
        "if sys.argv[2] == 'space': resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)); assert writer.flush()\n"
        "try: writer.close()\n"
        "except GamedayError as err: print(err)\n"
    )
    for space in ("space", "none"):
        path = tmp_path / space
        done = subprocess.run([sys.executable, "-c", code, str(path), space], capture_output=True, text=True, timeout=60, check=True)
        told = [event.t for event in read_history(path).events]
        assert told == list(range(len(told)))
        if space == "space":
            assert (len(told), done.stdout) == (100, "")
        else:
            assert f"{100 - len(told)} lines of the history could not be written" in done.stdout


def test_different_texts_are_bounded() -> None:
    """An error text that is different every time does not take memory without end."""
    columns = columns_of([Operation(0, k, 1, 1, 1, 2, error=f"error {k}") for k in range(MAX_TEXTS + 100)])
    assert len(columns.error_texts) == MAX_TEXTS + 1
    assert columns.error_texts[columns.error[-1]] == OTHER_TEXT
    assert columns.error_texts[columns.error[5]] == "error 5"


def test_the_live_view_reads_lines_when_they_are_complete(tmp_path: Path) -> None:
    """Half a line waits for its other half; operations that precede their workload's announcement are counted when it comes."""
    path = tmp_path / "h"
    tail = Tail(path)
    source = tmp_path / "source"
    writer = HistoryWriter(source)
    writer.operations([good(k) for k in range(100)] + [Operation(0, 100, S, S, S, Outcome.UNSENT)])
    writer.event("workload", workload_info(MS, 10 * MS), 0)
    writer.close()
    data = source.read_bytes()
    for size in range(0, len(data), 97):
        path.write_bytes(data[:size])
        tail.poll()
    assert tail.counts() == ()
    path.write_bytes(data)
    tail.poll()
    (counts,) = tail.counts(100 * MS)
    assert (counts.name, counts.good, counts.bad, counts.unsent, counts.good_per_s) == ("w", 100, 1, 1, 100.0)


def test_the_live_view_names_the_workloads_it_waits_for(tmp_path: Path) -> None:
    """Recovery is said only when every workload asked for has announced itself and recovered."""
    path = tmp_path / "h"
    writer, tail = HistoryWriter(path), Tail(path)
    writer.event("workload", workload_info(10 * MS, 10 * MS), 0)
    writer.event("workload", workload_info(10 * MS, 10 * MS, index=1, name="sticky", gated=False), 0)
    down = range(100, 200)
    outcomes = [Outcome.FAILED if k in down else Outcome.OK for k in range(300)]
    ops = [Operation(0, k, k * 10 * MS, k * 10 * MS, k * 10 * MS + MS, outcome) for k, outcome in enumerate(outcomes)]
    asked: tuple[int, int, float, float] = (S, S, 0.5, 0.5)
    writer.operations(ops[:250])
    tail.poll()
    assert not tail.sustained_since(*asked)
    writer.operations(ops[250:251])
    tail.poll()
    assert tail.sustained_since(*asked)
    assert tail.sustained_since(*asked, ["w"])
    assert not tail.sustained_since(*asked, ["w", "sticky"])
    assert not tail.sustained_since(*asked, ["other"])
    assert not tail.sustained_since(S, S, 10, 0.5)
    writer.operations([Operation(0, 251, 251 * 10 * MS, 251 * 10 * MS, 252 * 10 * MS, Outcome.FAILED)])
    tail.poll()
    assert not tail.sustained_since(*asked)
    writer.close()
