"""What signals mean while drills run: an orderly end, never a fault left behind.

SIGTERM and SIGHUP end a run as Ctrl-C does. While something is being put back every signal waits (:meth:`Signals.shield`), however often
it comes. A drill may be aborted from another thread (:meth:`Signals.abort`), also where its test sleeps. Works in the main thread of a
process only, as signals do; elsewhere nothing is installed, and the healer is the net that holds.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ABORT = signal.SIGURG  # by default ignored, so that one that comes too late does no harm; a blocking call is left when it comes


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, as an interruption: teardown runs."""


class Aborted(BaseException):
    """The drill must end now: a stop condition, the kill switch, or a net that is gone. No :class:`Exception`, so that a test that
    swallows errors does not swallow this."""


def _no_word(_: str) -> None:
    """Nobody is told that a signal waits."""


class Signals:
    """One per process. ``install`` and ``uninstall`` in the main thread."""

    def __init__(self) -> None:
        self._previous: dict[int, Handler] = {}
        self._depth = 0
        self._pending: BaseException | None = None
        self._say: Callable[[str], None] = _no_word
        self._exposed = False
        self._reason = ""
        self._thread = threading.get_ident()

    @property
    def installed(self) -> bool:
        return bool(self._previous)

    def install(self) -> None:
        """A no-op in any thread but the main one, and where it was done already."""
        if self.installed or threading.current_thread() is not threading.main_thread():
            return
        self._thread = threading.get_ident()
        for number in (*ENDING, ABORT):
            self._previous[number] = signal.getsignal(number)
            if number != signal.SIGHUP or self._previous[number] != signal.SIG_IGN:  # nohup: who asked for that gets it
                signal.signal(number, self._received)

    def uninstall(self) -> None:
        """Everything as it was."""
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._previous.clear()

    @contextlib.contextmanager
    def shield(self, say: Callable[[str], None] = _no_word) -> Iterator[None]:
        """Whatever comes waits until the end of the outermost block, and is raised there unless the block raises itself."""
        outer, self._say = self._say, say
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._say = outer
        if self._depth == 0 and self._pending is not None:
            pending, self._pending = self._pending, None
            raise pending

    def expose(self) -> None:
        """A drill begins: from here to :meth:`cover`, :meth:`abort` raises :class:`Aborted` in the main thread."""
        self._exposed, self._reason = True, ""

    def cover(self) -> None:
        """It is being judged: what comes now comes too late to abort it."""
        self._exposed = False

    def abort(self, reason: str) -> None:
        """From any thread: end the running drill. A no-op where none runs."""
        self._reason = self._reason or reason
        if self.installed and self._exposed:
            signal.pthread_kill(self._thread, ABORT)

    @property
    def reason(self) -> str:
        """Why the running drill was aborted; "" where it was not."""
        return self._reason

    def _received(self, number: int, frame: FrameType | None) -> None:
        if number == ABORT:
            if self._exposed:
                self._exposed = False  # once is enough
                self._raise(Aborted(self._reason))
            return
        self._raise(KeyboardInterrupt() if number == signal.SIGINT else Terminated(signal.Signals(number).name))

    def _raise(self, error: BaseException) -> None:
        if self._depth == 0:
            raise error
        if self._pending is None or isinstance(self._pending, Aborted):
            self._pending = error
        self._say("a signal came; what was broken is being put back first")
