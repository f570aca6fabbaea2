"""What watches over a running drill, in threads of its own: stop conditions, kill switch, the lease's heartbeat.

The first reason to stop is told, once; stopping is the drill's own business (``signals``)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from chaos.core.errors import GamedayError
from chaos.engine.conditions import Condition, Reading
from chaos.engine.lease import LeaseHolder, LeaseLost
from chaos.engine.switch import KillSwitch

SWITCH_EVERY_S = 0.2
ENDS_WITHIN_S = 2.0
MISSED_HEARTBEATS = 2


class Watch:
    """Threads that look until :meth:`close`. ``fired`` is told the first reason to stop, in one of those threads."""

    def __init__(self, fired: Callable[[str], None]) -> None:
        self._fired, self._told = fired, False
        self._lock, self._end = threading.Lock(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._conditions_on = False

    def over_switch(self, switch: KillSwitch) -> None:
        """Files and variables every 0.2 s; the environment's own object in a thread of its own, since it may take longer."""
        self._every(SWITCH_EVERY_S, lambda: _prefixed("kill switch: ", switch.engaged_here()), "kill switch")
        if switch.reaches_out:
            self._every(SWITCH_EVERY_S, lambda: _prefixed("kill switch: ", switch.engaged_there()), "kill switch there")

    def over_lease(self, holder: LeaseHolder) -> None:
        """Renew it at every heartbeat; losing it, or failing to renew it twice running, is a reason to stop."""
        self._every(holder.heartbeat_s, _Heartbeat(holder), "lease", at_once=False)

    def over_conditions(self, conditions: Sequence[Condition]) -> None:
        """From now on, each in a thread of its own. A no-op the second time."""
        if self._conditions_on:
            return
        self._conditions_on = True
        for condition in conditions:
            self._every(condition.poll_s, _reader(condition), condition.name, at_once=False)

    def close(self) -> None:
        """End all of them; one that hangs in a look is left behind (a daemon) and no longer listened to."""
        self._end.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(ENDS_WITHIN_S)

    def _every(self, interval_s: float, look: Callable[[], str], name: str, *, at_once: bool = True) -> None:
        def watch() -> None:
            wait_s = 0.0 if at_once else interval_s
            while not self._end.wait(wait_s):
                wait_s = interval_s
                if reason := look():
                    self._tell(reason)
                    return

        thread = threading.Thread(target=watch, name=f"gameday {name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _tell(self, reason: str) -> None:
        with self._lock:
            if self._told or self._end.is_set():
                return
            self._told = True
        self._fired(reason)


class _Heartbeat:
    """One heartbeat a call; the reason to stop, or nothing."""

    def __init__(self, holder: LeaseHolder) -> None:
        self._holder, self._missed = holder, 0

    def __call__(self) -> str:
        try:
            self._holder.renew()
        except LeaseLost as err:
            return f"lease: {err}"
        except (GamedayError, OSError) as err:
            self._missed += 1
            return f"lease: {self._missed} heartbeats could not be written: {err}" if self._missed >= MISSED_HEARTBEATS else ""
        self._missed = 0
        return ""


def _reader(condition: Condition) -> Callable[[], str]:
    return lambda: words_of(reading) if (reading := condition.read()).fired else ""


def words_of(reading: Reading) -> str:
    """For people."""
    return f"stop condition {reading.name}: {reading.text}"


def _prefixed(prefix: str, text: str) -> str:
    return f"{prefix}{text}" if text else ""
