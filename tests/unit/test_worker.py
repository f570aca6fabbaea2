"""The workload process against a real TCP server: schedule, slots, outcomes, and what ends it. Its figures are in ``bench/``."""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from worker_harness import OPERATIONS, Run, TinyServer, closed_port, lines_of, spec

from chaos.core.clock import wait_for
from chaos.measure.history import Event, Operation, Outcome, read_history
from chaos.measure.worker import ID_STRIDE, WorkerSpec, worker_argv
from chaos.measure.workload import Call, WorkloadSpec, completed

NS = 1_000_000_000


async def operation_of_this_file(call: Call) -> None:
    """An operation that lives beside the tests."""
    call.node = "here"


def ended(pid: int) -> bool:
    """Is the process gone, or a zombie that nobody has collected?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def assert_all_numbers(operations: list[Operation]) -> None:
    """Every operation from 0 on is recorded, once."""
    assert sorted(op.k for op in operations) == list(range(len(operations)))


def test_first_line_says_what_the_workload_is(tmp_path: Path) -> None:
    """The first line is the workload event, and every operation is due at its origin plus k intervals."""
    with Run(tmp_path, spec("quick", "", kinds=("a", "b"), rate_hz=300.0, ledger=True), index=3) as run:
        run.wait("operations", lambda ops: len(ops) > 20)
        assert run.stop() == 0
    first = lines_of(run.history)[0]
    assert isinstance(first, Event) and first.type == "workload"
    info = read_history(run.history).workloads[0]
    assert (info.index, info.name, info.rate_hz, info.timeout_s, info.kinds, info.ledger) == (3, "w", 300.0, 0.3, ("a", "b"), True)
    for op in run.operations():
        assert op.s == info.origin_ns + round(op.k * NS / 300.0)
        assert op.s <= op.t <= op.r
        assert (op.w, op.kind, op.id, op.node, op.timeline, op.error) == (3, 1, 3 * ID_STRIDE + op.k, "n1", 7, "")


def test_schedule_does_not_wait_for_answers(tmp_path: Path) -> None:
    """With a server that never answers, operations go on being sent on time, and each is unknown after its timeout."""
    with TinyServer("hang") as server, Run(tmp_path, spec(port=server.port)) as run:
        operations = run.wait("timed-out operations", lambda ops: len(ops) > 60)
        assert run.stop() == 0
    assert {op.outcome for op in operations} == {Outcome.UNKNOWN}
    assert all(op.r - op.t >= 0.3 * NS and op.id is not None for op in operations)
    assert statistics.median(op.t - op.s for op in operations) < 0.1 * NS
    assert_all_numbers(run.operations())


def test_unsent_where_no_slot_is_free(tmp_path: Path) -> None:
    """With every connection hung, an operation waits one timeout for a slot and is then unsent, with neither id nor duration."""
    with TinyServer("hang") as server, Run(tmp_path, spec(port=server.port, connections=2)) as run:
        run.wait("unsent operations", lambda ops: sum(op.outcome == Outcome.UNSENT for op in ops) > 20)
        assert run.stop() == 0
    unsent = [op for op in run.operations() if op.outcome == Outcome.UNSENT]
    assert all(op.t == op.r >= op.s + 0.3 * NS and op.id is None for op in unsent)
    sent = sorted((op for op in run.operations() if op.outcome == Outcome.UNKNOWN), key=lambda op: op.t)
    assert all(later.t >= earlier.r for earlier, later in zip(sent, sent[2:], strict=False)), "more than two under way"
    assert_all_numbers(run.operations())


def test_hung_connection_is_replaced(tmp_path: Path) -> None:
    """Operations succeed again once the server answers, though every connection had hung; the hung ones are closed."""
    with TinyServer("hang") as server, Run(tmp_path, spec(port=server.port, connections=4)) as run:
        run.wait("timeouts", lambda ops: sum(op.outcome == Outcome.UNKNOWN for op in ops) > 4)
        server.mood = "answer"
        run.wait("recovery", lambda ops: sum(op.outcome == Outcome.OK for op in ops) > 50)
        assert server.hung_up >= 4
        assert run.stop() == 0


def test_refused_connection_is_a_failed_operation(tmp_path: Path) -> None:
    """Where nobody listens every operation is failed at once, and none may have been written."""
    with Run(tmp_path, spec(port=closed_port())) as run:
        operations = run.wait("refusals", lambda ops: len(ops) > 50)
        assert run.stop() == 0
    assert {op.outcome for op in operations} == {Outcome.FAILED}
    assert all(op.id is None and "ConnectionRefusedError" in op.error for op in operations)
    assert statistics.median(op.r - op.t for op in operations) < 0.05 * NS


def test_hanging_connect_is_failed_at_the_timeout(tmp_path: Path) -> None:
    """A connect that hangs counts from its beginning, is failed at the timeout and frees its slot."""
    with Run(tmp_path, spec(connect="never_connects", connections=2, timeout_s=0.05)) as run:
        operations = run.wait("failures", lambda ops: sum(op.outcome == Outcome.FAILED for op in ops) > 10)
        assert run.stop() == 0
    assert all("connecting" in op.error for op in operations if op.outcome == Outcome.FAILED)


@pytest.mark.parametrize("mood", ["garbage", "reset"])
def test_broken_answers_are_unknown(tmp_path: Path, mood: str) -> None:
    """Garbage or a reset after the request was sent leaves the outcome unknown, and the workload goes on."""
    with TinyServer(mood) as server, Run(tmp_path, spec(port=server.port)) as run:
        operations = run.wait("operations", lambda ops: len(ops) > 30)
        assert run.stop() == 0
    assert {op.outcome for op in operations} == {Outcome.UNKNOWN}
    assert all(op.error and op.id is not None for op in operations)


def test_idle_connection_that_was_hung_up_is_not_used(tmp_path: Path) -> None:
    """A connection that the server closed while it rested is seen before anything is sent on it."""
    with TinyServer("once") as server, Run(tmp_path, spec(port=server.port)) as run:
        operations = run.wait("operations", lambda ops: len(ops) > 50)
        assert run.stop() == 0
    assert [op.error for op in operations if op.outcome != Outcome.OK] == []


def test_exceptions_are_recorded_and_survived(tmp_path: Path) -> None:
    """Whatever an operation raises becomes its outcome; a mistake is told once, in one line."""
    with Run(tmp_path, spec("misbehaving", "")) as run:
        run.wait("operations", lambda ops: len(ops) > 50)
        assert run.stop() == 0
    expected = [Outcome.UNKNOWN, Outcome.UNKNOWN, Outcome.UNKNOWN, Outcome.FAILED, Outcome.OK]
    assert all(op.outcome == expected[op.k % 5] for op in run.operations())
    by_kind = {op.k % 5: op for op in run.operations()}
    assert "ZeroDivisionError: 1/0 «über» ?" in by_kind[0].error and by_kind[3].error == "not today"
    assert (by_kind[0].node, by_kind[0].timeline) == ("n?ode", None)
    told = run.stderr().splitlines()
    assert sorted("ZeroDivisionError" in line for line in told) == [False, True] and str(OPERATIONS) in told[0]
    assert_all_numbers(run.operations())


def test_operation_that_cannot_be_cancelled_keeps_nobody(tmp_path: Path) -> None:
    """An operation that resists its cancellation neither holds its slot nor delays the end."""
    with Run(tmp_path, spec("stubborn", "", connections=2, timeout_s=0.05)) as run:
        run.wait("timeouts", lambda ops: sum(op.outcome == Outcome.UNKNOWN for op in ops) > 20)
        assert run.stop() == 0


def test_sigterm_records_what_is_under_way(tmp_path: Path) -> None:
    """After SIGTERM nothing more is scheduled, every operation under way gets its timeout and its line, and the exit code is 0."""
    with TinyServer("hang") as server, Run(tmp_path, spec(port=server.port, timeout_s=1.0)) as run:
        wait_for(lambda: len(lines_of(run.history)) >= 1, timeout_s=20, what="the workload event")
        run.wait("the first timeout", lambda ops: ops)
        before = len(run.operations())
        assert run.stop() == 0
    operations = run.operations()
    assert len(operations) > before + 20
    assert_all_numbers(operations)
    assert not read_history(run.history).torn


def test_second_sigterm_cuts_short(tmp_path: Path) -> None:
    """A second SIGTERM ends the process without waiting for answers; what was sent is recorded as unknown."""
    with TinyServer("hang") as server, Run(tmp_path, spec(port=server.port, timeout_s=60.0, connections=1000)) as run:
        wait_for(lambda: server.asked > 10, timeout_s=20, what="operations under way")
        run.process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(0.3)
        assert run.stop() == 0
    assert {op.outcome for op in run.operations()} == {Outcome.UNKNOWN}
    assert all("stopped" in op.error for op in run.operations())


def test_sigkill_leaves_whole_lines(tmp_path: Path) -> None:
    """Killed at any moment, the worker has written whole lines only."""
    with Run(tmp_path, spec("quick", "", rate_hz=3000.0)) as run:
        run.wait("operations", lambda ops: len(ops) > 500)
        run.process.kill()
        run.process.wait(10)
        assert run.history.read_bytes().endswith(b"]\n")
        assert not read_history(run.history).torn


def test_end_of_standard_input_stops_it(tmp_path: Path) -> None:
    """The end of the inherited pipe is the parent's death: the worker stops in order."""
    with Run(tmp_path, spec("quick", "")) as run:
        run.wait("operations", lambda ops: len(ops) > 5)
        assert run.process.stdin is not None
        run.process.stdin.close()
        assert run.process.wait(20) == 0


