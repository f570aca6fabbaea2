"""What a report says in words and figures, once, so that every form of it says the same. Plain text only, no markup."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from chaos.core.durations import format_s
from chaos.core.model import Json, Verdict
from chaos.evidence.model import Availability, Degradation, Detection, Fault, Finding, Objective, Outage, Report, Rpo, Runbook, Span, Step

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
NO_BOUND = "no recovery seen"
NEVER_SEEN = {"mttd": "it never fired", "baseline": "it was not seen to return", "latency_p99": "no upper end"}
FIGURES = {
    "latency_p99": "Latency p99 under the fault",
    "error_rate": "Errors under the fault",
    "baseline": "Latency back at its baseline",
    "mttd": "Time to detect",
}
FAULT_STATES = ("planned", "armed", "issued", "landed", "heal_issued", "healed", "verified")


class Headline(msgspec.Struct, frozen=True):
    """The first thing that a reader sees. ``tone`` is pass, fail, inconclusive, invalid, aborted or expected."""

    word: str
    qualifier: str
    sentence: str
    tone: str

    @property
    def verdict_line(self) -> str:
        return f"{self.word}, {self.qualifier}" if self.qualifier else self.word


class KeyFigure(msgspec.Struct, frozen=True):
    """One number with its name and what to hold it against. ``verdict`` is that of its objective, "" where none was set."""

    label: str
    value: str
    note: str
    verdict: str


def headline(report: Report) -> Headline:
    """Verdict, how it stands to what was expected, and one sentence that says why."""
    expected, verdict = report.expectation, report.verdict
    qualifier, tone = "", verdict.value.lower()
    if expected.as_expected:
        if expected.expect is not Verdict.PASS:
            qualifier, tone = "as this drill expects", "expected"
    elif report.heal_error or report.error:
        trouble = "healing failed" if report.heal_error else "the drill ended in an error"
        qualifier, tone = f"{'but' if verdict is expected.expect else 'and'} {trouble}", "fail"
    elif expected.expect is not Verdict.PASS:
        because = f" because of {expected.because}" if expected.because else ""
        qualifier, tone = f"but this drill expects {expected.expect.value}{because}", "fail"
    sentence = _sentence(report.findings[0].text) if report.findings else _recovery_sentence(report)
    return Headline(verdict.value, qualifier, sentence, tone)


def _sentence(text: str) -> str:
    """A finding as a sentence: a capital in front (unless a name stands there) and a full stop behind."""
    text = text.strip()
    if text and not text.split()[0].endswith(":"):
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _recovery_sentence(report: Report) -> str:
    if report.verdict is not Verdict.PASS:
        return "No finding was recorded; the objectives below say what was measured."
    said = []
    if report.rto is not None:
        client, after = report.rto.client, report.rto.after_heal
        if after is not None:
            said.append(f"the service was back {span(after)} after the heal")
        elif report.rto.outages:
            said.append(f"the service was back in {span(client)} as clients saw it")
        elif client.hi_s is not None:
            said.append(f"no operation failed: an outage, had there been one, lasted at most {at_most(client.hi_s)}")
    if report.rpo is not None:
        said.append(f"none of {count(report.rpo.acked)} acknowledged writes was lost" if not report.rpo.lost else lost(report.rpo))
    if not said and (report.checks or report.runbooks):
        said = [f"{count(len(report.checks))} checks held"] if report.checks else []
        said += [f"the runbook {one.name} was done in {format_s(one.took_s)}" for one in report.runbooks]
    return _sentence(", and ".join(said) or "every objective was met")


def runbook_share(report: Report) -> list[str]:
    """For every runbook, which of its steps took how much of the recovery ("": none of it); of the longest outage, as clients saw it."""
    outages = report.rto.outages if report.rto is not None else []
    worst = max(outages, key=lambda one: math.inf if one.client.hi_s is None else one.client.hi_s, default=None)
    said = []
    for runbook in report.runbooks:
        step, took_s = _longest_in(runbook, worst)
        if step is None:
            said.append("")
        elif worst is None:
            said.append(f"Of the {format_s(runbook.took_s)} of the runbook {runbook.name}, the step “{step.name}” took {format_s(took_s)}.")
        else:
            whole = f"the {format_s(worst.client.hi_s)} RTO" if worst.client.hi_s is not None else "an outage that did not end"
            said.append(f"The step “{step.name}” of the runbook {runbook.name} took {format_s(took_s)} of {whole}.")
    return said


def _longest_in(runbook: Runbook, outage: Outage | None) -> tuple[Step | None, float]:
    """The step that took longest, as far as it fell into the outage."""
    begin_s = outage.good_sent_s if outage is not None and outage.good_sent_s is not None else -math.inf
    end_s = outage.good_settled_s if outage is not None and outage.good_settled_s is not None else math.inf
    found: tuple[Step | None, float] = (None, 0.0)
    for step in runbook.steps:
        if step.began_s is not None and step.took_s is not None:
            inside_s = min(step.began_s + step.took_s, end_s) - max(step.began_s, begin_s)
            if inside_s > found[1]:
                found = (step, inside_s)
    return found


def key_figures(report: Report) -> list[KeyFigure]:
    """The numbers of a drill, in a fixed order; what was not judged is left out. RTO per workload where several are gated."""
    figures = [*_rto_figures(report)]
    if report.rpo is not None:
        bound, verdict = _objective(report, "rpo")
        value = f"{count(report.rpo.lost)} lost"
        figures.append(KeyFigure("RPO, acknowledged writes", value, _join(f"of {count(report.rpo.acked)}", bound), verdict))
    up = main_availability(report)
    if up is not None:
        bound, verdict = _objective(report, "availability")
        figures.append(KeyFigure("Availability", percent(up.ratio), _join(f"by time {availability_by_time(up)}", bound), verdict))
    return [*figures, *_other_figures(report)]


def _rto_figures(report: Report) -> Iterator[KeyFigure]:
    if report.rto is None:
        return
    gated = [one for one in report.workloads if one.gated and one.rto is not None]
    if len(gated) < 2:
        spans = (
            ("RTO, from the heal", "rto", report.rto.after_heal),
            ("RTO, as clients saw it", "rto_client", report.rto.client),
            ("RTO, from the incident", "rto_incident", report.rto.incident),
        )
        yield from (KeyFigure(label, span(found), *_objective(report, name)) for label, name, found in spans if found is not None)
        return
    for one in gated:
        assert one.rto is not None
        if one.rto.after_heal is not None:
            yield KeyFigure(f"RTO of {one.name}, from the heal", span(one.rto.after_heal), *_objective(report, "rto", one.name))
        else:
            yield KeyFigure(f"RTO of {one.name}, as clients saw it", span(one.rto.client), *_objective(report, "rto_client", one.name))
    if report.rto.after_heal is None:
        name = report.rto.workload
        yield KeyFigure(f"RTO of {name}, from the incident", span(report.rto.incident), *_objective(report, "rto_incident", name))


def _other_figures(report: Report) -> Iterator[KeyFigure]:
    """What else was judged: latency, errors, the return to the baseline, detection."""
    several = sum(1 for one in report.workloads if one.gated) > 1
    for name, label in FIGURES.items():
        for one in (objective for objective in report.objectives if objective.name == name):
            of = one.subject or (one.workload if several else "")
            yield KeyFigure(f"{label} ({of})" if of else label, measured(one), f"objective {bound(one)}", one.verdict.value)


def main_availability(report: Report) -> Availability | None:
    """Of the workload that the RTO was measured on, else of the first gated one."""
    name = report.rto.workload if report.rto else ""
    gated = [workload for workload in report.workloads if workload.gated]
    chosen = next((workload for workload in gated if workload.name == name), gated[0] if gated else None)
    return chosen.availability if chosen else None


def _objective(report: Report, name: str, workload: str = "") -> tuple[str, str]:
    """Bound and worst verdict of the objectives of this name (of this workload)."""
    found = [objective for objective in report.objectives if objective.name == name and (not workload or objective.workload == workload)]
    if not found:
        return "not judged", ""
    order = list(Verdict)
    shown = max(found, key=lambda objective: (objective.verdict is not Verdict.PASS, order.index(objective.verdict)))
    return f"objective {bound(shown)}", shown.verdict.value


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def count(number: int) -> str:
    """``4 120``: thousands apart by a narrow space that does not break."""
    return f"{number:,}".replace(",", "\u202f")


def percent(ratio: float) -> str:
    """A ratio in per cent with as many digits as its nines deserve, rounded down so that 99.9999 % never reads as 100."""
    places = max(1, min(3, math.ceil(-math.log10(1 - ratio)) - 1)) if ratio < 1 else 0
    step = 10**places
    return f"{math.floor(round(ratio * 100 * step, 6)) / step:g} %"


def share(ratio: float) -> str:
    """A small ratio in per cent, rounded upwards: what is not zero never reads as zero."""
    if not ratio:
        return "0 %"
    places = max(1, 2 - math.floor(math.log10(ratio * 100)))
    return f"{math.ceil(round(ratio * 100 * 10**places, 6)) / 10**places:.{places}f}".rstrip("0").rstrip(".") + " %"


def availability_by_time(up: Availability) -> str:
    return percent(up.lo) if up.hi is None or percent(up.hi) == percent(up.lo) else f"{percent(up.lo)[:-2]} – {percent(up.hi)}"


def span(interval: Span) -> str:
    """``2.413 – 2.437 s``, rounded outwards; ``≥ 2.4 s, no recovery seen``."""
    return numbers(interval.lo_s, interval.hi_s, "s")


def numbers(lo: float, hi: float | None, unit: str) -> str:
    """An interval for people, rounded outwards so that what is printed still holds the truth."""
    if hi is None:
        return f"≥ {_fixed(lo, 2, math.floor)} {unit}, {NO_BOUND}" if unit == "s" else f"≥ {lo:g} {unit}".rstrip()
    if unit == "ratio":
        return percent(lo) if percent(lo) == percent(hi) else f"{percent(lo)[:-2]} – {percent(hi)}"
    if unit == "s":
        places = max(0, min(4, 1 - math.floor(math.log10(hi - lo)))) if hi > lo else 3
        low, high = _fixed(lo, places, math.floor), _fixed(hi, places, math.ceil)
        return f"{low} s" if low == high else f"{low} – {high} s"
    text = f"{lo:g}" if lo == hi else f"{lo:g} – {hi:g}"
    return f"{text} {unit}".rstrip()


def at_most(value_s: float) -> str:
    """Seconds rounded up to the hundredth."""
    return f"{_fixed(value_s, 2, math.ceil)} s"


def _fixed(value: float, places: int, rounding: Callable[[float], int]) -> str:
    step = 10**places
    scaled = round(value * step, 6)  # 2.4 must not become 2.41 for want of a binary fraction
    whole = rounding(scaled)
    return f"{whole / step:.{places}f}" if whole else "0"


def bound(objective: Objective) -> str:
    """``≤ 30 s``, ``≥ 99.9 %``."""
    relation = "≥" if objective.name == "availability" else "≤"
    if objective.name == "error_rate":
        return f"≤ {share(objective.bound)}" if objective.bound else "0"
    if not objective.bound:
        return f"0 {objective.unit}".rstrip()
    if objective.unit == "s":
        return f"{relation} {format_s(objective.bound)}"
    if objective.unit == "ratio":
        return f"{relation} {objective.bound * 100:.6g} %"
    return f"{relation} {objective.bound:g} {objective.unit}".rstrip()


def measured(objective: Objective) -> str:
    """What was measured for an objective, with its unit."""
    if objective.name == "error_rate":
        return share(objective.lo) if objective.hi is not None else "unknown"
    if objective.name == "baseline" and objective.hi == 0:
        return "at once"
    if objective.name == "runbook":
        return f"{objective.lo:.3f} s" if objective.lo < 100 else format_s(objective.lo)
    if objective.hi is None and objective.name in NEVER_SEEN:
        return f"≥ {format_s(objective.lo)}, {NEVER_SEEN[objective.name]}" if objective.lo else NEVER_SEEN[objective.name]
    if objective.name == "latency_p99" and objective.hi is not None and objective.hi < 1:
        return f"{objective.lo * 1000:.3g} – {objective.hi * 1000:.3g} ms"
    return numbers(objective.lo, objective.hi, objective.unit)


def lost(rpo: Rpo) -> str:
    """``152 of 4 120 acknowledged writes lost (3.7 %), spanning 0.75 – 0.77 s``."""
    text = f"{count(rpo.lost)} of {count(rpo.acked)} acknowledged writes lost"
    return text if not rpo.lost else f"{text} ({rpo.ratio:.2%}), spanning {span(rpo.time)}"


def ranges(ids: Sequence[int]) -> str:
    """``7, 500–599``: ascending ids, runs of three and more drawn together."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}–{last}" if last > first + 1 else ", ".join(map(str, range(first, last + 1))) for first, last in runs)


