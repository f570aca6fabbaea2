"""What every node of the conformance suite serves: an echo by TCP, which closes when its client does, and a small DNS server.

Runs on the nodes, as a text given to their Python: ``contract_server.py ECHO_PORT DNS_PORT``. Standard library alone. Every name has the
address 192.0.2.77, but for those below ``absent.test``.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Callable


def answer(query: bytes) -> bytes:
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += query[at] + 1
    absent = labels[-2:] == ["absent", "test"]
    record = b"" if absent else struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton("192.0.2.77")
    return query[:2] + struct.pack("!HHHHH", 0x8583 if absent else 0x8580, 1, 0 if absent else 1, 0, 0) + query[12 : at + 5] + record


def datagrams(port: int) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", port))
    while True:
        query, client = server.recvfrom(4096)
        server.sendto(answer(query), client)


def echo(stream: socket.socket) -> None:
    with stream:
        while data := stream.recv(65536):
            stream.sendall(data)


def name(stream: socket.socket) -> None:
    with stream:
        while len(data := stream.recv(4096)) > 2:
            reply = answer(data[2:])
            stream.sendall(struct.pack("!H", len(reply)) + reply)


def streams(port: int, serve: Callable[[socket.socket], None]) -> None:
    server = socket.create_server(("", port), backlog=64)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    echo_port, dns_port = map(int, sys.argv[1:])
    threading.Thread(target=datagrams, args=(dns_port,), daemon=True).start()
    threading.Thread(target=streams, args=(dns_port, name), daemon=True).start()
    streams(echo_port, echo)
