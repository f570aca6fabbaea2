"""Removes what dead runs left on the engine: containers, networks and volumes that bear our labels and whose owner is gone.

What a living run owns is never touched, so two runs side by side leave each other alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chaos.environments.docker.engine import calling
from chaos.environments.docker.owner import RUN, owner_is_dead

_GONE = (404, 409)
"""Already removed, or somebody else is removing it now."""


def remove_labelled(client: Any, wanted: Callable[[Mapping[str, str]], bool]) -> list[str]:
    """Remove everything of ours whose labels ``wanted`` accepts; returns what was removed, by kind and name."""
    filters = {"label": RUN}
    removed: list[str] = []
    with calling("list what runs left behind"):
        containers = [c for c in client.api.containers(all=True, filters=filters) if wanted(c.get("Labels") or {})]

    def remove_container(container: Mapping[str, Any]) -> None:
        with calling("remove a container", ignore=_GONE):
            client.api.remove_container(container["Id"], force=True, v=True)

    if containers:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(remove_container, containers))
    removed += [f"container {c['Names'][0].lstrip('/')}" for c in containers]
    with calling("list the networks and volumes that runs left behind"):
        networks = [n for n in client.api.networks(filters=filters) if wanted(n.get("Labels") or {})]
        volumes = [v for v in client.api.volumes(filters=filters)["Volumes"] or [] if wanted(v.get("Labels") or {})]
    for network in networks:
        with calling("remove a network", ignore=(*_GONE, 403)):
            client.api.remove_network(network["Id"])
        removed.append(f"network {network['Name']}")
    for volume in volumes:
        with calling("remove a volume", ignore=_GONE):
            client.api.remove_volume(volume["Name"], force=True)
        removed.append(f"volume {volume['Name']}")
    return removed


def sweep_dead(client: Any) -> list[str]:
    """Remove what belongs to dead runs."""
    return remove_labelled(client, owner_is_dead)
