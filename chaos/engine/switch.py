"""The kill switch: one look at every place where somebody may have said "stop". It stops nothing itself (see ``watch``).

Places: a file ``STOP`` in the drill directory, in the state directory and in the environment's own part of it; a further file and variable
named in ``gameday.toml``; the variable ``GAMEDAY_STOP``; and the environment itself, where its provider keeps such an object.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from chaos.core.clock import utc_label, utc_now
from chaos.core.errors import GamedayError
from chaos.environments.standing import HoldsStop

FILE = "STOP"
VARIABLE = "GAMEDAY_STOP"
_OFF = ("", "0", "false", "no", "off")


class StopNote(msgspec.Struct, frozen=True):
    """What ``gameday stop`` writes. A file that somebody touched, or wrote a word into, stops as well."""

    by: str
    reason: str
    utc: str


class KillSwitch:
    """All the places that hold for one drill. :meth:`engaged` is cheap, apart from asking the environment."""

    def __init__(
        self,
        files: Iterable[Path] = (),
        variables: Iterable[str] = (VARIABLE,),
        environment: object = None,
        values: Mapping[str, str] | None = None,
    ) -> None:
        self._files, self._variables = tuple(dict.fromkeys(files)), tuple(dict.fromkeys(variables))
        self._environment = environment
        self._values = os.environ if values is None else values

    @property
    def reaches_out(self) -> bool:
        """Does the environment keep a switch of its own?"""
        return isinstance(self._environment, HoldsStop)

    def engaged(self) -> str:
        """Where it is on and why, or "". Never raises; what cannot be read counts as on."""
        return self.engaged_here() or self.engaged_there()

    def engaged_here(self) -> str:
        """Files and variables: what is on this machine."""
        for variable in self._variables:
            if (value := self._values.get(variable, "")).strip().lower() not in _OFF:
                return f"${variable} is set ({value})"
        for file in self._files:
            if said := _stop_file(file):
                return said
        return ""

    def engaged_there(self) -> str:
        """The object in the environment itself. Takes as long as the provider does."""
        if not isinstance(self._environment, HoldsStop):
            return ""
        try:
            said = self._environment.stop_requested()
        except (GamedayError, OSError) as err:
            return f"the environment's own kill switch cannot be read, which counts as on: {err}"
        return f"the environment says: {said}" if said else ""


def engage(file: Path, *, by: str, reason: str) -> None:
    """Put the file there, whole or not at all. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    with beside.open("wb") as out:
        out.write(msgspec.json.encode(StopNote(by, reason, utc_label(utc_now()))) + b"\n")
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)


def disengage(file: Path) -> bool:
    """Take it away; was it there? Raises OSError."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True


def _stop_file(file: Path) -> str:
    try:
        content = file.read_bytes()[:1000]
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as err:
        return f"{file} cannot be read, which counts as on: {err.strerror}"
    try:
        note = msgspec.json.decode(content, type=StopNote)
    except (msgspec.DecodeError, ValueError):
        words = " ".join(content.decode(errors="replace").split())
        return f"{file} is there" + (f": {words}" if words else "")
    return f"{file}: {note.by} at {note.utc}" + (f": {note.reason}" if note.reason else "")
