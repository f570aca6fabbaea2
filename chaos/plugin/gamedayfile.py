"""``gameday.toml``: standing environments and a project's own scenarios, decoded with types. Reads one file and nothing else.

Every error names file, line and key; an unknown key also the nearest that exists.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar, cast

import msgspec

from chaos.core.durations import parse_duration_s
from chaos.core.errors import BadInput
from chaos.engine.caps import share_of
from chaos.engine.policy import CONDITIONS, PrometheusStop, StandingEnvironment, StopCondition
from chaos.engine.windows import check_window
from chaos.plugin import toml_lines
from chaos.plugin.catalogue import Scenario
from chaos.plugin.marker import nearest

FILE = "gameday.toml"
Decoded = TypeVar("Decoded")
Key = toml_lines.Path
RESERVED = ("embedded", "docker", "local", "drill")
_STEP = re.compile(r"\.([A-Za-z0-9_]+)|\[(\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`")


class DeclaredScenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[scenarios.ID]``: budgets as in the ``drill`` marker."""

    name: str
    description: str = ""
    rto: str | int | float | None = None
    rpo: str | int | None = None
    availability: str | float | None = None
    rto_from: Literal["fault", "heal"] = "fault"


class _Sections(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's tables, each still to be decoded under its own name, so that an error can say which."""

    environments: dict[str, object] = {}
    scenarios: dict[str, object] = {}


class GamedayFile(msgspec.Struct, frozen=True):
    """What the file declares; empty where there is none. ``path`` is where it is, or would be; ``lines`` where each key stands."""

    path: Path
    environments: dict[str, StandingEnvironment]
    scenarios: dict[str, Scenario]
    lines: dict[Key, int] = {}

    def where(self, *key: str | int) -> str:
        """``/path/gameday.toml:12: environments.staging.kind``."""
        return f"{self.path}:{toml_lines.line_of(self.lines, key)}: {dotted(key)}"


def dotted(key: Key) -> str:
    """``environments.staging.stop_when[0].http``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".") or "top level"


def read(rootdir: Path) -> GamedayFile:
    """The file of this project.

    Raises:
        BadInput: naming the file, the line, the key and what was expected there.
    """
    path = rootdir / FILE
    if not path.exists():
        return GamedayFile(path, {}, {})
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise BadInput(f"is not valid TOML: {err}", where=str(path)) from err
    except OSError as err:
        raise BadInput(f"cannot be read: {err.strerror}", where=str(path)) from err
    file = GamedayFile(path, {}, {}, toml_lines.lines_of(text.replace("\r\n", "\n")))
    sections = _decode(file, tables, _Sections, ())
    environments = {name: _environment(file, name, table) for name, table in sections.environments.items()}
    scenarios = {key: _scenario(file, key, table) for key, table in sections.scenarios.items()}
    return msgspec.structs.replace(file, environments=environments, scenarios=scenarios)


# -- environments ----------------------------------------------------------------------------------------------------------------


def _environment(file: GamedayFile, name: str, table: object) -> StandingEnvironment:
    key: Key = ("environments", name)
    _check_name(file, name)
    conditions: tuple[StopCondition, ...] = ()
    if isinstance(table, dict) and isinstance(table.get("stop_when"), list):
        listed = cast("list[object]", table["stop_when"])
        conditions = tuple(_condition(file, one, (*key, "stop_when", index)) for index, one in enumerate(listed))
        table = {name: value for name, value in table.items() if name != "stop_when"}
    declared = msgspec.structs.replace(_decode(file, table, StandingEnvironment, key), stop_when=conditions)
    _check_pinned(file, declared, key)
    _check_times(file, declared, key)
    _check_caps(file, declared, key)
    return declared


def _condition(file: GamedayFile, table: object, key: Key) -> StopCondition:
    """One of ``stop_when``; its first key says which kind it is."""
    if not isinstance(table, dict):
        raise BadInput("is not a table", where=file.where(*key), expected='e.g. { http = "https://…/health" }')
    kinds = [name for name in CONDITIONS if name in table]
    if len(kinds) != 1:
        unknown = next((name for name in table if name not in CONDITIONS), "")
        raise BadInput(
            f"is no stop condition{nearest(unknown, CONDITIONS)}",
            where=file.where(*key),
            expected=f"exactly one of {', '.join(CONDITIONS)}",
            observed=", ".join(table) or "an empty table",
        )
    condition: StopCondition = _decode(file, table, CONDITIONS[kinds[0]], key)
    if isinstance(condition, PrometheusStop) and (condition.above is None) == (condition.below is None):
        raise BadInput("says no bound, or two", where=file.where(*key), expected="exactly one of above, below")
    for name, least_s in (("poll", 0.1), ("timeout", 0.1)):
        _duration(file, getattr(condition, name), (*key, name), least_s=least_s, most_s=60.0)
    return condition


def _check_name(file: GamedayFile, name: str) -> None:
    where = file.where("environments", name)
    if not name.isidentifier():
        raise BadInput("an environment's name is also its marker", where=where, expected="letters, digits and _")
    if name in RESERVED:
        raise BadInput("this name is taken by the framework", where=where, next_step="choose another name")


def _check_pinned(file: GamedayFile, declared: StandingEnvironment, key: Key) -> None:
    if not declared.pinned or not all(declared.pinned.values()):
        raise BadInput(
            "pins nothing: a name alone is never enough",
            where=file.where(*key, "identity"),
            next_step="write what gameday doctor shows as its identity",
        )


def _check_times(file: GamedayFile, declared: StandingEnvironment, key: Key) -> None:
    for index, window in enumerate(declared.freeze):
        try:
            check_window(window)
        except BadInput as err:
            where = file.where(*key, "freeze", index, err.where)
            raise BadInput(err.what, where=where, expected=err.expected, next_step=err.next_step) from err
    _duration(file, declared.lease.ttl, (*key, "lease", "ttl"), least_s=3.0, most_s=3600.0)
    _duration(file, declared.lease.wait, (*key, "lease", "wait"), least_s=0.0, most_s=86400.0)


def _duration(file: GamedayFile, value: str | int | float, key: Key, *, least_s: float, most_s: float) -> None:
    try:
        value_s = parse_duration_s(value)
    except BadInput as err:
        raise BadInput(err.what, where=file.where(*key), next_step=err.next_step) from err
    if not least_s <= value_s <= most_s:
        raise BadInput(f"{value!r} is out of range", where=file.where(*key), expected=f"{least_s:g} to {most_s:g} seconds")


def _check_caps(file: GamedayFile, declared: StandingEnvironment, key: Key) -> None:
    caps = declared.caps
    shares: list[tuple[Key, object]] = [(("max_unavailable",), caps.max_unavailable)]
    shares += [(("per_role", name), share) for name, share in caps.per_role.items()]
    shares += [(("per_zone", name), share) for name, share in caps.per_zone.items()]
    for inner, share in shares:
        try:
            share_of(cast("int | str", share), 1)
        except BadInput as err:
            raise BadInput(err.what, where=file.where(*key, "caps", *inner), expected=err.expected) from err


# -- scenarios -------------------------------------------------------------------------------------------------------------------


def _scenario(file: GamedayFile, key: str, table: object) -> Scenario:
    from chaos.plugin.marker import budget_of

    declared = _decode(file, table, DeclaredScenario, ("scenarios", key))
    scenario = Scenario(key, declared.name, declared.rto, declared.rpo, declared.availability, declared.rto_from, declared.description)
    budget_of(scenario, where=file.where("scenarios", key))
    return scenario


# -- errors that say where -------------------------------------------------------------------------------------------------------


def _decode(file: GamedayFile, value: object, kind: type[Decoded], key: Key) -> Decoded:
    """``value`` as ``kind``; an error names the file, the line and the whole key."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as err:
        what, _, inner = str(err).partition(" - at `$")
        place = (*key, *_steps(inner.rstrip("`")))
        if unknown := _UNKNOWN.fullmatch(what):
            name = unknown.group(1)
            known = _keys_at(kind, place[len(key) :])
            what, place = f"unknown key {name!r}{nearest(name, known)}", (*place, name)
            raise BadInput(what, where=file.where(*place), expected=f"one of {', '.join(known)}") from err
        raise BadInput(what, where=file.where(*_written(value, place, key))) from err


def _steps(text: str) -> Key:
    """msgspec's ``.caps.per_role[...]`` as a path. What it does not name (a key of a free table) is left out."""
    return tuple(step[1] if step[1] else int(step[2]) for step in _STEP.finditer(text) if step[1] or step[2])


def _written(value: object, place: Key, key: Key) -> Key:
    """``place`` as far as the file has it: for a missing key, the table that lacks it."""
    inner: object = value
    for number, part in enumerate(place[len(key) :]):
        items = dict(enumerate(inner)) if isinstance(inner, list) else inner
        if not isinstance(items, Mapping) or part not in items:
            return place[: len(key) + number]
        inner = items[part]
    return place


def _keys_at(kind: type, steps: Key) -> list[str]:
    """The keys that the struct at ``steps`` below ``kind`` knows."""
    here = [msgspec.inspect.type_info(kind)]
    for step in steps:
        here = [inner for one in here for inner in _below(one, step)]
    structs = [one for one in here for one in _alternatives(one) if isinstance(one, msgspec.inspect.StructType)]
    return [field.encode_name for one in structs for field in one.fields]


def _alternatives(kind: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    return list(kind.types) if isinstance(kind, msgspec.inspect.UnionType) else [kind]


def _below(kind: msgspec.inspect.Type, step: str | int) -> list[msgspec.inspect.Type]:
    found: list[msgspec.inspect.Type] = []
    for one in _alternatives(kind):
        if isinstance(one, msgspec.inspect.StructType):
            found += [field.type for field in one.fields if field.encode_name == step]
        elif isinstance(one, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
            found.append(one.item_type)
    return found
