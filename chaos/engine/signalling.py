"""``drill.signal``: watches something that should notice a fault (an alert, a status page), look by look, in a thread of its own.

Every look goes into the history as a ``probe``; how long the signal took is worked out from those (:mod:`chaos.measure.detection`), here
nothing is. Not to be confused with :mod:`chaos.engine.signals`, which is about the kernel's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from chaos.core.clock import NS, now_ns
from chaos.core.durations import parse_duration_s
from chaos.core.errors import BadInput
from chaos.engine.acting import Acting, said

JOIN_S = 2.0


class Signal:
    """One signal that is being watched. A look that raises says nothing: neither quiet nor firing."""

    def __init__(self, name: str, poll: Callable[[], bool], every_s: float, acting: Acting) -> None:
        if not name or not callable(poll) or not every_s > 0:
            raise BadInput(f"signal({name!r}) needs a name, a function that says whether it fires, and every_s of more than 0")
        self.name, self._poll, self._every_s, self._acting = name, poll, every_s, acting
        self._fired, self._stop, self._writing = threading.Event(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, name=f"gameday signal {name}", daemon=True)
        self._thread.start()

    @property
    def fired(self) -> bool:
        """Has it fired since it is being watched?"""
        return self._fired.is_set()

    def wait_fired(self, timeout: str | float) -> bool:
        """Let the drill go on until it fires, for ``timeout`` at most (``"20s"``, seconds). False where it did not; with a budget
        (``mttd=``) the verdict says the same."""
        until_ns = now_ns() + int(parse_duration_s(timeout, what=f"timeout of signal {self.name!r}") * NS)
        while not self.fired and now_ns() < until_ns:
            self._acting.tick(f"waiting for the signal {self.name}", until=self._fired)
        return self.fired

    def stop(self) -> None:
        """No more looks, and nothing more in the history. Idempotent."""
        with self._writing:
            self._stop.set()
        self._thread.join(JOIN_S)  # one that hangs in its look writes nothing any more, and ends with the process

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._look()
            self._stop.wait(self._every_s)

    def _look(self) -> None:
        began_ns, firing, value = now_ns(), None, ""
        try:
            firing = bool(self._poll())
            value = "firing" if firing else "quiet"
        except Exception as err:  # noqa: BLE001  (whatever it is, it was no look)
            value = said(err)
        ended_ns = now_ns()
        with self._writing:
            if self._stop.is_set():
                return
            self._acting.event("probe", {"name": self.name, "value": value, "firing": firing, "began_ns": began_ns}, ended_ns)
        if firing and not self._fired.is_set():
            self._fired.set()
            self._acting.say(f"signal {self.name}: fires")


class SignalsWatched:
    """The signals of one drill."""

    def __init__(self, acting: Acting) -> None:
        self._acting = acting
        self._all: dict[str, Signal] = {}

    def watch(self, name: str, poll: Callable[[], bool], every_s: float) -> Signal:
        """Begin to watch. Raises BadInput for a name that is taken."""
        if name in self._all:
            raise BadInput(f"two signals named {name!r} in one drill")
        self._all[name] = Signal(name, poll, every_s, self._acting)
        return self._all[name]

    def stop(self) -> None:
        for signal in self._all.values():
            signal.stop()
