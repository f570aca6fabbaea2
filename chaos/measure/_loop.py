"""The open loop: starts operation k at s_0 + k·Δ whatever became of the others, bounds each by τ, and says how each ended.

Definitions are those of ``docs/architecture.md`` (measuring). Knows nothing of files, processes or signals
(:mod:`chaos.measure.worker` does), and judges nothing. No client-side retry: an operation that fails has failed.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from chaos.core.clock import NS, now_ns
from chaos.core.model import Json
from chaos.measure.history import Outcome
from chaos.measure.workload import Call, Refused

OperationFunction: TypeAlias = Callable[[Call], Awaitable[None]]
ConnectFunction: TypeAlias = Callable[[Call], Awaitable[object]]

ID_STRIDE = 10**9
"""Operation k of workload w has the id ``w * ID_STRIDE + k``: unique over all workloads of a drill."""

_GRACE_S = 1.0  # how long an abandoned operation gets to notice its closed connection before it is cancelled
_DEAD = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL
_OK, _FAILED, _UNKNOWN, _UNSENT = int(Outcome.OK), int(Outcome.FAILED), int(Outcome.UNKNOWN), int(Outcome.UNSENT)


class Plan(msgspec.Struct, frozen=True):
    """What the loop needs of a workload; ``origin_ns`` is s_0 on the monotonic clock."""

    index: int
    rate_hz: float
    timeout_ns: int
    connections: int
    params: dict[str, Json]
    origin_ns: int


class Link:
    """One connection that ``connect`` made, with what the loop asks of it: ``close()``, and where it has them ``usable()`` and
    ``fileno()``. Whatever these raise counts as "dead"."""

    __slots__ = ("_fd", "_poll", "connection")

    def __init__(self, connection: object) -> None:
        self.connection = connection
        self._fd = -1
        self._poll: select.poll | None = None

    def usable(self) -> bool:
        """May another operation be sent on it? A peer that hung up while nothing was under way is seen here, without I/O."""
        try:
            usable = getattr(self.connection, "usable", None)
            if usable is not None and not usable():
                return False
            fileno = getattr(self.connection, "fileno", None)
            return fileno is None or not self._hung_up(fileno())
        except Exception:  # noqa: BLE001 - foreign code; a connection that cannot even be asked is not to be used
            return False

    def _hung_up(self, fd: int) -> bool:
        if self._poll is None or fd != self._fd:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLRDHUP)
            self._fd = fd
        return any(events & _DEAD for _, events in self._poll.poll(0))

    def close(self) -> str:
        """Abort it at once; returns the complaint of a ``close`` that raised, else ""."""
        close = getattr(self.connection, "close", None)
        try:
            if close is not None:
                close()
        except Exception as err:  # noqa: BLE001 - foreign code; the connection is given up whatever close says
            return describe(err)
        return ""


class Operating:
    """One operation under way."""

    __slots__ = ("call", "connecting", "deadline_ns", "k", "link", "s_ns", "settled", "t_ns", "task")

    def __init__(self, k: int, s_ns: int, deadline_ns: int) -> None:
        self.k, self.s_ns, self.deadline_ns = k, s_ns, deadline_ns
        self.t_ns = 0
        self.call: Call | None = None
        self.link: Link | None = None
        self.task: asyncio.Task[None] | None = None
        self.connecting = False
        self.settled = False


Record: TypeAlias = Callable[[Operating, int, int, str], None]
"""``record(operation, outcome, r_ns, error)``; called exactly once for each settled operation."""


def describe(err: BaseException) -> str:
    """One short line for an exception: its type, and what it says."""
    text = " ".join(str(err).split())
    name = type(err).__name__
    return (f"{name}: {text}" if text else name)[:200]


class OpenLoop:
    """Runs one workload until :meth:`stop`. To be made, and used, inside a running event loop.

    ``connections`` slots: an operation takes an idle connection (the one that rested longest, so that none grows stale unseen), else
    a free slot and connects itself, else waits for a slot until s_k + τ and is then unsent. ``surprise`` is told of exceptions
    that look like mistakes in the operation.
    """

    def __init__(
        self,
        plan: Plan,
        operation: OperationFunction,
        connect: ConnectFunction | None,
        record: Record,
        surprise: Callable[[BaseException], None],
    ) -> None:
        self._plan, self._operation, self._connect = plan, operation, connect
        self._record, self._surprise = record, surprise
        self._state: dict[str, object] = {}
        self._delta_ns = NS / plan.rate_hz
        self._next_k, self._next_s_ns = 0, plan.origin_ns
        self._free = plan.connections
        self._idle: deque[Link] = deque()
        self._waiting: deque[Operating] = deque()
        self._inflight: deque[Operating] = deque()  # in order of t, hence of deadline; settled ones leave it from the left
        self._under_way = 0
        self._abandoned: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._wake_ns = 0
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()

    @property
    def scheduled(self) -> int:
        """How many operations have come due so far."""
        return self._next_k

    async def run(self) -> None:
        """Until :meth:`stop` has been called and every operation that came due before has settled."""
        self._arm()
        await self._finished

    def stop(self) -> None:
        """Schedule no more. What is under way keeps its τ."""
        self._stopping = True
        self._finish_if_drained()

    def cut(self) -> None:
        """Stop now: what was sent and not answered is recorded as unknown, what waits for a slot is dropped."""
        self._stopping = True
        self._waiting.clear()
        for op in list(self._inflight):
            if not op.settled:
                self._give_up(op, now_ns(), "the workload was stopped")
        self._finish_if_drained()

    def close(self) -> None:
        """Abort what is left: idle connections and operations that were abandoned."""
        for link in self._idle:
            link.close()
        self._idle.clear()
        for task in self._abandoned:
            task.cancel()

    def _finish_if_drained(self) -> None:
        if self._stopping and not self._under_way and not self._waiting and not self._finished.done():
            if self._timer is not None:
                self._timer.cancel()
            self._finished.set_result(None)

    # -- schedule ------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        wakes = [] if self._stopping else [self._next_s_ns]
        if self._inflight:
            wakes.append(self._inflight[0].deadline_ns)
        if self._waiting:
            wakes.append(self._waiting[0].deadline_ns)
        if not wakes:
            return
        wake_ns = min(wakes)
        if self._timer is not None:
            if self._wake_ns <= wake_ns:
                return
            self._timer.cancel()
        self._wake_ns = wake_ns
        self._timer = self._loop.call_at((wake_ns + 1_000) / NS, self._tick)  # 1 µs late: never early by a rounding

    def _tick(self) -> None:
        try:
            self._advance(now_ns())
        except BaseException as err:  # noqa: BLE001 - handed to run(), which raises it: a schedule that died must not look idle
            if not self._finished.done():
                self._finished.set_exception(err)

    def _advance(self, now: int) -> None:
        self._timer = None
        self._expire(now)
        if not self._stopping:
            tau = self._plan.timeout_ns
            while self._next_s_ns <= now:
                self._dispatch(Operating(self._next_k, self._next_s_ns, self._next_s_ns + tau))
                self._next_k += 1
                self._next_s_ns = self._plan.origin_ns + round(self._next_k * self._delta_ns)
        self._arm()
        self._finish_if_drained()

    def _expire(self, now: int) -> None:
        inflight, waiting = self._inflight, self._waiting
        while inflight and (inflight[0].settled or inflight[0].deadline_ns <= now):
            op = inflight.popleft()
            if not op.settled:
                self._give_up(op, now, f"no answer within {self._plan.timeout_ns / NS:g} s")
        while waiting and waiting[0].deadline_ns <= now:
            self._unsent(waiting.popleft())

    def _unsent(self, op: Operating) -> None:
        op.t_ns = now_ns()
        op.settled = True
        self._record(op, _UNSENT, op.t_ns, "no connection was free")

    def _dispatch(self, op: Operating) -> None:
        if self._waiting or not self._take_slot(op):
            self._waiting.append(op)
        else:
            self._start(op)

    def _take_slot(self, op: Operating) -> bool:
        while self._idle:
            link = self._idle.popleft()
            if link.usable():
                op.link = link
                return True
            self._drop(link)
        if self._free:
            self._free -= 1
            return True
        return False

    def _drop(self, link: Link) -> None:
        link.close()
        self._free += 1

    def _start(self, op: Operating) -> None:
        op.call = Call(self._plan.params, self._state, op.k, self._plan.index * ID_STRIDE + op.k)
        self._under_way += 1
        op.task = self._loop.create_task(self._run(op))

    def _feed(self) -> None:
        now = now_ns()
        while self._waiting:
            op = self._waiting[0]
            if op.deadline_ns <= now:
                self._unsent(self._waiting.popleft())
            elif self._take_slot(op):
                self._start(self._waiting.popleft())
            else:
                return

    # -- one operation -------------------------------------------------------------------------------------------------

    async def _run(self, op: Operating) -> None:
        call = op.call
        assert call is not None
        op.t_ns = now_ns()
        op.deadline_ns = op.t_ns + self._plan.timeout_ns
        self._inflight.append(op)
        if op.deadline_ns < self._wake_ns or self._timer is None:
            self._arm()
        try:
            if op.link is None and self._connect is not None:
                op.connecting = True
                link = Link(await self._connect(call))
                if op.settled:  # given up meanwhile: nobody else knows this connection
                    link.close()
                    return
                op.link, op.connecting = link, False
            if op.link is not None:
                call.connection = op.link.connection
            await self._operation(call)
        except Refused as err:
            self._settle(op, _FAILED, describe(err) if not err.args else " ".join(str(err).split())[:200])
        except BaseException as err:  # noqa: BLE001 - foreign code may raise anything, SystemExit too; the record must go on
            self._failed(op, err)
        else:
            self._settle(op, _OK, "")

    def _failed(self, op: Operating, err: BaseException) -> None:
        if op.settled:
            return
        if not isinstance(err, OSError):
            self._surprise(err)
        self._settle(op, _FAILED if op.connecting else _UNKNOWN, describe(err), broken=True)

    def _settle(self, op: Operating, outcome: int, error: str, *, broken: bool = False) -> None:
        if op.settled:
            return
        op.settled = True
        self._record(op, outcome, now_ns(), error)
        self._under_way -= 1
        link = op.link
        if link is None:
            self._free += 1
        elif broken:
            self._drop(link)
        else:
            self._idle.append(link)
        if self._waiting:
            self._feed()
        if self._stopping:
            self._finish_if_drained()

    def _give_up(self, op: Operating, now: int, why: str) -> None:
        """Record, close abortively, free the slot at once. Never waits for the operation: cancelling one can block for seconds
        (psycopg's sends a cancel request and waits for it), closing its connection makes it end by itself."""
        op.settled = True
        task = op.task
        assert task is not None
        self._record(op, _FAILED if op.connecting else _UNKNOWN, now, ("connecting: " if op.connecting else "") + why)
        self._under_way -= 1
        self._free += 1
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)
        if op.link is None:
            task.cancel()
        else:
            op.link.close()
            self._loop.call_later(_GRACE_S, task.cancel)
        if self._waiting:
            self._feed()
