"""What checks, signals and runbooks need of the drill that they are part of, and how their work runs beside its display.

Work runs in a thread of its own, so that the drill goes on taking in what its workloads write. A thread cannot be ended: where the
time is up or a signal comes, the drill goes on without it, and ``cancel`` ends what the work itself had started.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from chaos.core.clock import NS, now_ns
from chaos.core.errors import BadInput, DeadlineExceeded, EnvironmentGone, Unavailable
from chaos.core.model import Json, NodeRef
from chaos.environments.base import Node

T = TypeVar("T")
# A mistake in the drill itself, or something that no drill can mend: it ends the test as what it is, and says nothing of the system.
OUR_OWN = (AttributeError, ImportError, NameError, SyntaxError, TypeError, BadInput, Unavailable, EnvironmentGone)
TEXT_MOST = 600


class TimeIsUp(DeadlineExceeded):
    """What the drill waited for was not done in time; not to be confused with a deadline inside of it."""


class Tick(Protocol):
    """Takes in what the workloads wrote and shows a frame where one is due; lasts until ``until`` is set, at most a moment."""

    def __call__(self, what: str, *, until: threading.Event) -> None: ...


class Note(Protocol):
    """Writes one event into the history."""

    def __call__(self, type: str, data: dict[str, Json], t_ns: int | None = None) -> None: ...


@dataclass(frozen=True)
class Acting:
    """The drill as its parts see it."""

    tick: Tick
    event: Note
    say: Callable[[str], None]
    phase: Callable[[str], AbstractContextManager[None]]
    resolve: Callable[[NodeRef], Node]

    def aside(self, what: str, work: Callable[[], T], *, timeout_s: float | None = None, cancel: Callable[[], None] | None = None) -> T:
        """What ``work`` returns; whatever it raises is raised here.

        Raises:
            TimeIsUp: it was not done after ``timeout_s`` seconds.
        """
        side = _Side(work, what)
        deadline_ns = None if timeout_s is None else now_ns() + int(timeout_s * NS)
        try:
            while not side.done.is_set():
                if deadline_ns is not None and now_ns() >= deadline_ns:
                    raise TimeIsUp(f"it was not done after {timeout_s:g} s")
                self.tick(what, until=side.done)
        finally:
            if not side.done.is_set() and cancel is not None:
                cancel()
        return side.result()


class _Side(Generic[T]):
    """A thread with an outcome."""

    def __init__(self, work: Callable[[], T], name: str) -> None:
        self.done = threading.Event()
        self._work, self._found, self._error = work, [], None  # type: tuple[Callable[[], T], list[T], BaseException | None]
        threading.Thread(target=self._run, name=f"gameday {name}", daemon=True).start()

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as err:  # noqa: BLE001  (raised where it is waited for)
            self._error = err
        finally:
            self.done.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._found[0]


def said(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing of its own."""
    text = " ".join(str(error).split())
    plain = isinstance(error, AssertionError) or type(error).__module__.startswith("chaos.")
    if not text:
        return type(error).__name__
    return shortened(text if plain else f"{type(error).__name__}: {text}")


def shortened(text: str) -> str:
    """At most ``TEXT_MOST`` characters: of a long text its end, which is where programs say what went wrong."""
    return text if len(text) <= TEXT_MOST else f"… {text[-TEXT_MOST:]}"
