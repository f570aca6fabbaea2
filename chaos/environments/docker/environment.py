"""The environment ``docker``: disposable systems on a Docker engine, through testcontainers.

Attaching to containers that somebody else runs is not here. Nothing is asked of the engine before ``doctor``, ``check`` or ``open``.
"""

from __future__ import annotations

import fcntl
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.core.errors import EnvironmentFailed, EnvironmentGone, GamedayError, Unavailable
from chaos.core.model import Json, NodeRef
from chaos.environments.base import ProbeLine
from chaos.environments.docker import images
from chaos.environments.docker.engine import BASE_IMAGE, calling, connect, container_exists, image_present, image_pullable
from chaos.environments.docker.lan import Lan
from chaos.environments.docker.node import DockerNode
from chaos.environments.docker.ryuk import ryuk_choice, use_ryuk
from chaos.environments.docker.sweep import sweep_dead

MINIMUM_API = (1, 40)


class Docker:
    """Implements :class:`~chaos.environments.base.Environment`. Every system gets a network of its own (:meth:`lan`).

    ``reach`` is how this process gets to the nodes: ``auto``, ``direct`` or ``published`` (see :mod:`~chaos.environments.docker.lan`).
    """

    name = "docker"
    kind = "docker"
    disposable = True

    def __init__(self, *, reach: str = "auto") -> None:
        self._reach = reach
        self._client: Any = None
        self._run_id = ""
        self._state_dir = Path()
        self._lans: list[Lan] = []
        self.swept: tuple[str, ...] = ()
        self.ryuk = ""

    def doctor(self) -> list[ProbeLine]:
        try:
            client = connect(5.0)
        except Unavailable as err:
            return [ProbeLine("engine", False, err.observed or err.what, err.next_step)]
        try:
            return _probe(client)
        except GamedayError as err:
            return [ProbeLine("engine", False, str(err), "restart the engine (sudo systemctl restart docker)")]
        finally:
            client.close()

    def check(self) -> None:
        bad = [line for line in self.doctor() if not line.ok]
        if bad:
            raise Unavailable(f"the docker environment does not work here: {bad[0].what}", observed=bad[0].seen, next_step=bad[0].fix)

    def open(self, *, run_id: str, state_dir: Path) -> None:
        """Connect, decide on Ryuk, and remove what dead runs left on the engine (``swept`` names it)."""
        state_dir.mkdir(parents=True, exist_ok=True)
        self._client, self._run_id, self._state_dir = connect(), run_id, state_dir
        wanted, self.ryuk = ryuk_choice(self._client, state_dir / "ryuk.json")
        use_ryuk(wanted)
        self.swept = tuple(sweep_dead(self._client))

    def identity(self) -> dict[str, str]:
        with calling("describe itself"):
            info = self._opened().info()
        return {
            "host": platform.node(),
            "kernel": str(info["KernelVersion"]),
            "engine": str(info["ID"]),
            "engine_version": str(info["ServerVersion"]),
            "engine_host": str(info["Name"]),
            "ryuk": self.ryuk,
        }

    def image(self, repository: str, context: Path, arguments: Mapping[str, str]) -> str:
        """The tag of the image made from ``context``; built at most once, by one process at a time."""
        client = self._opened()
        with (self._state_dir / "build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return images.build(client, repository, context, arguments)

    def lan(self, system: str) -> Lan:
        """A fresh, empty network for one system."""
        lan = Lan(self._opened(), environment=self.name, system=system, run_id=self._run_id, reach=self._reach)
        self._lans.append(lan)
        return lan

    def resolve(self, ref: NodeRef) -> DockerNode:
        """The node behind a reference, from its locator alone: for a process that did not start it. Needs no ``open``.

        Raises:
            EnvironmentGone: the container does not exist any more; EnvironmentFailed: the engine does not say.
        """
        if self._client is None:
            self._client = connect()
        if not container_exists(self._client, ref.locator["container"]):
            raise EnvironmentGone("the container does not exist any more", where=str(ref))
        return DockerNode(self._client, ref)

    def settings(self) -> dict[str, Json]:
        return {"reach": self._reach}

    def reclaim(self) -> list[str]:
        if self._client is None:
            self._client = connect()
        return sweep_dead(self._client)

    def dead_man(self) -> None:
        return None

    def close(self) -> None:
        """Remove every system of this process."""
        for lan in self._lans:
            lan.close()
        self._lans.clear()
        if self._client is not None:
            self._client.close()
            self._client = None

    def _opened(self) -> Any:
        if self._client is None or not self._run_id:
            raise EnvironmentFailed("the environment is not open", where=self.name)
        return self._client


def _probe(client: Any) -> list[ProbeLine]:
    with calling("describe itself"):
        info, version = client.info(), client.version()
    api = tuple(int(part) for part in str(version["ApiVersion"]).split("."))
    minimum = ".".join(map(str, MINIMUM_API))
    networks = (info.get("Plugins") or {}).get("Network") or []
    lines = [
        ProbeLine("engine", True, f"{info['ServerVersion']} on {info['OperatingSystem']}"),
        ProbeLine("permission", True, f"its socket answers this user ({client.api.base_url})"),
        ProbeLine(
            "API version",
            api >= MINIMUM_API,
            str(version["ApiVersion"]),
            "" if api >= MINIMUM_API else f"upgrade the engine to API {minimum}",
        ),
        ProbeLine(
            "Linux containers",
            info["OSType"] == "linux",
            str(info["OSType"]),
            "" if info["OSType"] == "linux" else "switch the engine to Linux containers",
        ),
        ProbeLine("freezer", True, f"cgroup v{info.get('CgroupVersion', '1')} by {info.get('CgroupDriver', '?')}"),
        ProbeLine(
            "networks",
            "bridge" in networks,
            f"drivers {', '.join(networks) or 'none'}",
            "" if "bridge" in networks else "start dockerd without --bridge=none, with iptables installed",
        ),
    ]
    lines.append(_base_image_line(client))
    wanted, why = ryuk_choice(client, None)
    lines.append(
        ProbeLine("Ryuk", True, f"{'on' if wanted else 'off'}: {why}{'' if wanted else '; leftovers are swept at the next start'}")
    )
    return lines


def _base_image_line(client: Any) -> ProbeLine:
    if image_present(client, BASE_IMAGE):
        return ProbeLine("base image", True, f"{BASE_IMAGE} is present")
    if image_pullable(BASE_IMAGE):
        return ProbeLine("base image", True, f"{BASE_IMAGE} can be pulled")
    fix = f"docker pull {BASE_IMAGE} where a registry is reachable, else .ci/base-image (needs mmdebstrap)"
    return ProbeLine("base image", False, f"{BASE_IMAGE} is neither present nor to be had from its registry", fix)
