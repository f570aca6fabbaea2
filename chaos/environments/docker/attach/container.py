"""What the engine says of a container that is not ours: names, addresses, and everything that a drill must leave as it found it.

Reads what ``docker inspect`` shows; asks the engine nothing and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from chaos.core.model import Json
from chaos.environments.docker import limits

PROJECT, SERVICE, NUMBER = "com.docker.compose.project", "com.docker.compose.service", "com.docker.compose.container-number"
_ENDPOINT = ("IPAMConfig", "Links", "Aliases", "DriverOpts")
_HOST = ("RestartPolicy", "PortBindings", "Binds", "Dns", "ExtraHosts", "CapAdd", "CapDrop", "Privileged", "PidsLimit", "NetworkMode")


def names(found: list[Mapping[str, Any]], *, composed: bool) -> dict[str, str]:
    """Container id -> node name, of what ``GET /containers/json`` lists: the service, with its number where it is scaled; the container's
    own name where there is no service."""
    services = [c["Labels"].get(SERVICE, "") for c in found] if composed else []
    named: dict[str, str] = {}
    for container in found:
        own, service = container["Names"][0].lstrip("/"), container["Labels"].get(SERVICE, "")
        number = container["Labels"].get(NUMBER, "1")
        if not composed or not service:
            named[container["Id"]] = own
        else:
            named[container["Id"]] = service if services.count(service) == 1 else f"{service}-{number}"
    return named


def addresses(networks: Mapping[str, Mapping[str, Any]] | None) -> dict[str, str]:
    """Network -> IPv4 address, those that it has now; a fixed address also of one that does not run."""
    found = {}
    for name, endpoint in sorted((networks or {}).items()):
        address = endpoint.get("IPAddress") or (endpoint.get("IPAMConfig") or {}).get("IPv4Address") or ""
        if address:
            found[name] = str(address)
    return found


def main_address(networks: Mapping[str, Mapping[str, Any]] | None) -> str:
    """On compose's default network where it is on that, else on the first by name; "" for none."""
    found = addresses(networks)
    default = [address for name, address in found.items() if name.endswith("_default")]
    return (default or [*found.values(), ""])[0]


def snapshot(seen: Mapping[str, Any]) -> dict[str, Json]:
    """Comparable: power, configuration, networks. Equal before a drill and after it; holds no secret (variables are hashed)."""
    config = seen["HostConfig"]
    mounts: list[Json] = [*sorted(" ".join((m["Type"], m.get("Name") or m["Source"], m["Destination"], m["Mode"])) for m in seen["Mounts"])]
    plain: dict[str, Json] = {key: config.get(key) for key in _HOST}
    shown: dict[str, Json] = {
        "powered": bool(seen["State"]["Running"]),
        "frozen": bool(seen["State"]["Paused"]),
        "limits": {**limits.of(config), "CpuPeriod": config.get("CpuPeriod", 0), "MemorySwap": config.get("MemorySwap", 0)},
        "networks": {name: _endpoint(endpoint) for name, endpoint in sorted((seen["NetworkSettings"]["Networks"] or {}).items())},
        "mounts": mounts,
        "host_config": plain,
        "config": hashlib.sha256(json.dumps([seen["Image"], seen["Name"], seen["Config"]], sort_keys=True).encode()).hexdigest()[:16],
    }
    return shown


def _endpoint(endpoint: Mapping[str, Any]) -> dict[str, Json]:
    shown: dict[str, Json] = {key: endpoint.get(key) for key in _ENDPOINT}
    return {**shown, "address": endpoint.get("IPAddress", ""), "prefix": endpoint.get("IPPrefixLen", 0)}
