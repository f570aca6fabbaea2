"""The environment ``docker-attach``: containers that somebody else runs. A standing environment: nothing of it is ours but what we break.

It starts no system and removes none. Nothing is asked of the engine before ``doctor``, ``check``, ``open``, ``resolve`` or ``dead_man``.
"""

from __future__ import annotations

import hashlib
import json
import platform
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.core.errors import BadInput, EnvironmentGone, GamedayError, Unavailable
from chaos.core.model import Json, NodeRef, Undo
from chaos.environments.base import ProbeLine
from chaos.environments.docker.attach import helper
from chaos.environments.docker.attach.container import PROJECT, main_address, names
from chaos.environments.docker.attach.deadman import AttachedDeadMan
from chaos.environments.docker.attach.doors import Doors
from chaos.environments.docker.attach.node import AttachedNode, Beside, Rights
from chaos.environments.docker.attach.objects import EngineLease, EngineStop
from chaos.environments.docker.attach.warden import Wardens
from chaos.environments.docker.engine import BASE_IMAGE, calling, connect, container_exists, image_present

_SOCKET = "/var/run/docker.sock"


class DockerAttach:
    """Implements :class:`~chaos.environments.base.Environment` for a compose ``project``, or for containers that bear ``labels``.

    ``helper_image`` names an image with nft, iproute2, ping, curl, flock and coreutils; without it one is built from
    ``debian:bookworm-slim``. ``deadline_s`` is for how long packets are dropped unless the drop is extended. ``owner`` tells runs apart: a
    healer has it from :meth:`settings`.
    """

    kind = "docker-attach"
    disposable = False
    identity_keys = ("engine", "target")

    def __init__(
        self,
        *,
        project: str = "",
        labels: Mapping[str, str] | None = None,
        name: str = "docker-attach",
        helper_image: str = "",
        deadline_s: float = 10.0,
        owner: str = "",
    ) -> None:
        if bool(project) == bool(labels):
            raise BadInput("docker-attach needs to know which containers", where=name, expected="either project or labels")
        if not 1.0 <= deadline_s <= 3600.0:
            raise BadInput(f"deadline_s = {deadline_s:g} is not usable", where=name, expected="1 to 3600 seconds")
        self.name = name
        self._project, self._wanted_labels = project, dict(labels or {PROJECT: project})
        self._helper_image, self._deadline_s = helper_image, float(deadline_s)
        self._owner = owner or secrets.token_hex(6)
        self._connection: Any = None
        self._image = ""
        self._rights = Rights()
        self._doors: Doors | None = None
        self._switch: AttachedDeadMan | None = None
        self._stop = EngineStop()

    def settings(self) -> dict[str, Json]:
        selected: dict[str, Json] = {"project": self._project} if self._project else {"labels": {**self._wanted_labels}}
        others: dict[str, Json] = {"helper_image": self._helper_image, "deadline_s": self._deadline_s, "owner": self._owner}
        return {"name": self.name, **selected, **others}

    def doctor(self) -> list[ProbeLine]:
        try:
            client = connect(5.0)
        except Unavailable as err:
            return [ProbeLine("engine", False, err.observed or err.what, err.next_step)]
        try:
            with calling("describe itself"):
                info = client.info()
            lines = [ProbeLine("engine", True, f"{info['ServerVersion']} on {info['OperatingSystem']}, {info['ID']}")]
            return [*lines, _kind_line(info), self._containers_line(client), self._helper_line(client)]
        except GamedayError as err:
            return [ProbeLine("engine", False, str(err), "restart the engine (sudo systemctl restart docker)")]
        finally:
            client.close()

    def _containers_line(self, client: Any) -> ProbeLine:
        found = names(self._listed(client), composed=bool(self._project))
        if found:
            return ProbeLine("containers", True, ", ".join(sorted(found.values())))
        fix = f"docker compose -p {self._project} up -d" if self._project else "give the containers these labels, or name others"
        return ProbeLine("containers", False, f"none with {self._target()}", fix)

    def _helper_line(self, client: Any) -> ProbeLine:
        if helper.helper_present(client, self._helper_image):
            return ProbeLine("helper image", True, self._helper_image or f"{helper.REPOSITORY} is there")
        if self._helper_image:
            return ProbeLine("helper image", False, f"{self._helper_image} is not there", f"docker pull {self._helper_image}")
        if image_present(client, BASE_IMAGE):
            return ProbeLine("helper image", True, f"will be built from {BASE_IMAGE} (needs a Debian mirror, once)")
        return ProbeLine("helper image", False, f"{BASE_IMAGE} is not there", f"docker pull {BASE_IMAGE}, or set helper_image")

    def check(self) -> None:
        bad = [line for line in self.doctor() if not line.ok]
        if bad:
            raise Unavailable(f"{self.name} does not work here: {bad[0].what}", observed=bad[0].seen, next_step=bad[0].fix)

    def open(self, *, run_id: str, state_dir: Path) -> None:
        """Connect, and have the helper image: building it during a drill would take too long. Removes only what dead runs left."""
        self._helper()
        self.reclaim()

    def identity(self) -> dict[str, str]:
        """``engine`` and ``target`` pin it; the rest is for the report."""
        with calling("describe itself"):
            info = self._client().info()
        return {
            "engine": str(info["ID"]),
            "target": self._target(),
            "engine_version": str(info["ServerVersion"]),
            "engine_host": str(info["Name"]),
            "kernel": str(info["KernelVersion"]),
            "host": platform.node(),
        }

    def nodes(self) -> Mapping[str, AttachedNode]:
        """Name -> node, of every container that is there now, running or not: the compose service, with its number where it is scaled; a
        container's own name where it was found by labels."""
        found = self._listed(self._client())
        named = names(found, composed=bool(self._project))
        if len(set(named.values())) != len(named):
            raise BadInput("two containers would have the same node name", where=self.name, observed=", ".join(sorted(named.values())))
        refs = [self._ref(named[container["Id"]], container) for container in found]
        return {ref.name: AttachedNode(self._beside(), ref) for ref in sorted(refs, key=lambda ref: ref.name)}

    def _ref(self, name: str, container: Mapping[str, Any]) -> NodeRef:
        address = main_address(container["NetworkSettings"]["Networks"])
        return NodeRef(self.name, self._project or self.name, name, {"container": container["Id"], "address": address})

    def resolve(self, ref: NodeRef) -> AttachedNode:
        if not container_exists(self._client(), ref.locator["container"]):
            raise EnvironmentGone("the container does not exist any more", where=str(ref), next_step="compose may have made a new one")
        return AttachedNode(self._beside(), ref)

    def reclaim(self) -> list[str]:
        """Helpers that a dead run made and could not start any more."""
        return [f"helper {name}" for name in self._doorway().sweep()]

    def dead_man(self) -> AttachedDeadMan:
        if self._switch is None:
            from testcontainers.core.docker_client import get_docker_host

            host = get_docker_host() or ""
            socket = host.removeprefix("unix://") if host.startswith("unix://") else _SOCKET
            wardens = Wardens(self._client(), self._helper, scope=self._scope(), owner=self._owner, socket=socket)
            self._switch = AttachedDeadMan(wardens, self._doorway(), self.resolve, self._deadline_s)
        return self._switch

    def permit_undo(self, undo: Undo) -> None:
        """Every node is there, and one that a shell script puts back has a shell."""
        known = {ref.name: self.resolve(ref) for ref in undo.nodes}
        for step in undo.steps:
            if step.do == "shell" and not known[step.node].has_shell():
                raise Unavailable("the container has no shell to put it back with", where=step.node, next_step="choose another fault")

    def lease_store(self) -> EngineLease:
        """Everybody who attaches to the same containers shares it, from whatever machine."""
        return EngineLease(self._helper(), self._scope())

    def stop_requested(self) -> str:
        return self._stop.requested()

    def request_stop(self, reason: str) -> None:
        """Stops the drills of everybody on this engine."""
        self._stop.request(reason)

    def clear_stop(self) -> None:
        self._stop.clear()

    def close(self) -> None:
        """Remove the doors. A warden that is armed stays, and so does what the kernel holds: both end by themselves."""
        if self._connection is not None:
            if self._doors is not None:
                self._doors.close()
            self._connection.close()
        self._connection = self._doors = self._switch = None
        self._stop.close()

    def _client(self) -> Any:
        if self._connection is None:
            self._connection = connect()
        return self._connection

    def _helper(self) -> str:
        if not self._image:
            self._image = helper.helper_image(self._client(), self._helper_image)
        return self._image

    def _doorway(self) -> Doors:
        if self._doors is None:
            self._doors = Doors(self._client(), self._helper, self._scope())
        return self._doors

    def _beside(self) -> Beside:
        return Beside(self._client(), self._doorway(), self._deadline_of, lambda: self._listed(self._client()), self._rights)

    def _deadline_of(self, tag: str) -> float:
        return self._deadline_s if self._switch is None else self._switch.deadline_s(tag)

    def _listed(self, client: Any) -> list[Mapping[str, Any]]:
        with calling("list containers", self.name):
            filters = {"label": [f"{key}={value}" for key, value in self._wanted_labels.items()]}
            found: list[Mapping[str, Any]] = client.api.containers(all=True, filters=filters)
        return [container for container in found if helper.HELPER not in container["Labels"]]

    def _target(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in sorted(self._wanted_labels.items()))

    def _scope(self) -> str:
        """The same for everybody who attaches to the same containers."""
        return hashlib.sha256(json.dumps(self._wanted_labels, sort_keys=True).encode()).hexdigest()[:12]


def _kind_line(info: Mapping[str, Any]) -> ProbeLine:
    linux = info["OSType"] == "linux"
    seen = f"{info['OSType']}, cgroup v{info.get('CgroupVersion', '1')}"
    return ProbeLine("Linux containers", linux, seen, "" if linux else "switch the engine to Linux containers")
