"""Time to detect, per signal, from the looks that the history holds. Pure.

A *look* begins and ends; it saw the signal quiet or firing at some instant between, or could not see it. With q the last quiet look
before the first firing one f, and the fault that is its cause (the last one issued before f ended; one that is named as the cause first):
the signal began to fire within ``(q.began, f.ended]``, hence MTTD lies in ``[max(0, q.began − landed), f.ended − issued]``.

A signal proves nothing (INVALID) that was never seen quiet before it fired, or that fired before the fault; one that never fired has FAILED
its budget, however long it was watched, and the finding says how long that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from chaos.core.clock import NS
from chaos.core.model import Finding, Interval, Verdict
from chaos.measure.history import Event
from chaos.measure.outage import Mark, cause_of
from chaos.measure.result import Detection, ObjectiveResult
from chaos.measure.words import spans, spelled, within


class Look(NamedTuple):
    """One look at a signal; ``firing`` None: it could not be seen."""

    began_ns: int
    ended_ns: int
    firing: bool | None
    value: str


def looks_of(events: Iterable[Event]) -> dict[str, list[Look]]:
    """Every signal's looks, in their order."""
    found: dict[str, list[Look]] = {}
    for event in events:
        if event.type == "probe":
            data: dict[str, Any] = event.data
            found.setdefault(str(data["name"]), []).append(
                Look(int(data.get("began_ns", event.t)), event.t, data.get("firing"), str(data.get("value", "")))
            )
    return {name: sorted(looks) for name, looks in found.items()}


def detect(name: str, looks: Sequence[Look], marks: Sequence[Mark]) -> Detection:
    """What the looks at one signal say about the faults."""
    fired = next((look for look in looks if look.firing), None)
    quiet = next((look for look in reversed(looks) if look.firing is False and (fired is None or look.began_ns < fired.began_ns)), None)
    unseen = [look for look in looks if look.firing is None]
    found = Detection(name=name, looks=len(looks), unseen=len(unseen), last_unseen=unseen[-1].value if unseen else "")
    if not marks:
        return _replaced(found, problem="no fault was issued")
    if fired is not None and fired.ended_ns <= marks[0].issued_ns:
        return _replaced(found, fired_ns=fired.ended_ns, problem="it fired before the fault was issued")
    if quiet is None:
        return _replaced(found, problem="it was never seen quiet, so that nothing is known of when it began to fire")
    if fired is None:
        mark = cause_of(marks, None)
        seen_s = max(0, quiet.began_ns - mark.landed_ns) / NS
        return _replaced(found, mttd=Interval(seen_s, None))
    mark = cause_of(marks, fired.ended_ns)
    mttd = Interval(max(0, quiet.began_ns - mark.landed_ns) / NS, (fired.ended_ns - mark.issued_ns) / NS)
    return _replaced(found, fired_ns=fired.ended_ns, mttd=mttd)


def _replaced(found: Detection, *, fired_ns: int | None = None, mttd: Interval | None = None, problem: str = "") -> Detection:
    return Detection(found.name, found.looks, found.unseen, found.last_unseen, fired_ns, mttd, problem)


def judge_detections(
    events: Iterable[Event], marks: Sequence[Mark], budgets: Mapping[str, float]
) -> tuple[list[Detection], tuple[list[ObjectiveResult], list[Finding]]]:
    """Every signal that was watched, and those with a budget held against it."""
    found = [detect(name, looks, marks) for name, looks in looks_of(events).items()]
    objectives: list[ObjectiveResult] = []
    findings: list[Finding] = []
    for name, budget_s in budgets.items():
        one = next((detection for detection in found if detection.name == name), None)
        if one is None or one.mttd is None:
            why = "it was never watched (drill.signal)" if one is None else one.problem
            if one is not None and one.unseen:
                why += f"; {spelled(one.unseen, 'look')} of {one.looks} saw nothing, the last: {one.last_unseen}"
            findings.append(Finding("mttd", Verdict.INVALID, f"the signal {name!r} proves nothing: {why}"))
            continue
        verdict, text = _verdict(one, one.mttd, budget_s)
        objectives.append(ObjectiveResult("mttd", budget_s, one.mttd.lo, one.mttd.hi, "s", verdict, subject=name))
        findings += [Finding("mttd", verdict, text)] if text else []
    return found, (objectives, findings)


def _verdict(one: Detection, mttd: Interval, budget_s: float) -> tuple[Verdict, str]:
    if mttd.hi is None:
        text = f"the signal {one.name!r} never fired: it was watched for {within(mttd.lo)} after the fault (budget {budget_s:g} s)"
        return Verdict.FAIL, text
    if mttd.hi <= budget_s:
        return Verdict.PASS, ""
    verdict = Verdict.FAIL if mttd.lo > budget_s else Verdict.INCONCLUSIVE
    return verdict, f"the signal {one.name!r} fired {spans(mttd, budget_s)} after the fault, budget {budget_s:g} s"
