"""Asks by TCP what a path is like: how long a round trip takes, whether data is acknowledged, whether a connection ends.

``near`` lists addresses to ask. ``rtt HOST PORT COUNT TIMEOUT_S`` connects: a refusal is an answer too. ``acked HOST PORT WITHIN_S`` sends
one byte and waits for the peer's kernel to acknowledge it. ``end HOST PORT WITHIN_S`` closes its own half and waits for the other.
"""

from __future__ import annotations

import fcntl
import json
import select
import socket
import struct
import sys
import time

SIOCOUTQ = 0x5411  # linux/sockios.h: bytes sent and not yet acknowledged


def near() -> dict[str, object]:
    """The gateway first, then the neighbours that are known, by the routing and neighbour tables."""
    found: list[str] = []
    with open("/proc/net/route") as routes:
        for line in routes.read().splitlines()[1:]:
            fields = line.split()
            if fields[1] == "00000000" and fields[2] != "00000000":
                found.append(socket.inet_ntoa(struct.pack("<I", int(fields[2], 16))))
    with open("/proc/net/arp") as neighbours:
        for line in neighbours.read().splitlines()[1:]:
            fields = line.split()
            if int(fields[2], 16) & 0x2 and fields[0] not in found:
                found.append(fields[0])
    return {"addresses": found}


def rtt(host: str, port: str, count: str, timeout_s: str) -> dict[str, object]:
    """Milliseconds of each connection that was answered."""
    answered = []
    for _ in range(int(count)):
        knock = socket.socket()
        knock.settimeout(float(timeout_s))
        begin = time.monotonic()
        try:
            knock.connect((host, int(port)))
        except ConnectionRefusedError:
            pass
        except OSError:
            continue
        finally:
            knock.close()
        answered.append((time.monotonic() - begin) * 1e3)
    return {"millis": answered, "asked": int(count)}


def opened(host: str, port: str, within_s: str) -> socket.socket:
    client = socket.socket()
    client.settimeout(float(within_s))
    client.connect((host, int(port)))
    return client


def acked(host: str, port: str, within_s: str) -> dict[str, object]:
    """Did it connect, and was the byte acknowledged?"""
    try:
        client = opened(host, port, within_s)
    except OSError as error:
        return {"connected": False, "acked": False, "said": str(error)}
    end = time.monotonic() + float(within_s)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        client.send(b"\n")
        while time.monotonic() < end:
            if struct.unpack("i", fcntl.ioctl(client, SIOCOUTQ, b"\0" * 4))[0] == 0:
                return {"connected": True, "acked": True, "said": ""}
            time.sleep(0.002)
    except OSError as error:
        return {"connected": True, "acked": False, "said": str(error)}
    return {"connected": True, "acked": False, "said": "silence"}


def end(host: str, port: str, within_s: str) -> dict[str, object]:
    """Seconds from our close to the other side's end or reset; null: it did not come."""
    try:
        client = opened(host, port, within_s)
    except OSError as error:
        return {"connected": False, "ended_s": None, "said": str(error)}
    client.shutdown(socket.SHUT_WR)
    begin = time.monotonic()
    while time.monotonic() - begin < float(within_s):
        if not select.select([client], [], [], 0.05)[0]:
            continue
        try:
            if not client.recv(65536):
                return {"connected": True, "ended_s": time.monotonic() - begin, "said": "end"}
        except ConnectionError as error:
            return {"connected": True, "ended_s": time.monotonic() - begin, "said": str(error)}
    return {"connected": True, "ended_s": None, "said": "nothing"}


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    print(json.dumps(near() if what == "near" else {"acked": acked, "end": end}[what](*arguments) if what != "rtt" else rtt(*arguments)))
