"""Doors: small helper containers that share one namespace of a container that is not ours, so that it needs no tools of its own.

A *network* door (``NET_ADMIN``) holds no rule itself: rules are the kernel's, in the target's network namespace. A *process* door sees
and signals the target's processes; a *host* door signals the target's first one, which is deaf to its own kind. A process door never
has a child process: one that were orphaned there would become the child of the target's own first process, and a database does not
take a stranger's death lightly. Doors end by themselves and remove themselves, whatever has become of us; after the target restarted
they stand in front of a namespace that is no more, and new ones are made.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from chaos.core.clock import wait_for
from chaos.core.errors import DeadlineExceeded, EnvironmentFailed, GamedayError
from chaos.environments.base import Completed
from chaos.environments.docker.attach import helper
from chaos.environments.docker.engine import calling
from chaos.environments.docker.execute import run_in
from chaos.environments.docker.owner import maker_labels, owner_is_dead

NETWORK, PROCESS, HOST = "network", "process", "host"
LIFE_S = 60
SLEEPER = ("sleep", "60.0062832")
"""What waits behind a process door: told apart from a sleep of the target's own by its odd number."""
KILLED = 128 + 9
"""How a command ends when its container does."""
_CUT_SHORT = (KILLED, 126, 128, 255)  # or it came too late to begin
_ATTEMPTS = 3
_ENDS_WITHIN_S = 2.0
_QUICK_S = 3.0
_GONE = (404, 409)


class Target(msgspec.Struct, frozen=True):
    """A container in one of its lives: it has other namespaces after every start."""

    container: str
    started: str


