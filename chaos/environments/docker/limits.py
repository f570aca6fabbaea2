"""A container's processor quota and memory limit, read from and set through the engine. Part of ``node``.

The engine keeps a quota in one of two forms, and refuses one where the container was made with the other: NanoCpus (``--cpus``) or
CpuQuota over CpuPeriod. It cannot be told to forget either: what never had a quota has -1 afterwards, which the kernel calls none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.core.errors import EnvironmentFailed
from chaos.environments.docker.engine import calling

KERNEL_PERIOD_US = 100_000
NANO = 1_000_000_000
KEYS = ("Memory", "NanoCpus", "CpuQuota", "PidsLimit")
# Bytes in use, then those of file pages that the kernel would give up first (docker stats leaves them out too). cgroup v2, then v1.
MEMORY_SCRIPT = """
cd /sys/fs/cgroup || exit 1
cat memory.current 2>/dev/null || cat memory/memory.usage_in_bytes || exit 1
sed -n 's/^inactive_file //p' memory.stat 2>/dev/null || sed -n 's/^total_inactive_file //p' memory/memory.stat
"""


def of(config: Mapping[str, Any]) -> dict[str, int | None]:
    """What a node's state says of ``HostConfig``; no quota is 0, however the engine puts it."""
    return {key: max(0, config[key]) if key == "CpuQuota" else config[key] for key in KEYS}


def cores(config: Mapping[str, Any]) -> float | None:
    """How many processors ``HostConfig`` allows; None: all."""
    if config["NanoCpus"] > 0:
        return float(config["NanoCpus"]) / NANO
    if config["CpuQuota"] > 0:
        return float(config["CpuQuota"]) / (config["CpuPeriod"] or KERNEL_PERIOD_US)
    return None


def limit(client: Any, container: str, config: Mapping[str, Any], wanted: float | None, where: str) -> None:
    """Allow ``wanted`` processors, in the form in which the container has its quota."""
    with calling("limit the processors", where):
        if config["NanoCpus"] > 0:
            # docker-py has no argument for this one.
            nano = round((client.api.info()["NCPU"] if wanted is None else wanted) * NANO)
            url = f"{client.api.base_url}/v{client.api.api_version}/containers/{container}/update"
            answer = client.api.post(url, json={"NanoCpus": nano}, timeout=client.api.timeout)
            if not answer.ok:
                raise EnvironmentFailed(
                    "the Docker engine refused to limit the processors", where=where, observed=answer.text.strip()[:300]
                )
        else:
            quota = -1 if wanted is None else round(wanted * (config["CpuPeriod"] or KERNEL_PERIOD_US))
            client.api.update_container(container, cpu_quota=quota)


def memory_used(printed: str, where: str) -> int:
    """Bytes out of what :data:`MEMORY_SCRIPT` printed."""
    numbers = [int(line) for line in printed.split() if line.isdigit()]
    if not numbers:
        raise EnvironmentFailed("the node's memory use cannot be read", where=where, observed=printed[-200:])
    return numbers[0] - sum(numbers[1:2])
