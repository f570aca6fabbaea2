"""What faults may leave on a node beside packet filter rules: one script that looks, and what its answer means.

Queueing disciplines that are not the kernel's own, address translation of ours, reserved ports, programs that a fault has
started, processes that are stopped or may open fewer than a hundred files. Part of :meth:`~chaos.environments.base.Node.state`. It
changes nothing, and is no way of running commands: a node runs ``SCRIPT`` and has the output parsed. Needs a POSIX shell with ``grep``
and ``/proc``; what ``tc`` or iptables would say is missing where they are not installed, and so can no fault be that needs them.
"""

from __future__ import annotations

import re

from chaos.core.model import Json
from chaos.environments.iptables import COMMENT

VARIABLE = "GAMEDAY_FAULT"
"""The environment variable that carries a fault's tag into every program that it leaves running on a node."""
SCRIPT = f"""
tc qdisc show 2>/dev/null | grep -v '^qdisc [a-z_]* 0: '; echo ==
iptables-save -t nat 2>/dev/null | grep '^-A .*{COMMENT}'; echo ==
cat /proc/sys/net/ipv4/ip_local_reserved_ports 2>/dev/null; echo ==
grep -hsza '^{VARIABLE}=' /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | sort -u; echo ==
sed -n 's/^[0-9]* (\\(.*\\)) T .*/\\1/p' /proc/[0-9]*/stat 2>/dev/null | sort; echo ==
sed -n 's/^Max open files  *\\([0-9][0-9]\\{{0,1\\}}\\) .*/\\1/p' /proc/[0-9]*/limits 2>/dev/null | sort -u
"""


def parse(printed: str) -> dict[str, Json]:
    """Of what ``SCRIPT`` printed: ``network`` (qdiscs, nat, reserved_ports), ``programs`` (tags of faults), and ``processes`` (names of
    stopped ones, low limits of open files)."""
    parts = [part.strip().splitlines() for part in printed.split("==\n")]
    qdiscs, nat, reserved, programs, stopped, few, *_ = parts + [[]] * 6
    return {
        "network": {
            "qdiscs": [re.sub(r" refcnt \d+", "", line).strip() for line in qdiscs],
            "nat": [line.strip() for line in nat],
            "reserved_ports": "".join(reserved).strip(),
        },
        "programs": [line.partition("=")[2] for line in programs if line.startswith(f"{VARIABLE}=")],
        "processes": {"stopped": [*stopped], "few_files": [*few]},
    }