def test_spec_on_standard_input(tmp_path: Path) -> None:
    """The spec may come as one line on standard input, which then serves as the liveness pipe."""
    given = WorkerSpec(workload=spec("quick", ""), index=0, history=str(tmp_path / "h"))
    with subprocess.Popen(worker_argv("-"), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(given) + b"\n")
        process.stdin.flush()
        wait_for(lambda: len(lines_of(tmp_path / "h")) > 5, timeout_s=20, what="operations")
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.parametrize("watch", ["pipe", "pid"])
def test_killed_parent_stops_it(tmp_path: Path, watch: str) -> None:
    """SIGKILL of the parent ends the worker, by the pipe that it held or by its pid."""
    middle = (
        "import os, subprocess, sys, time\n"
        "from chaos.measure.worker import *\n"
        "import msgspec\n"
        "path, watch = sys.argv[1:]\n"
        "given = msgspec.json.decode(open(path, 'rb').read(), type=WorkerSpec)\n"
        "given = msgspec.structs.replace(given, parent_pid=os.getpid() if watch == 'pid' else None)\n"
        "from pathlib import Path\n"
        "stdin = subprocess.PIPE if watch == 'pipe' else subprocess.DEVNULL\n"
        "worker = subprocess.Popen(worker_argv(write_spec(Path(path), given)), stdin=stdin)\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    path = tmp_path / "spec.json"
    path.write_bytes(msgspec.json.encode(WorkerSpec(workload=spec("quick", ""), index=0, history=str(tmp_path / "h"))))
    with subprocess.Popen([sys.executable, "-c", middle, str(path), watch], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        wait_for(lambda: len(lines_of(tmp_path / "h")) > 5, timeout_s=20, what="operations")
        assert not ended(worker)
        parent.kill()
    wait_for(lambda: ended(worker), timeout_s=20, what=f"the end of the worker {worker}")


def test_interrupt_from_the_keyboard_is_ignored(tmp_path: Path) -> None:
    """SIGINT, which a terminal sends to the whole group, does not end the workload."""
    with Run(tmp_path, spec("quick", "")) as run:
        before = len(run.wait("operations", lambda ops: len(ops) > 5))
        run.process.send_signal(signal.SIGINT)
        run.wait("operations after SIGINT", lambda ops: len(ops) > before + 20)
        assert run.stop() == 0


def test_operation_may_live_in_a_test_file(tmp_path: Path) -> None:
    """An operation that stands in this very file is loaded by the worker."""
    with Run(tmp_path, WorkloadSpec(name="w", operation=f"{__file__}::operation_of_this_file", timeout_s=1.0)) as run:
        operations = run.wait("operations", lambda ops: len(ops) > 5)
        assert run.stop() == 0
    assert all(op.node == "here" for op in operations)


def refusal_of(tmp_path: Path, workload: WorkloadSpec) -> str:
    """Run a worker that must refuse to start; returns what it says."""
    with Run(tmp_path, workload) as run:
        assert run.process.wait(20) == 2
        assert not run.history.exists()
        return run.stderr()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import asyncio\nimport no_such_module_here\n", "ops.py:2: does not load"),
        ("def broken(:\n", "ops.py:1: does not load"),
        ("raise SystemExit(0)\n", "ops.py:1: does not load"),
        ("x = 1\n", "ops.py: has no function 'op'"),
        ("def op(call): ...\n", "write: async def op(call)"),
    ],
)
def test_operation_that_does_not_load_is_one_clear_line(tmp_path: Path, source: str, expected: str) -> None:
    """A file that cannot be imported, or lacks the async function, is exit code 2 and one line that says where."""
    (tmp_path / "ops.py").write_text(source)
    said = refusal_of(tmp_path, WorkloadSpec(name="w", operation=f"{tmp_path}/ops.py::op", timeout_s=1.0))
    assert said.count("\n") == 1 and expected in said


