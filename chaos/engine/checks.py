"""``drill.check``: what must hold now, or within a time. What does not hold is a finding of the drill, not an error of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable

from chaos.core.acts import CheckRecord
from chaos.core.clock import NS, now_ns
from chaos.core.durations import parse_duration_s
from chaos.core.errors import BadInput, CheckFailed
from chaos.core.model import Json
from chaos.engine.acting import OUR_OWN, Acting, TimeIsUp, said, shortened

AT_ONCE_S = 60.0


class Checks:
    """The checks of one drill, in the order in which they were made."""

    def __init__(self, acting: Acting) -> None:
        self._acting = acting
        self.records: list[CheckRecord] = []

    def run(self, name: str, function: Callable[[], object], within: str | float | None) -> str:
        """What ``function`` saw. Without ``within`` it is asked once, and has a minute to answer.

        Raises:
            CheckFailed: it did not hold. Mistakes in the function itself (a wrong name, a wrong type) are raised as they are.
        """
        if not name or not callable(function):
            raise BadInput(f"check({name!r}) needs a name and a function that returns what it saw", observed=repr(function))
        within_s = None if within is None else parse_duration_s(within, what=f"within of check {name!r}")
        began_ns, attempts, seen = now_ns(), 0, "no answer in time"
        deadline_ns = began_ns + int((AT_ONCE_S if within_s is None else within_s) * NS)
        while True:
            attempts += 1
            held, said_now = self._ask(name, function, deadline_ns)
            seen = said_now or seen  # where the time is up in the middle of an attempt, the last answer tells more
            if held or within_s is None or now_ns() >= deadline_ns:
                break
            self._acting.tick(f"checking {name}", until=threading.Event())
        record = CheckRecord(name, held, seen, began_ns, now_ns(), attempts, within_s)
        self._keep(record)
        if not held:
            raise CheckFailed(check_words(record))
        return seen

    def _ask(self, name: str, function: Callable[[], object], deadline_ns: int) -> tuple[bool, str]:
        left_s = max((deadline_ns - now_ns()) / NS, 0.05)
        try:
            seen = self._acting.aside(f"checking {name}", function, timeout_s=left_s)
        except OUR_OWN:
            raise
        except TimeIsUp:
            return False, ""
        except Exception as err:  # noqa: BLE001  (whatever a check raises says that it does not hold)
            return False, said(err)
        if seen is False:
            return False, "it said False"
        return True, shortened(" ".join(str(seen).split())) if seen not in (None, True) else "it holds"

    def _keep(self, record: CheckRecord) -> None:
        self.records.append(record)
        data: dict[str, Json] = {"name": record.name, "held": record.held, "seen": record.seen, "attempts": record.attempts}
        self._acting.event("check", data | {"began_ns": record.began_ns}, record.ended_ns)
        self._acting.say(f"check {record.name}: {record.seen}" if record.held else check_words(record))


def check_words(record: CheckRecord) -> str:
    """The sentence that says what did not hold."""
    within = "" if record.within_s is None else f" within {record.within_s:g} s"
    return f"the check {record.name!r} did not hold{within}: {record.seen}"