def at(moment_s: float | None) -> str:
    """A moment of the drill: ``+3.012 s``, ``–`` where it never came."""
    return "–" if moment_s is None else f"{moment_s:+.3f} s"


def latency(value_s: float | None) -> str:
    return "–" if value_s is None else format_s(value_s)


def latency_span(interval: Span | None) -> str:
    """``12.1 – 15.3 ms``; ``≥ 1 s`` where too much was not good."""
    if interval is None:
        return "–"
    if interval.hi_s is None:
        return f"≥ {format_s(interval.lo_s)}"
    if interval.hi_s < 1:
        return f"{interval.lo_s * 1000:.3g} – {interval.hi_s * 1000:.3g} ms"
    return numbers(interval.lo_s, interval.hi_s, "s")


def back(found: Degradation) -> str:
    """When latency was back, counted from the verified heal."""
    if found.returned is None or found.returned.interval is None:
        return "not seen"
    lo_s, hi_s = found.returned.interval.lo_s, found.returned.interval.hi_s
    if hi_s is None:
        return f"not within {format_s(lo_s)}" if lo_s else "not proven"
    return "at once" if not hi_s else f"after {numbers(lo_s, hi_s, 's')}"


def detected(found: Detection) -> str:
    """How long a signal took, or why that is not known."""
    if found.mttd is None:
        return f"unknown: {found.problem}"
    return f"never, in {format_s(found.mttd.lo_s)}" if found.mttd.hi_s is None else numbers(found.mttd.lo_s, found.mttd.hi_s, "s")