def test_bad_specs_are_one_clear_line(tmp_path: Path) -> None:
    """A missing file, a rate of zero and a missing timeout are refused with the workload's name."""
    assert "ops.py: does not load" in refusal_of(tmp_path, WorkloadSpec(name="w", operation=f"{tmp_path}/ops.py::op", timeout_s=1.0))
    assert "workload w: rate_hz" in refusal_of(tmp_path, spec(rate_hz=0.0))
    assert "workload w: timeout_s" in refusal_of(tmp_path, spec(timeout_s=None))
    assert "/path/to/file.py::name" in refusal_of(tmp_path, WorkloadSpec(name="w", operation="op", timeout_s=1.0))
    (tmp_path / "other.json").write_text("{}")
    done = subprocess.run(worker_argv(tmp_path / "other.json"), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2 and "missing required field" in done.stderr and done.stderr.count("\n") == 1


def test_history_that_takes_no_more_is_completed_later(tmp_path: Path) -> None:
    """While the history cannot grow its records are kept, and all of them are there, each a line, once it can."""
    with Run(tmp_path, spec("quick", "", rate_hz=500.0)) as run:
        run.wait("operations", lambda ops: len(ops) > 20)
        soft, hard = resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (run.history.stat().st_size + 777, hard))
        wait_for(lambda: "kept in memory" in run.stderr(), timeout_s=20, what="a complaint about the history")
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        before = len(run.operations())
        run.wait("records that were kept", lambda ops: len(ops) > before + 100)
        assert run.stop() == 0
    assert_all_numbers(run.operations())
    assert run.stderr().count("\n") == 1


