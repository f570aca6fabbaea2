"""Command line options and ini values, and the one typed object they become. Read and validated once, at configure.

Imported at plugin load, so it imports nothing that costs: what an option *names* (environments, verdicts) is checked by
:mod:`chaos.plugin.places` only where the option was given.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

UNTIL = ("PASS", "FAIL", "INCONCLUSIVE", "INVALID")
WORKERINPUT = "gameday"
RERUNS = "rerunfailures"
"""The name under which pytest knows the plugin pytest-rerunfailures."""


@dataclass(frozen=True)
class GamedayOptions:
    """Everything that a person chose for this run, and what the run chose for itself (``run_id``, ``seed``).

    ``require`` holds ``ENV`` or ``ENV:CAPABILITY``; ``repeat`` 0 and ``until`` "" mean: as each drill's marker says.
    ``directory`` is absolute and not created here. ``again``: how often a drill is measured anew that was starved, or whose system was
    not well before.
    """

    environments: tuple[str, ...]
    require: frozenset[str]
    directory: Path
    repeat: int
    until: str
    seed: int
    pg_bin: Path | None
    operator: str
    progress: bool
    run_id: str
    approve: str = ""
    dry_run: bool = False
    again: int = 0

    @property
    def runs_dir(self) -> Path:
        return self.directory / "runs"

    @property
    def run_dir(self) -> Path:
        return self.runs_dir / self.run_id

    def requires(self, environment: str, capability: str = "") -> bool:
        """Must this run fail, not skip, where ``environment`` (or this ``capability`` of it) is missing?

        ``ENV`` requires all of it; ``ENV:CAPABILITY`` the environment itself and that capability.
        """
        if environment in self.require or (capability and f"{environment}:{capability}" in self.require):
            return True
        return not capability and any(entry.startswith(f"{environment}:") for entry in self.require)


def add_options(parser: pytest.Parser) -> None:
    """The group ``gameday``: every option starts with ``--drill-``."""
    group = parser.getgroup("gameday", "disaster-recovery drills (pytest-gameday)")
    many = {"action": "append", "default": []}
    group.addoption("--drill-env", metavar="NAME", **many, help="run drills only in these environments (repeat, or separate by commas)")
    group.addoption("--drill-dir", metavar="DIR", help="where runs, reports and journals are kept (default: .gameday under rootdir)")
    group.addoption(
        "--drill-require",
        metavar="ENV[:CAPABILITY]",
        **many,
        help="fail instead of skip where this environment or capability is missing (also $DRILL_REQUIRE)",
    )
    group.addoption("--drill-repeat", metavar="N", help="run every drill N times, each with a seed of its own")
    group.addoption("--drill-until", metavar="VERDICT", help="of a repeated drill, skip what remains after the first such verdict")
    group.addoption(
        "--drill-again",
        metavar="N",
        help="in disposable environments, measure a drill anew (at most N times) whose workload was starved, or whose system was not well"
        " before anything was broken",
    )
    group.addoption("--drill-seed", metavar="SEED", help="seed of everything random (default: chosen, and printed)")
    group.addoption("--drill-pg-bin", metavar="DIR", help="directory of the PostgreSQL binaries for micro-hosts")
    group.addoption("--drill-operator", metavar="NAME", help="who runs this, for the report (default: the user)")
    group.addoption("--drill-approve", metavar="NAME", help="who approves this run, for environments of the tier production")
    group.addoption("--drill-dry-run", action="store_true", help="resolve nodes, permissions and undo, print the plan, change nothing")
    group.addoption("--drill-no-progress", action="store_true", help="no live display on a terminal")
    parser.addini("drill_env", "environments to run drills in", type="args", default=[])
    parser.addini("drill_dir", "where runs, reports and journals are kept, relative to rootdir", default="")
    parser.addini("drill_require", "ENV or ENV:CAPABILITY that may not be skipped", type="args", default=[])
    parser.addini("drill_again", "how often a drill that measured nothing is measured anew", default="0")
    parser.addini("drill_pg_bin", "directory of the PostgreSQL binaries for micro-hosts", default="")


def resolve(config: pytest.Config) -> GamedayOptions:
    """All of them, typed.

    Raises:
        pytest.UsageError: naming the option, what was given and what would do.
    """
    shared: dict[str, object] = getattr(config, "workerinput", {}).get(WORKERINPUT, {})
    return GamedayOptions(
        environments=_names(config.getoption("--drill-env") or config.getini("drill_env")),
        require=frozenset(_required(config)),
        directory=_directory(config),
        repeat=_whole(config.getoption("--drill-repeat"), "--drill-repeat", least=1, absent=0, most=10_000),
        until=_until(config.getoption("--drill-until")),
        seed=int(str(shared["seed"])) if shared else _seed(config.getoption("--drill-seed")),
        pg_bin=_pg_bin(config),
        operator=config.getoption("--drill-operator") or os.environ.get("DRILL_OPERATOR") or _user(),
        progress=not config.getoption("--drill-no-progress"),
        run_id=str(shared["run_id"]) if shared else _new_run_id(),
        approve=config.getoption("--drill-approve") or "",
        dry_run=config.getoption("--drill-dry-run"),
        again=_again(config),
    )


def _names(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip()))


def _required(config: pytest.Config) -> tuple[str, ...]:
    given = [*config.getoption("--drill-require"), *config.getini("drill_require"), os.environ.get("DRILL_REQUIRE", "")]
    names = _names(given)
    for name in names:
        environment, colon, capability = name.partition(":")
        if not environment or (colon and not capability):
            raise pytest.UsageError(f"--drill-require {name!r}: write ENV or ENV:CAPABILITY, e.g. docker or embedded:iptables")
    return names


def _directory(config: pytest.Config) -> Path:
    given = config.getoption("--drill-dir")
    if given:
        path = config.invocation_params.dir / Path(given).expanduser()
    else:
        path = config.rootpath / Path(config.getini("drill_dir") or ".gameday").expanduser()
    if path.exists() and not path.is_dir():
        raise pytest.UsageError(f"--drill-dir {path}: is not a directory")
    return path


def _whole(text: str | None, option: str, *, least: int, absent: int, most: int | None = None) -> int:
    if text is None:
        return absent
    bounds = f"a whole number of at least {least}" + (f" and at most {most}" if most is not None else "")
    if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        raise pytest.UsageError(f"{option} {text!r}: write {bounds}")
    return int(text)


def _again(config: pytest.Config) -> int:
    given = config.getoption("--drill-again")
    named, text = ("--drill-again", given) if given is not None else ("drill_again", config.getini("drill_again"))
    again = _whole(text, named, least=0, absent=0, most=10)
    if again and not config.pluginmanager.hasplugin(RERUNS):
        raise pytest.UsageError(f"{named} {again} needs the plugin pytest-rerunfailures: pip install pytest-rerunfailures")
    return again


def _until(text: str | None) -> str:
    if text is None:
        return ""
    if text.upper() not in UNTIL:
        raise pytest.UsageError(f"--drill-until {text!r}: write one of {', '.join(UNTIL)}")
    return text.upper()


def _pg_bin(config: pytest.Config) -> Path | None:
    given = config.getoption("--drill-pg-bin")
    path = config.invocation_params.dir / Path(given).expanduser() if given else None
    if path is None and (ini := config.getini("drill_pg_bin")):
        path = config.rootpath / Path(ini).expanduser()
    if path is not None and not (path / "postgres").is_file():
        raise pytest.UsageError(f"--drill-pg-bin {path}: no program 'postgres' is there; give the directory that holds it")
    return path


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _seed(text: str | None) -> int:
    return _whole(text, "--drill-seed", least=0, absent=int.from_bytes(os.urandom(4), "big"))


def _new_run_id() -> str:
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(3).hex()}"
