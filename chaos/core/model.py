"""Frozen data that every layer shares: who (node references), what happened (fault records), what it means (verdicts).

No behaviour beyond small derivations and no I/O. Times are nanoseconds of the monotonic clock (``*_ns``) until they
enter a report, where they become seconds from the drill's start.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
else:
    Json = Any  # decoders resolve annotations when they run, and cannot follow a type that names itself


class Verdict(StrEnum):
    """Outcome of a drill or of one objective. Only ``PASS`` passes."""

    PASS = "PASS"
    INCONCLUSIVE = "INCONCLUSIVE"
    FAIL = "FAIL"
    INVALID = "INVALID"
    ABORTED = "ABORTED"


_BADNESS = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.FAIL: 2, Verdict.INVALID: 3, Verdict.ABORTED: 4}


def badness(verdict: Verdict) -> int:
    """Its rank among the verdicts, PASS being 0."""
    return _BADNESS[verdict]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of ``verdicts``: ABORTED > INVALID > FAIL > INCONCLUSIVE > PASS; PASS where there is none.

    A *proven loss* is FAIL whatever else holds: that rule needs the findings and lives in the checker.
    """
    return max(verdicts, key=_BADNESS.__getitem__, default=Verdict.PASS)


class Interval(msgspec.Struct, frozen=True):
    """The truth lies in ``[lo, hi]`` (seconds unless its owner says otherwise); ``hi`` None: no upper bound was seen."""

    lo: float
    hi: float | None

    def __add__(self, other: Interval) -> Interval:
        hi = None if self.hi is None or other.hi is None else self.hi + other.hi
        return Interval(self.lo + other.lo, hi)


class NodeRef(msgspec.Struct, frozen=True):
    """Names a node without holding it: survives serialisation, process death and the node's own restart.

    ``locator`` is what the environment needs to find the node again (a container id, a socket path).
    """

    environment: str
    system: str
    name: str
    locator: dict[str, str] = {}

    def __str__(self) -> str:
        return f"{self.environment}/{self.system}/{self.name}"


class Step(msgspec.Struct, frozen=True):
    """One act that puts a node back, so plain that something beside the node can do it when nothing of ours is left.

    ``do`` is one of :data:`STEPS`; ``argument`` the service of ``start_service``, the tag of ``undrop``, or the POSIX shell script of
    ``shell`` (run on the node as its administrator). Every step is idempotent and a no-op where nothing was done.
    """

    node: str
    do: str
    argument: str = ""


STEPS = ("power_on", "thaw", "start_service", "undrop", "shell")


class Undo(msgspec.Struct, frozen=True):
    """Everything that is needed to put one fault back, as data. Written to the journal before the effect.

    ``prior`` is the state found on the nodes before; ``params`` are the fault's own parameters. ``steps`` is what a dead-man's switch
    does, in this order, when nobody extends it any more; a fault that declares the net ``dead-man`` always fills it.
    """

    fault_id: str
    kind: str
    version: int
    nodes: tuple[NodeRef, ...]
    params: dict[str, Json]
    prior: dict[str, Json]
    steps: tuple[Step, ...] = ()


class Proof(msgspec.Struct, frozen=True):
    """One observation that an effect is there (landed) or gone (healed). ``observed_ns`` is when it was seen."""

    observed_ns: int
    text: str


class FaultState(StrEnum):
    """Life of a fault. The history has every transition but the last two; the journal has planned (the intent), armed (where there is a
    dead-man's switch), landed, heal_issued, verified, and those two: an attempt to heal that failed, and a person's word that what is
    left is known and accepted."""

    PLANNED = "planned"
    ARMED = "armed"
    ISSUED = "issued"
    LANDED = "landed"
    HEAL_ISSUED = "heal_issued"
    HEALED = "healed"
    VERIFIED = "verified"
    HEAL_FAILED = "heal_failed"
    ACKNOWLEDGED = "acknowledged"


class FaultRecord(msgspec.Struct, frozen=True):
    """One fault of a drill with the time of every state it reached (None: never reached)."""

    fault_id: str
    kind: str
    nodes: tuple[str, ...]
    params: dict[str, Json]
    cause: bool = False
    rto_from_heal: bool = False
    planned_ns: int | None = None
    armed_ns: int | None = None
    issued_ns: int | None = None
    landed_ns: int | None = None
    heal_issued_ns: int | None = None
    healed_ns: int | None = None
    verified_ns: int | None = None
    landed_proof: str = ""
    healed_proof: str = ""


class Phase(msgspec.Struct, frozen=True):
    """A named stretch of the drill; ``end_ns`` None while it runs."""

    name: str
    begin_ns: int
    end_ns: int | None = None


class Finding(msgspec.Struct, frozen=True):
    """One reason for a verdict. ``code`` is stable and short (``rpo``, ``rto``, ``availability``, ``landed``,
    ``control``, ``starved``, ``ledger``, ``healed``, ``error``, …): it is what ``because=`` names. ``text`` is one sentence."""

    code: str
    verdict: Verdict
    text: str


class Budget(msgspec.Struct, frozen=True):
    """The objectives of a drill; None: not judged.

    ``rpo_count`` bounds lost writes, ``rpo_s`` the time they span (only one of the two is set). ``rto_from`` is
    ``"fault"`` or ``"heal"``. ``latency_p99_s`` and ``error_rate`` bound what clients see from the fault to its heal, ``baseline_s`` the
    time after the heal until latency is what it was before, ``mttd_s`` the time until a signal (by its name) fires.
    """

    rto_s: float | None = None
    rpo_count: int | None = None
    rpo_s: float | None = None
    availability: float | None = None
    rto_from: str = "fault"
    latency_p99_s: float | None = None
    error_rate: float | None = None
    baseline_s: float | None = None
    mttd_s: dict[str, float] = {}


class Expectation(msgspec.Struct, frozen=True):
    """What the drill must come out as: broken twins expect FAIL or INVALID, for the finding named by ``because``."""

    verdict: Verdict = Verdict.PASS
    because: str = ""