def test_worker_imports_nothing_heavy() -> None:
    """The process that must keep time loads neither numpy nor pytest nor any client."""
    code = "import sys, chaos.measure.worker; print([m for m in ('numpy', 'pytest', 'psycopg', 'docker', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"


def test_short_slices_are_what_the_kernel_then_says() -> None:
    """Whoever asks for short slices has them of 0.1 ms, as far as the kernel keeps and shows such a thing, and is as nice as before."""
    code = "import os; os.nice(3); from chaos.measure._slice import take_short_slices as t; print(t(), os.nice(0)); "
    code += "print(open('/proc/self/sched').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0 or "se.slice" not in done.stdout:
        pytest.skip("this kernel does not show a process' slice (Linux 6.12 and newer do, where built with CONFIG_SCHED_DEBUG)")
    slices = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("se.slice ")]
    assert done.stdout.startswith("True 3\n") and slices == ["100000"]


def test_connections_are_as_many_as_the_schedule_can_need() -> None:
    """Rate times timeout and a few more where the spec names no number, at most 256; a number that is named stays."""
    named = WorkloadSpec(name="w", operation="/ops.py::op", rate_hz=200.0)
    assert completed(named, 0.5).connections == 108
    assert completed(msgspec.structs.replace(named, rate_hz=5000.0), 1.0).connections == 256
    kept = completed(msgspec.structs.replace(named, timeout_s=0.1, connections=3), 1.0)
    assert (kept.connections, kept.timeout_s) == (3, 0.1)