def fault_title(fault: Fault) -> str:
    return f"{fault.kind} on {fault.node}" if fault.node else fault.kind


def fault_fate(fault: Fault) -> str:
    """In a few words: did it land, did it heal."""
    landed = f"landed {at(fault.landed)}" if fault.landed is not None else ("never landed" if fault.issued is not None else "never issued")
    if fault.verified is not None:
        return f"{landed}, healed and verified {at(fault.verified)}"
    if fault.healed is not None:
        return f"{landed}, healed {at(fault.healed)}, not verified"
    return f"{landed}, NOT HEALED" if fault.issued is not None else landed


def params(values: dict[str, Json]) -> str:
    """``services=postgres, seconds=3``."""
    return ", ".join(f"{name}={value if isinstance(value, str) else flat(value)}" for name, value in values.items())


def flat(value: Json) -> str:
    """Any plain value on one line."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def other_findings(report: Report) -> Sequence[Finding]:
    """All findings but the one that the headline quotes."""
    return report.findings[1:]


def when(utc: str) -> str:
    """``2026-01-31T10:11:12.345Z`` as ``2026-01-31 10:11:12 UTC``; anything else as it is."""
    day, _, time = utc.partition("T")
    return f"{day} {time.partition('.')[0].rstrip('Z')} UTC" if time else utc


def clean(text: str) -> str:
    """Text from outside without terminal escapes, control characters (tab and newline stay) and lone surrogates."""
    return _ESCAPES.sub("", text).encode("utf-8", "replace").decode("utf-8")


def one_line(text: str) -> str:
    """``clean`` text on one line."""
    return " ".join(clean(text).split())