class Doors:
    """The doors of one environment. Those that another process opened are found and used too."""

    def __init__(self, client: Any, image: Callable[[], str], scope: str) -> None:
        self._client, self._image, self._scope = client, image, scope
        self._known: dict[tuple[Target, str], str] = {}

    def run(self, target: Target, kind: str, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 10.0) -> Completed:
        """Run ``argv`` behind the door, opening it where it is not open.

        Raises:
            EnvironmentFailed: the target does not run (any more), or the engine refused.
        """
        refused: GamedayError | None = None
        where, bounded = target.container[:12], kind == NETWORK  # what bounds a command would be its parent
        for _ in range(_ATTEMPTS):
            door = self._known.get((target, kind)) or self._find(target, kind) or self._open(target, kind)
            within_s = timeout_s if bounded else _QUICK_S
            try:
                done = run_in(self._client, door, argv, stdin=stdin, timeout_s=within_s, where=where, bounded=bounded)
                if done.code not in _CUT_SHORT or (done.code != KILLED and stays(functools.partial(self._runs, door))):
                    self._known[target, kind] = door
                    return done
            except DeadlineExceeded as err:
                if bounded:
                    raise
                refused = err  # the engine sometimes never says that a command ended with its container
            except EnvironmentFailed as err:
                refused = err
                if stays(functools.partial(self._runs, door)):
                    raise
            self._known.pop((target, kind), None)  # it ended meanwhile: its time was up, or the target's was
            if not self.lives(target):
                break
        seen = str(refused) if refused else "it closes again and again"
        raise EnvironmentFailed("the container cannot be reached through a door", where=where, observed=seen)

    def targets(self) -> list[Target]:
        """Those with an open network door, whoever opened it, that have not restarted since."""
        return [target for target in {_target_of(door) for door in self._list({helper.HELPER: NETWORK})} if self.lives(target)]

    def lives(self, target: Target) -> bool:
        """Is the container still in that life?"""
        with calling("look at a container", ignore=(404,)):
            state = self._client.api.inspect_container(target.container)["State"]
            return bool(state["Running"]) and state["StartedAt"] == target.started
        return False

    def sweep(self) -> list[str]:
        """Remove helpers that were made and never started, because whoever made them died in between; returns their names."""
        filters = {"label": [helper.HELPER, f"{helper.SCOPE}={self._scope}"], "status": "created"}
        with calling("list helpers"):
            made = self._client.api.containers(all=True, filters=filters)
        left = [one for one in made if owner_is_dead(one["Labels"])]
        for one in left:
            remove(self._client, one["Id"])
        return [one["Names"][0].lstrip("/") for one in left]

    def close(self, wanted: Callable[[Target], bool] = lambda _: True) -> None:
        """Remove the doors of ``wanted`` targets, whoever opened them, and wait until they are gone."""
        doors = [door for door in self._list({}) if wanted(_target_of(door))]
        closed = {_target_of(door) for door in doors}
        self._known = {key: door for key, door in self._known.items() if key[0] not in closed}
        if doors:
            with ThreadPoolExecutor(len(doors)) as pool:
                list(pool.map(lambda door: remove(self._client, door["Id"]), doors))

    def _find(self, target: Target, kind: str) -> str:
        found = self._list({helper.HELPER: kind, helper.TARGET: target.container, helper.STARTED: target.started})
        return str(found[0]["Id"]) if found else ""

    def _list(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        wanted = {helper.SCOPE: self._scope, **labels}
        filters = {"label": [f"{key}={value}" for key, value in wanted.items()], "status": "running"}
        with calling("list doors"):
            found: list[dict[str, Any]] = self._client.api.containers(filters=filters)
        return [door for door in found if door["Labels"][helper.HELPER] in (NETWORK, PROCESS, HOST)]

    def _open(self, target: Target, kind: str) -> str:
        api = self._client.api
        waits = ["/bin/sh", "-c", helper.script("door"), "sh", str(LIFE_S)] if kind == NETWORK else [*SLEEPER]
        door = {helper.HELPER: kind, helper.SCOPE: self._scope, helper.TARGET: target.container, helper.STARTED: target.started}
        labels = {**door, **maker_labels()}
        name = f"gameday-door-{target.container[:12]}-{secrets.token_hex(3)}"
        config = api.create_host_config(cap_drop=["ALL"], auto_remove=True, **_shared(target, kind))
        with calling("open a door", target.container[:12]):
            made = api.create_container(self._image(), entrypoint=waits, command=[], name=name, user="0", labels=labels, host_config=config)
            try:
                api.start(made["Id"])
            except BaseException:
                remove(self._client, made["Id"])
                raise
        return str(made["Id"])

    def _runs(self, door: str) -> bool:
        with calling("look at a door", ignore=(404,)):
            return bool(self._client.api.inspect_container(door)["State"]["Running"])
        return False


def _target_of(door: Mapping[str, Any]) -> Target:
    return Target(door["Labels"][helper.TARGET], door["Labels"][helper.STARTED])


def _shared(target: Target, kind: str) -> dict[str, Any]:
    """Which namespace, and with which rights."""
    if kind == NETWORK:
        return {"network_mode": f"container:{target.container}", "cap_add": ["NET_ADMIN", "NET_RAW"]}
    if kind == PROCESS:
        return {"network_mode": "none", "pid_mode": f"container:{target.container}", "cap_add": ["KILL", "SYS_PTRACE"]}
    return {"network_mode": "none", "pid_mode": "host", "cap_add": ["KILL"]}


def stays(runs: Callable[[], bool]) -> bool:
    """A container that refused: is it there for good, or was it just about to go?"""
    try:
        wait_for(lambda: not runs(), timeout_s=_ENDS_WITHIN_S, what="a helper to end", interval_s=0.05)
    except DeadlineExceeded:
        return True
    return False


def remove(client: Any, container: str, *, timeout_s: float = 15.0) -> None:
    """Kill and remove one of our containers, and wait until it is gone. A no-op where it is."""

    def attempt() -> bool:
        with calling("remove a helper", ignore=_GONE):
            client.api.remove_container(container, force=True, v=True)
        return not client.api.containers(all=True, quiet=True, filters={"id": container})

    wait_for(attempt, timeout_s=timeout_s, what=f"the helper {container[:12]} to be gone", interval_s=0.02)
