"""What this node's kernel can do to packets, found out without changing anything.

A queueing discipline is asked for without its options: a kernel that knows its kind refuses the missing options (EINVAL), one that
does not refuses the kind (ENOENT). A packet queue (NFQUEUE) is bound for a moment by this process alone; no rule leads to it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import struct
import sys

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
RTM_NEWQDISC, REQUEST, ACK, CREATE, EXCL = 36, 0x1, 0x4, 0x400, 0x200
TC_H_ROOT, TCA_KIND = 0xFFFFFFFF, 1
QUEUE_CONFIG, QUEUE_CMD, BIND = (3 << 8) | 2, 1, 1


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def ask(family: int, kind: int, flags: int, payload: bytes) -> int:
    """The error number that the kernel answers, 0 for none."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family) as link:
            link.bind((0, 0))
            link.settimeout(2)
            link.send(struct.pack("IHHII", 16 + len(payload), kind, REQUEST | ACK | flags, 1, 0) + payload)
            return -int(struct.unpack_from("i", link.recv(8192), 16)[0])
    except OSError as error:
        return error.errno or errno.EIO


def qdisc(kind: str) -> int:
    header = struct.pack("BxxxiIII", socket.AF_UNSPEC, socket.if_nametoindex("lo"), 0, TC_H_ROOT, 0)
    return ask(NETLINK_ROUTE, RTM_NEWQDISC, CREATE | EXCL, header + attribute(TCA_KIND, kind.encode() + b"\0"))


def queue(number: int) -> int:
    header = struct.pack("!BBH", socket.AF_UNSPEC, 0, number)
    error = ask(NETLINK_NETFILTER, QUEUE_CONFIG, 0, header + attribute(QUEUE_CMD, struct.pack("!BxH", BIND, socket.AF_INET)))
    return errno.EBUSY if error == errno.EPERM and taken(number) else error


def taken(number: int) -> bool:
    """Has another program bound it? The kernel's answer to that is the same as to a lack of rights."""
    try:
        with open("/proc/net/netfilter/nfnetlink_queue") as queues:
            return any(line.split()[:1] == [str(number)] for line in queues)
    except OSError:
        return False


def words(number: int) -> str:
    return os.strerror(number) if number else ""


if __name__ == "__main__":
    kinds = {kind: qdisc(kind) for kind in ("netem", "tbf")}
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    bound = queue(int(sys.argv[1]))
    found: dict[str, object] = {kind: number in (errno.EINVAL, errno.EEXIST) for kind, number in kinds.items()}
    found["queue"] = bound == 0
    found["said"] = {"netem": words(kinds["netem"]), "tbf": words(kinds["tbf"]), "queue": words(bound)}
    for tool in ("tc", "iptables-restore"):
        found[tool.partition("-")[0]] = shutil.which(tool, path=path) is not None
    print(json.dumps(found))
