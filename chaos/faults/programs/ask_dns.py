"""Sends one DNS query for an IPv4 address and tells what came back; or lists the resolvers that this node is configured with.

``resolvers`` reads /etc/resolv.conf. ``ask SERVER PORT NAME TIMEOUT_S [tcp]`` asks: ``outcome`` is ``answer`` (with ``rcode`` and
``addresses``), ``timeout``, or ``error`` (with the system's words).
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import sys


def resolvers() -> dict[str, object]:
    found: list[str] = []
    with contextlib.suppress(OSError), open("/etc/resolv.conf") as file:
        for line in file:
            words = line.split()
            if words[:1] == ["nameserver"] and len(words) > 1 and ":" not in words[1]:
                found.append(words[1])
    return {"resolvers": found}


def query(name: str) -> bytes:
    labels = b"".join(bytes([len(part)]) + part for part in name.strip(".").encode("idna").split(b".") if part)
    return struct.pack("!HHHHHH", random.randrange(1 << 16), 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def skip_name(data: bytes, at: int) -> int:
    while data[at]:
        if data[at] & 0xC0:
            return at + 2
        at += data[at] + 1
    return at + 1


def read(data: bytes) -> dict[str, object]:
    flags, questions, answers = struct.unpack_from("!HHH", data, 2)
    at = 12
    addresses: list[str] = []
    for _ in range(questions):
        at = skip_name(data, at) + 4
    for _ in range(answers):
        at = skip_name(data, at)
        kind, _, _, size = struct.unpack_from("!HHIH", data, at)
        if kind == 1 and size == 4:
            addresses.append(socket.inet_ntoa(data[at + 10 : at + 14]))
        at += 10 + size
    return {"outcome": "answer", "rcode": flags & 0xF, "addresses": sorted(addresses), "said": ""}


def exchange(client: socket.socket, message: bytes, tcp: str) -> bytes:
    if not tcp:
        client.send(message)
        while True:
            data = client.recv(4096)
            if data[:2] == message[:2]:
                return data
    client.sendall(struct.pack("!H", len(message)) + message)
    data = b""
    while len(data) < 2 or len(data) < 2 + struct.unpack_from("!H", data)[0]:
        more = client.recv(4096)
        if not more:
            raise ConnectionError("closed without an answer")
        data += more
    return data[2:]


def ask(server: str, port: str, name: str, timeout_s: str, tcp: str = "") -> dict[str, object]:
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    client.settimeout(float(timeout_s))
    try:
        client.connect((server, int(port)))
        return read(exchange(client, query(name), tcp))
    except OSError as error:
        silence = "timed out" in str(error)  # a class of its own in Python before 3.10
        return {"outcome": "timeout" if silence else "error", "rcode": -1, "addresses": [], "said": str(error)}


if __name__ == "__main__":
    print(json.dumps(resolvers() if sys.argv[1] == "resolvers" else ask(*sys.argv[2:])))
