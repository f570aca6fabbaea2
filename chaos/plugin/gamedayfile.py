"""``gameday.toml``: standing environments and a project's own scenarios, decoded with types. Reads one file and nothing else."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from chaos.core.errors import BadInput
from chaos.plugin.catalogue import Scenario

FILE = "gameday.toml"
Decoded = TypeVar("Decoded")
RESERVED = ("embedded", "docker", "local", "drill")


class StandingEnvironment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[environments.NAME]``: a place that exists whether or not a drill runs, pinned to an identity."""

    kind: str
    identity: str | dict[str, str]
    tier: Literal["development", "test", "staging", "production"] = "staging"
    description: str = ""


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
    """What the file declares; empty where there is none. ``path`` is where it is, or would be."""

    path: Path
    environments: dict[str, StandingEnvironment]
    scenarios: dict[str, Scenario]


def read(rootdir: Path) -> GamedayFile:
    """The file of this project.

    Raises:
        BadInput: naming the file, the key and what was expected there.
    """
    path = rootdir / FILE
    if not path.exists():
        return GamedayFile(path, {}, {})
    try:
        text = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise BadInput(f"is not valid TOML: {err}", where=str(path)) from err
    except OSError as err:
        raise BadInput(f"cannot be read: {err.strerror}", where=str(path)) from err
    sections = _decode(text, _Sections, path, "")
    environments: dict[str, StandingEnvironment] = {}
    for name, table in sections.environments.items():
        _check_name(path, name)
        environments[name] = _decode(table, StandingEnvironment, path, f"environments.{name}")
    scenarios: dict[str, Scenario] = {}
    for key, table in sections.scenarios.items():
        scenarios[key] = _scenario(path, key, _decode(table, DeclaredScenario, path, f"scenarios.{key}"))
    return GamedayFile(path, environments, scenarios)


def _decode(value: object, kind: type[Decoded], path: Path, key: str) -> Decoded:
    """``value`` as ``kind``; an error names the file and the whole key."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as err:
        what, _, inner = str(err).partition(" - at `$")
        place = f"{key}{inner.rstrip('`')}".lstrip(".") or "top level"
        raise BadInput(what, where=f"{path}: {place}") from err


def _check_name(path: Path, name: str) -> None:
    if not name.isidentifier():
        raise BadInput("an environment's name is also its marker", where=f"{path}: environments.{name}", expected="letters, digits and _")
    if name in RESERVED:
        raise BadInput("this name is taken by the framework", where=f"{path}: environments.{name}", next_step="choose another name")


def _scenario(path: Path, key: str, declared: DeclaredScenario) -> Scenario:
    from chaos.plugin.marker import budget_of

    scenario = Scenario(key, declared.name, declared.rto, declared.rpo, declared.availability, declared.rto_from, declared.description)
    budget_of(scenario, where=f"{path}: scenarios.{key}")
    return scenario
