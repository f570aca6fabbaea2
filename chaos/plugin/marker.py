"""The arguments of ``@pytest.mark.drill`` as typed data. Parses and refuses; touches nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
import pytest

from chaos.core.durations import parse_duration_s
from chaos.core.errors import BadInput
from chaos.core.model import Budget, Expectation, Verdict
from chaos.plugin.catalogue import Scenario
from chaos.plugin.options import UNTIL

EXPECTABLE = (Verdict.PASS, Verdict.FAIL, Verdict.INVALID, Verdict.INCONCLUSIVE)
OBJECTIVES = ("latency_p99", "error_rate", "must_return_to_baseline", "mttd")
ARGUMENTS = (
    *("scenario", "rto", "rpo", "availability", "rto_from", *OBJECTIVES),
    *("environments", "expect", "because", "repeat", "until"),
)


@dataclass(frozen=True)
class DrillSpec:
    """What a drill's marker asks for. ``environments`` None: wherever its fixtures can; ``repeat`` 0: once."""

    scenario: str = ""
    budget: Budget = field(default_factory=Budget)
    expectation: Expectation = field(default_factory=Expectation)
    environments: tuple[str, ...] | None = None
    repeat: int = 0
    until: str = ""


def parse(mark: pytest.Mark, scenarios: Mapping[str, Scenario], *, where: str) -> DrillSpec:
    """The marker, checked argument by argument.

    Raises:
        BadInput: with ``where``, the argument, what was given and what would do.
    """
    given = dict(mark.kwargs)
    if len(mark.args) > 1 or (mark.args and "scenario" in given):
        raise BadInput("drill() takes one positional argument, the scenario", where=where, observed=f"{len(mark.args)} of them")
    if mark.args:
        given["scenario"] = mark.args[0]
    for name in given:
        if name not in ARGUMENTS:
            raise BadInput(f"drill() has no argument {name!r}{nearest(name, ARGUMENTS)}", where=where)
    scenario = _scenario(given.get("scenario"), scenarios, where)
    stated = {name: given[name] for name in ("rto", "rpo", "availability", "rto_from") if name in given}
    base = scenario or Scenario("", "")
    merged = Scenario(
        base.id,
        base.name,
        rto=stated.get("rto", base.rto),
        rpo=stated.get("rpo", base.rpo),
        availability=stated.get("availability", base.availability),
        rto_from=stated.get("rto_from", base.rto_from),
    )
    return DrillSpec(
        scenario=base.id,
        budget=_with_objectives(budget_of(merged, where=where), given, where),
        expectation=_expectation(given.get("expect", "PASS"), given.get("because", ""), where),
        environments=_environments(given.get("environments"), where),
        repeat=_repeat(given.get("repeat"), where),
        until=_until(given.get("until"), given.get("repeat"), where),
    )


def budget_of(scenario: Scenario, *, where: str) -> Budget:
    """The budgets of ``scenario``, parsed.

    Raises:
        BadInput: for one that does not parse.
    """
    rto_s = None if scenario.rto is None else _duration(scenario.rto, "rto", where)
    rpo_count, rpo_s = _rpo(scenario.rpo, where)
    if scenario.rto_from not in ("fault", "heal"):
        raise BadInput(f"rto_from={scenario.rto_from!r}", where=where, expected='"fault" or "heal"')
    return Budget(
        rto_s=rto_s, rpo_count=rpo_count, rpo_s=rpo_s, availability=_availability(scenario.availability, where), rto_from=scenario.rto_from
    )


def _with_objectives(budget: Budget, given: Mapping[str, object], where: str) -> Budget:
    """``budget`` with what only the drill itself can state."""
    latency, rate, back = given.get("latency_p99"), given.get("error_rate"), given.get("must_return_to_baseline")
    found = msgspec.structs.replace(
        budget,
        latency_p99_s=None if latency is None else _duration(latency, "latency_p99", where),
        error_rate=_ratio(rate, "error_rate", "0.001", where),
        baseline_s=None if back is None else _duration(back, "must_return_to_baseline", where),
        mttd_s=_mttd(given.get("mttd"), where),
    )
    if found.latency_p99_s == 0:
        raise BadInput("latency_p99=0: nothing is as fast", where=where, next_step='write e.g. latency_p99="200ms"')
    return found


