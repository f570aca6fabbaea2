"""The process that runs one workload: ``python -m chaos.measure.worker SPEC.json`` (or ``-``: one line of JSON on standard input).

It loads the operation, writes the ``workload`` event, runs the open loop (:mod:`chaos.measure._loop`) and appends one line per settled
operation to the shared history. It judges nothing and restarts nothing. SIGTERM, SIGHUP or the death of its parent end the schedule;
what is under way keeps its timeout (at most 2 τ, see :func:`drain_s`), then everything is handed over and the exit code is 0. A second
SIGTERM cuts that short. SIGINT is ignored: a Ctrl-C reaches the whole process group, and what it means is the parent's business.

Parent death is seen by the end of an inherited pipe (``liveness_fd``, standard input by default: the spawner keeps the other end
open and otherwise ignores it; ignored where it is no pipe or socket), and by ``parent_pid`` where that is given and is the direct parent.

Exit codes: 0 stopped as asked, 2 bad spec or an operation that does not load (one line on standard error), 3 records that could not be
handed over, 4 the loop itself failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import inspect
import json
import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

import msgspec

from chaos.core.clock import NS, now_ns
from chaos.core.errors import BadInput
from chaos.core.model import Json
from chaos.measure._lines import LineFile, Scribe
from chaos.measure._loop import ID_STRIDE, ConnectFunction, OpenLoop, Operating, OperationFunction, Plan, describe
from chaos.measure._slice import take_short_slices
from chaos.measure.history import Event, WorkloadInfo
from chaos.measure.workload import WorkloadSpec, completed

__all__ = ["ID_STRIDE", "WorkerSpec", "drain_s", "main", "worker_argv", "write_spec"]

EXIT_BAD_SPEC, EXIT_UNWRITTEN, EXIT_LOOP = 2, 3, 4
_REAL_TIME_PRIORITY = 1
_LAST_FLUSH_S = 5.0
_PARENT_POLL_S = 0.25
_SURPRISES = 20
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    RuntimeError,
    SyntaxError,
    TypeError,
    SystemExit,
)


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker process is told.

    ``index`` is the workload's number in its drill, ``history`` the file to append to. Operation 0 is due ``origin_delay_s`` after
    everything is loaded. ``workload.timeout_s`` must be set: only the drill can derive it from a budget. ``sys_path`` is searched after
    the process's own, so that a test file finds what it imports; :func:`write_spec` fills it in.
    """

    workload: WorkloadSpec
    index: int
    history: str
    origin_delay_s: float = 0.02
    liveness_fd: int | None = 0
    parent_pid: int | None = None
    sys_path: tuple[str, ...] = ()


def worker_argv(spec: Path | str) -> list[str]:
    """The command that runs a worker for the spec file ``spec``."""
    return [sys.executable, "-m", "chaos.measure.worker", str(spec)]


def write_spec(path: Path, spec: WorkerSpec) -> Path:
    """``spec`` as a file for :func:`worker_argv`; readable by this user only, since params may name accounts. Where it has no
    ``sys_path``, it gets this process's."""
    if not spec.sys_path:
        spec = msgspec.structs.replace(spec, sys_path=tuple(sys.path))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(spec))
    return path


def drain_s(timeout_s: float) -> float:
    """How long a worker may take to end after SIGTERM (seconds): what waits for a slot gets τ, what is then sent another, the last
    records may wait for space on the disk, and a margin."""
    return 2 * timeout_s + _LAST_FLUSH_S + 1.0


def read_spec(argv: Sequence[str]) -> tuple[WorkerSpec, bool]:
    """The spec, and whether standard input still serves as liveness pipe.

    Raises:
        BadInput: unreadable, or not a spec; says where.
    """
    if len(argv) != 1:
        raise BadInput("one argument expected: the spec's file, or - for standard input", where="chaos.measure.worker")
    where, stdin_open = argv[0], True
    try:
        if where == "-":
            data = _read_line(0)
            stdin_open = data.endswith(b"\n")
        else:
            data = Path(where).read_bytes()
        spec = msgspec.json.decode(data, type=WorkerSpec)
    except (OSError, msgspec.MsgspecError) as err:
        raise BadInput(f"the spec cannot be read: {err}", where=f"workload spec {where}") from err
    work = spec.workload
    if work.timeout_s is None or not work.timeout_s > 0:
        raise BadInput("timeout_s must be set and positive", where=f"workload {work.name}", observed=repr(work.timeout_s))
    if not work.rate_hz > 0 or (work.connections is not None and work.connections < 1) or spec.index < 0:
        raise BadInput("rate_hz and connections must be positive, index not negative", where=f"workload {work.name}")
    return msgspec.structs.replace(spec, workload=completed(work, work.timeout_s)), stdin_open


