"""Which file systems of a container are its own. Looks only; filling them is a fault's business.

Its own is a volume (or ``--tmpfs``) that has a size of its own and that no other node has mounted. Never: the container's root and
every volume on the engine's disk (filling those fills the host: their device is that of ``/etc/hostname`` and its like, which the
engine mounts from its own disk), directories of the host, and the kernel's own mounts.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from chaos.core.errors import EnvironmentFailed
from chaos.core.model import Json
from chaos.environments.base import Volume
from chaos.environments.docker.engine import calling

# Devices of the engine's disk, a line between, then one line per place: device, fragment size, blocks, those free to users, path.
LOOK = """
stat -c %d / /etc/hostname /etc/hosts /etc/resolv.conf 2>/dev/null
echo --
for place in "$@"; do echo "$(stat -c %d "$place") $(stat -f -c '%S %b %a' "$place") $place"; done
"""
# What faults leave on a volume while they are in place, and the names of processes that a debugger holds.
_LEFT = "for place in {places}; do ls -A \"$place\" 2>/dev/null | grep '^\\.gameday-'; done; echo --; "
_TRACED = "for one in $(grep -ls '^TracerPid:[[:space:]]*[1-9]' /proc/[0-9]*/status); do head -n 1 $one; done; true"

Keeps: TypeAlias = Callable[[Mapping[str, str]], bool]
"""Do these labels say that a container is there only to keep volumes from being emptied?"""


def places(seen: Mapping[str, Any]) -> list[str]:
    """Where the engine has mounted something that could be the container's own, by what it says of the container."""
    mounted = [str(mount["Destination"]) for mount in seen["Mounts"] if mount["Type"] in ("volume", "tmpfs")]
    return sorted({*mounted, *(seen["HostConfig"].get("Tmpfs") or {})})


def own(printed: str) -> list[Volume]:
    """Those of :data:`LOOK`'s places that are not on the engine's disk."""
    shared, found, measured = printed.partition("--\n")
    if not found:
        raise EnvironmentFailed("the node's volumes could not be read", observed=printed[-300:])
    volumes = []
    for line in measured.splitlines():
        device, fragment_bytes, blocks, free, path = line.split(" ", 4)
        if device not in shared.split() and int(blocks):
            volumes.append(Volume(path, int(blocks) * int(fragment_bytes), int(free) * int(fragment_bytes)))
    return volumes


def shared_places(client: Any, container_id: str, seen: Mapping[str, Any], keeps: Keeps, where: str) -> set[str]:
    """Places whose volume is a directory of the host in disguise, or is mounted by another container that does not merely keep it."""
    found = set()
    for mount in seen["Mounts"]:
        if mount["Type"] != "volume":
            continue
        with calling("describe a volume", where):
            volume = client.api.inspect_volume(mount["Name"])
            users = client.api.containers(all=True, filters={"volume": mount["Name"]})
        bound = "bind" in str((volume.get("Options") or {}).get("o", "")).split(",")
        if bound or any(user["Id"] != container_id and not keeps(user["Labels"] or {}) for user in users):
            found.add(str(mount["Destination"]))
    return found


def state_script(seen: Mapping[str, Any]) -> str:
    """Prints what :func:`disk_state` reads."""
    return _LEFT.format(places=" ".join(map(shlex.quote, places(seen)))) + _TRACED


def disk_state(left: str, traced: str) -> dict[str, Json]:
    """What faults could have changed, for a node's state."""
    files: list[Json] = [*sorted(left.splitlines())]
    names: list[Json] = [*sorted(line.partition(":")[2].strip() for line in traced.splitlines())]
    return {"disk": files, "traced": names}
