"""The guard of one drill, put together from what the person chose, what ``gameday.toml`` declares and where this machine keeps state."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.core.errors import BadInput
from chaos.core.model import Undo
from chaos.engine.audit import FILE as AUDIT_FILE
from chaos.engine.audit import REFUSED, AuditLog
from chaos.engine.guard import SECOND_KEY, Guard, Standing, Who, check_tier
from chaos.engine.places import JOURNAL, user_state
from chaos.engine.residue import find
from chaos.engine.switch import FILE, VARIABLE, KillSwitch
from chaos.environments.base import Environment
from chaos.plugin.options import GamedayOptions
from chaos.plugin.places import Places

if TYPE_CHECKING:
    from chaos.engine.policy import StandingEnvironment


def guard_of(environment: Environment, places: Places, options: GamedayOptions, drill: str) -> Guard:
    """The guard of the drill ``drill`` in ``environment``, which is open."""
    who = Who(options.operator, options.run_id, drill)
    standing = None
    if not environment.disposable:
        standing = _standing(environment.name, places, options, places.state_dir(environment.name, environment))
    return Guard(environment, standing=standing, who=who, switch=switch_of(environment, standing, options.directory))


def switch_of(environment: Environment, standing: Standing | None, directory: Path) -> KillSwitch:
    """Every place where somebody may stop a drill in ``environment``. ``directory`` is the drill directory."""
    files, variables = [directory / FILE, user_state() / FILE], [VARIABLE]
    if standing is not None:
        files.append(standing.state_dir / FILE)
        declared = standing.policy.kill_switch
        files += [standing.base / Path(declared.file).expanduser()] if declared.file else []
        variables += [declared.env] if declared.env else []
    return KillSwitch(files, variables, environment)


def refuse_early(name: str, places: Places, options: GamedayOptions) -> None:
    """What a person lacks and no environment need be asked about, so that it is one line before the first drill.

    Raises:
        BadInput: and it is in the audit log.
    """
    place = places.get(name, where="environment")
    if place.declared is None or options.dry_run:
        return
    state_dir = places.state_dir(name) if isinstance(place.declared.identity, dict) else None
    try:
        check_tier(_standing(name, places, options, state_dir or Path()), options.operator)
    except BadInput as err:
        if state_dir is not None:
            log = AuditLog(state_dir / AUDIT_FILE, environment=name, by=options.operator, run=options.run_id)
            log.write("run", REFUSED, str(err))
        raise


def _standing(name: str, places: Places, options: GamedayOptions, state_dir: Path) -> Standing:
    policy: StandingEnvironment | None = places.get(name, where="environment").declared
    assert policy is not None, f"{name} is not declared"

    def open_faults() -> list[Undo]:
        return [one.fault.undo for one in find([state_dir / JOURNAL])]

    return Standing(
        policy=policy,
        where=partial(places.file.where, "environments", name),
        base=places.file.path.parent,
        state_dir=state_dir,
        open_faults=open_faults,
        approve=options.approve,
        second_key=os.environ.get(SECOND_KEY, ""),
    )