def _read_line(fd: int) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        byte = os.read(fd, 1)  # not buffered: what follows the line is not ours
        if not byte:
            break
        data += byte
    return data


class Loader:
    """Loads functions named ``/path/to/file.py::name``; each file once."""

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType] = {}

    def function(self, named: str, role: str) -> Callable[..., object]:
        """The async function ``named``.

        Raises:
            BadInput: where the file does not load or has no such async function; quotes the innermost line of that file.
        """
        path, _, name = named.rpartition("::")
        if not path or not name:
            raise BadInput(f"the {role} is not of the form /path/to/file.py::name", observed=repr(named))
        module = self._modules.get(path) or self._load(path, role)
        self._modules[path] = module
        function = getattr(module, name, None)
        if function is None:
            raise BadInput(f"has no function {name!r} (the workload's {role})", where=path)
        if not inspect.iscoroutinefunction(function):
            raise BadInput(
                f"{name!r} (the workload's {role}) is not an async function", where=path, next_step=f"write: async def {name}(call)"
            )
        return cast("Callable[..., object]", function)

    def _load(self, path: str, role: str) -> ModuleType:
        name = f"_gameday_operation_{len(self._modules)}_{Path(path).stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise BadInput(f"is not a Python file (the workload's {role})", where=path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException as err:  # a file may raise anything, SystemExit too, while it is imported
            raise BadInput(f"does not load (the workload's {role}): {describe(err)}", where=_where(err, path)) from err
        return module


def _where(err: BaseException, path: str) -> str:
    """``file:line`` of ``err``: the last frame inside ``path``; the path alone where there is none."""
    if isinstance(err, SyntaxError) and err.filename:
        return f"{err.filename}:{err.lineno}"
    frames = traceback.extract_tb(err.__traceback__)
    inside = [frame for frame in frames if frame.filename == path]
    return f"{path}:{inside[-1].lineno}" if inside else path


class Recorder:
    """Turns settled operations into lines and hands them to the scribe at once."""

    def __init__(self, scribe: Scribe, spec: WorkerSpec) -> None:
        self._scribe, self._index, self._kinds = scribe, spec.index, len(spec.workload.kinds)
        self._nodes: dict[object, str] = {None: "null"}

    def record(self, op: Operating, outcome: int, r_ns: int, error: str) -> None:
        """One line, in the form of :class:`~chaos.measure.history.Operation`. Never raises."""
        call = op.call
        kind, id_, node, timeline = 0, "null", "null", "null"
        if call is not None:
            kind = call.kind if type(call.kind) is int and 0 <= call.kind < self._kinds else 0
            node = self._nodes.get(call.node) or self._node(str(call.node))
            timeline = str(call.timeline) if type(call.timeline) is int and 0 <= call.timeline < 1 << 31 else "null"
            id_ = str(call.id) if call.is_write else "null"
        text = '""' if not error else _json_text(error)
        line = f'["o",{self._index},{op.k},{op.s_ns},{op.t_ns},{r_ns},{outcome},{kind},{id_},{node},{timeline},{text}]\n'
        self._scribe.add(line.encode("ascii"))

    def _node(self, name: str) -> str:
        if len(self._nodes) > 1000:
            self._nodes = {None: "null"}
        self._nodes[name] = text = _json_text(name)
        return text


class Worker:
    """One workload, from its spec to its end."""

    def __init__(self, spec: WorkerSpec, operation: OperationFunction, connect: ConnectFunction | None, *, stdin_open: bool) -> None:
        self._spec, self._operation, self._connect = spec, operation, connect
        self._watch_stdin = stdin_open
        self._file = LineFile(spec.history)
        self._scribe = Scribe(self._file, self.complain)
        self._surprises: set[tuple[str, str]] = set()
        self._stops = 0

    def complain(self, text: str) -> None:
        """One line on standard error, whatever became of it."""
        line = f"workload {self._spec.workload.name}: {' '.join(text.split())}\n"
        with contextlib.suppress(OSError):  # nobody reads it any more; the history is what counts
            os.write(2, line.encode("utf-8", "replace"))

    def surprise(self, err: BaseException) -> None:
        """Tell of an exception that looks like a mistake in the operation; once for each kind and place."""
        if not isinstance(err, _MISTAKES) or len(self._surprises) >= _SURPRISES:
            return
        frames = traceback.extract_tb(err.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
        if (type(err).__name__, place) not in self._surprises:
            self._surprises.add((type(err).__name__, place))
            self.complain(f"an operation raised {describe(err)} at {place}; recorded, and the workload goes on (said once)")

    async def run(self) -> int:
        """Run to the end; returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        work, spec = self._spec.workload, self._spec
        assert work.timeout_s is not None and work.connections is not None
        origin_ns = now_ns() + int(spec.origin_delay_s * NS)
        recorder = Recorder(self._scribe, spec)
        self._announce(origin_ns)
        plan = Plan(spec.index, work.rate_hz, int(work.timeout_s * NS), work.connections, work.params, origin_ns)
        self._open_loop = OpenLoop(plan, self._operation, self._connect, recorder.record, self.surprise)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop)
        self._watch_parent(loop)
        try:
            await self._open_loop.run()
        except Exception as err:  # noqa: BLE001 - whatever broke the schedule, the records so far must still be handed over
            self.complain(f"the loop failed: {''.join(traceback.format_exception(err))}")
            self._last_flush()
            return EXIT_LOOP
        self._open_loop.close()
        return self._last_flush()

    def _announce(self, origin_ns: int) -> None:
        work, timeout_s = self._spec.workload, self._spec.workload.timeout_s
        assert timeout_s is not None
        info = WorkloadInfo(
            index=self._spec.index,
            name=work.name,
            rate_hz=work.rate_hz,
            timeout_s=timeout_s,
            origin_ns=origin_ns,
            kinds=work.kinds,
            gated=work.gated,
            ledger=work.ledger,
            rto_s=work.rto_s,
        )
        data = cast("dict[str, Json]", msgspec.to_builtins(info))
        self._scribe.add(msgspec.json.encode(Event(now_ns(), "workload", data)) + b"\n")

    def _stop(self) -> None:
        self._stops += 1
        if self._stops == 1:
            self._open_loop.stop()
        else:
            self._open_loop.cut()

    def _orphaned(self) -> None:
        if not self._stops:
            self._stop()

    def _watch_parent(self, loop: asyncio.AbstractEventLoop) -> None:
        fd = self._spec.liveness_fd
        if fd is not None and (fd != 0 or self._watch_stdin) and _is_pipe(fd):

            def readable() -> None:
                try:
                    alive = bool(os.read(fd, 4096))
                except OSError:
                    alive = False
                if not alive:
                    loop.remove_reader(fd)
                    self._orphaned()

            loop.add_reader(fd, readable)
        if self._spec.parent_pid is not None:
            self._poll_parent(loop)

    def _poll_parent(self, loop: asyncio.AbstractEventLoop) -> None:
        if os.getppid() != self._spec.parent_pid:
            self._orphaned()
        else:
            loop.call_later(_PARENT_POLL_S, self._poll_parent, loop)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        err = context.get("exception")
        if isinstance(err, BaseException):
            self.surprise(err)
        elif len(self._surprises) < _SURPRISES:
            self._surprises.add(("", str(context.get("message"))))
            self.complain(str(context.get("message")))

    def _last_flush(self) -> int:
        lost = self._scribe.finish(_LAST_FLUSH_S)
        if not lost:
            return 0
        self.complain(f"history {self._file.path}: {self._file.trouble}; {lost} records are lost")
        return EXIT_UNWRITTEN


def _json_text(text: str) -> str:
    """``text`` as a JSON string in ASCII; lone surrogates, which no decoder takes, become question marks."""
    return json.dumps(text.encode("utf-8", "replace").decode())


def _is_pipe(fd: int) -> bool:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _take_precedence() -> None:
    """What measures must not wait its turn behind what is measured: real-time priority where this user may have it, elsewhere the
    shortest time slice, which anybody may ask for and by which Linux (6.12 and newer) runs whoever wakes up sooner. Where neither is to
    be had it waits, and starved drills come out INVALID."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_REAL_TIME_PRIORITY))
    except PermissionError:
        take_short_slices()


def main(argv: Sequence[str]) -> int:
    """Run the worker described by ``argv``; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _take_precedence()
    try:
        spec, stdin_open = read_spec(argv)
        sys.path.extend(path for path in spec.sys_path if path not in sys.path)
        loader = Loader()
        operation = cast("OperationFunction", loader.function(spec.workload.operation, "operation"))
        connect = cast("ConnectFunction", loader.function(spec.workload.connect, "connect")) if spec.workload.connect else None
        worker = Worker(spec, operation, connect, stdin_open=stdin_open)
    except (BadInput, OSError) as err:
        sys.stderr.write(" ".join(str(err).split()) + "\n")
        return EXIT_BAD_SPEC
    gc.collect()
    gc.freeze()  # what is loaded stays; the collector then has only the operations' own garbage to look at
    loop = asyncio.new_event_loop()
    return loop.run_until_complete(worker.run())


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # abandoned operations and their threads may never end, and must not keep this process