def _mttd(value: object, where: str) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) and name for name in value):
        raise BadInput(f"mttd={value!r}", where=where, expected='the budget of each signal by its name, e.g. {"disk-full": "20s"}')
    return {name: _duration(budget, f"mttd of {name!r}", where) for name, budget in value.items()}


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or nothing."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _scenario(name: object, scenarios: Mapping[str, Scenario], where: str) -> Scenario | None:
    if name is None:
        return None
    if not isinstance(name, str) or name not in scenarios:
        hint = nearest(name, scenarios) if isinstance(name, str) else ""
        next_step = "take an id of the catalogue, or declare it under [scenarios] in gameday.toml"
        raise BadInput(f"unknown scenario {name!r}{hint}", where=where, next_step=next_step)
    return scenarios[name]


def _duration(value: object, name: str, where: str) -> float:
    if not isinstance(value, str | int | float):
        raise BadInput(f"{name}={value!r} is not a duration", where=where, next_step="write e.g. 30s, 5m, 1h30m, 250ms")
    try:
        return parse_duration_s(value, what=name)
    except BadInput as err:
        raise BadInput(err.what, where=where, next_step=err.next_step) from err


def _rpo(value: object, where: str) -> tuple[int | None, float | None]:
    if value is None:
        return None, None
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise BadInput(f"rpo={value}: a number of lost writes is 0 or more", where=where)
        return value, None
    if isinstance(value, str):
        return None, _duration(value, "rpo", where)
    next_step = 'write rpo=0 (writes) or rpo="5m" (time)'
    raise BadInput(f"rpo={value!r} is neither a number of writes nor a time", where=where, next_step=next_step)


def _availability(value: object, where: str) -> float | None:
    return _ratio(value, "availability", "0.999", where)


def _ratio(value: object, name: str, example: str, where: str) -> float | None:
    if value is None:
        return None
    ratio: float | None = None
    if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*%\s*", value):
        ratio = float(value.strip().rstrip("%")) / 100
    elif isinstance(value, int | float) and not isinstance(value, bool):
        ratio = float(value)
    if ratio is None or not 0 <= ratio <= 1:
        as_percent = f'"{float(example) * 100:g}%"'
        raise BadInput(f"{name}={value!r} is not a ratio", where=where, next_step=f"write e.g. {example} or {as_percent}")
    return ratio


def _expectation(expect: object, because: object, where: str) -> Expectation:
    if expect not in [str(verdict) for verdict in EXPECTABLE]:
        raise BadInput(f"expect={expect!r}", where=where, expected="one of " + ", ".join(EXPECTABLE))
    if not isinstance(because, str) or (because and not re.fullmatch(r"[a-z][a-z_-]*", because)):
        raise BadInput(f"because={because!r}", where=where, expected='the code of a finding, e.g. "rpo" or "rto"')
    verdict = Verdict(str(expect))
    if verdict is Verdict.PASS and because:
        raise BadInput(f"because={because!r} goes with an expected failure", where=where, next_step='add expect="FAIL", or drop because')
    if verdict is not Verdict.PASS and not because:
        raise BadInput(f"expect={expect!r} needs a reason", where=where, next_step='add because="rpo" (the code of the first finding)')
    return Expectation(verdict=verdict, because=because)


def _environments(value: object, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        raise BadInput(f"environments={value!r}", where=where, expected='a list of names, e.g. ["embedded", "docker"]')
    return tuple(dict.fromkeys(value))


def _repeat(value: object, where: str) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000:
        raise BadInput(f"repeat={value!r}", where=where, expected="a whole number from 1 to 10000")
    return value


def _until(value: object, repeat: object, where: str) -> str:
    if value is None:
        return ""
    if value not in UNTIL:
        raise BadInput(f"until={value!r}", where=where, expected="one of " + ", ".join(UNTIL))
    if repeat is None:
        raise BadInput(f"until={value!r} is about repeats", where=where, next_step="add repeat=N")
    return str(value)
