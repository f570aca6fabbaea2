"""The warden: a small container beside the nodes that undoes what the kernel does not expire by itself, when nobody extends it any more.

This is the side that talks to it; what it does is ``scripts/warden.sh``. One per owner and engine, started when the first fault is armed.
It holds the engine's socket and no network, comes back with the engine (restart policy ``always``), counts by the machine's uptime, which
no setting of a clock moves, and removes itself when nothing is armed any more. It bears no label by which a dead run is swept.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chaos.core.clock import wait_for
from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.environments.base import Completed
from chaos.environments.docker.attach import helper
from chaos.environments.docker.attach.doors import KILLED, remove, stays
from chaos.environments.docker.engine import calling
from chaos.environments.docker.execute import run_in
from chaos.environments.docker.owner import maker_labels

WARDEN = "warden"
_UNKNOWN, _ACTED, _NO_ENGINE, _EMPTY, _LEAVING = 3, 4, 7, 8, 9
_CODES = (0, _UNKNOWN, _ACTED, _NO_ENGINE, _EMPTY, _LEAVING)
_ATTEMPTS = 3
_COMMAND_S = 20.0


class Wardens:
    """Those of one owner: normally none or one. ``socket`` is the path of the engine's socket on the engine's own machine."""

    def __init__(self, client: Any, image: Callable[[], str], *, scope: str, owner: str, socket: str) -> None:
        self._client, self._image = client, image
        self._labels = {helper.HELPER: WARDEN, helper.SCOPE: scope, helper.OWNER: owner}
        self._socket = socket
        self._scripts: dict[str, str] = {}

    def arm(self, fault_id: str, files: Mapping[str, str], deadline_s: float) -> None:
        """Have the steps in ``files`` done in ``deadline_s``.

        Raises:
            Unavailable: the warden cannot reach the engine, with the fix.
        """
        pairs = [text for pair in {"id": fault_id, **files}.items() for text in pair]
        for _ in range(_ATTEMPTS):
            warden = [*self._running(), ""][0] or self._start()
            done = self._ask(warden, "warden_arm", _key(fault_id), _ticks(deadline_s), *pairs)
            if done is None or done.code == _LEAVING:
                self._await_gone(warden)
                continue
            if done.code == _NO_ENGINE:
                remove(self._client, warden)
                raise Unavailable(
                    "the dead-man's switch cannot reach the engine from its container",
                    where=self._socket,
                    observed=done.err.strip()[-300:],
                    next_step="let DOCKER_HOST name the socket as it is called on the engine's own machine (unix:///var/run/docker.sock)",
                )
            if done.code != 0:
                raise EnvironmentFailed("the dead-man's switch was not armed", where=fault_id, observed=done.err.strip()[-300:])
            return
        raise EnvironmentFailed("the dead-man's switch ends again and again", where=fault_id)

    def extend(self, fault_id: str, deadline_s: float) -> tuple[str, ...] | None:
        """None: not armed here; else the tags of what the kernel is to be told besides. Raises EnvironmentFailed where it has acted, or
        is about to."""
        for warden in self._running():
            done = self._ask(warden, "warden_extend", _key(fault_id), _ticks(deadline_s))
            if done is not None and done.code == 0:
                return tuple(done.out.split())
            if done is not None and done.code != _UNKNOWN:
                raise EnvironmentFailed(
                    "the dead-man's switch has acted", where=fault_id, observed=done.out.strip()[-300:] or f"exit {done.code}"
                )
        return None

    def disarm(self, fault_id: str) -> None:
        """It will not act; an act under way is waited for. The last one takes the warden with it."""
        for warden in self._running():
            done = self._ask(warden, "warden_disarm", _key(fault_id))
            if done is not None and done.code not in (0, _EMPTY, _LEAVING):
                observed = f"exit {done.code} {done.err.strip()[-300:]}"
                raise EnvironmentFailed("the dead-man's switch was not disarmed", where=fault_id, observed=observed)
            if done is None or done.code == _LEAVING:
                self._await_gone(warden)
            elif done.code == _EMPTY:
                remove(self._client, warden)

    def armed(self) -> dict[str, float]:
        """Fault id -> seconds left; negative for one that is still trying."""
        left: dict[str, float] = {}
        for warden in self._running():
            done = self._ask(warden, "warden_list")
            for line in done.out.splitlines() if done is not None and done.code == 0 else ():
                ticks, _, fault_id = line.partition(" ")
                left[fault_id] = int(ticks) / 100
        return left

    def _running(self) -> list[str]:
        filters = {"label": [f"{key}={value}" for key, value in self._labels.items()], "status": "running"}
        with calling("list dead-man's switches"):
            return [str(found["Id"]) for found in self._client.api.containers(filters=filters)]

    def _ask(self, warden: str, name: str, *arguments: str) -> Completed | None:
        """None: it is gone."""
        if name not in self._scripts:
            self._scripts[name] = helper.script(name)
        try:
            done = run_in(self._client, warden, ("sh", "-c", self._scripts[name], "sh", *arguments), timeout_s=_COMMAND_S, where=WARDEN)
        except EnvironmentFailed:
            if stays(lambda: warden in self._running()):
                raise
            return None
        if done.code == KILLED or (done.code not in _CODES and not stays(lambda: warden in self._running())):
            return None  # whatever it said, it said so while its container was going
        return done

    def _start(self) -> str:
        api = self._client.api
        name = f"gameday-warden-{self._labels[helper.OWNER]}-{secrets.token_hex(3)}"
        config = api.create_host_config(
            binds=[f"{self._socket}:/run/engine.sock"],
            network_mode="none",
            restart_policy={"Name": "always"},
            cap_drop=["ALL"],
            security_opt=["label=disable"],
            userns_mode="host",
        )
        with calling("start the dead-man's switch"):
            made = api.create_container(
                self._image(),
                entrypoint=["/bin/sh", "-c", helper.script("warden")],
                command=[],
                name=name,
                user="0",
                working_dir="/warden",
                environment={"GAMEDAY_SELF": name},
                labels={**self._labels, **maker_labels()},
                host_config=config,
            )
            try:
                api.start(made["Id"])
            except BaseException:
                remove(self._client, made["Id"])
                raise
        return str(made["Id"])

    def _await_gone(self, warden: str) -> None:
        wait_for(lambda: warden not in self._running(), timeout_s=10.0, what="a dead-man's switch that is leaving to be gone")


def steps_files(steps: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """The warden's files for ``(verb, container, argument)``: a line per step. The argument of ``start`` is for how many seconds what
    still runs is watched; that of ``shell`` a script, for which the engine is asked in two ways: the first gives it all rights."""
    files: dict[str, str] = {}
    lines = []
    for number, (verb, container, argument) in enumerate(steps):
        if verb == "shell":
            body = {"AttachStdout": True, "AttachStderr": True, "User": "0", "Cmd": ["sh", "-c", argument]}
            argument = f"body{number}"
            files |= {argument: json.dumps({**body, "Privileged": True}), f"{argument}.plain": json.dumps(body)}
        lines.append(f"{verb} {container} {argument or '-'}\n")
    return {"steps": "".join(lines), **files}


def _key(fault_id: str) -> str:
    return hashlib.sha256(fault_id.encode()).hexdigest()[:16]


def _ticks(span_s: float) -> str:
    return str(max(1, round(span_s * 100)))
