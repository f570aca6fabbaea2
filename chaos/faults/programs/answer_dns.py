"""A DNS server that fails on purpose, for the node that it runs on; by UDP and TCP on 127.0.0.1.

``answer_dns.py PORT MODE ADDRESS UPSTREAM UPSTREAM_PORT MARK END_S [NAME...]``. MODE is ``refuse`` (RCODE 5), ``nxdomain`` (RCODE 3),
``wrong`` (ADDRESS for every IPv4 query, no record for others) or ``timeout`` (no answer). With NAMEs only these and what is below them
fail: every other query goes to UPSTREAM, in packets that bear MARK, by which the rule that leads here leaves them alone. Ends after
END_S seconds.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
import time

SO_MARK = 36
REFUSED, NXDOMAIN = 5, 3
UPSTREAM_WITHIN_S = 5.0


class Answerer:
    """What to say to one query."""

    def __init__(self, mode: str, address: str, upstream: tuple[str, int], mark: int, names: list[str]) -> None:
        self.mode, self.address, self.upstream, self.mark = mode, socket.inet_aton(address), upstream, mark
        self.names = [name.lower().strip(".") for name in names]

    def answer(self, message: bytes, tcp: bool) -> bytes:
        """The reply; b"" for none."""
        name, end = question(message)
        if self.names and not any(name == one or name.endswith("." + one) for one in self.names):
            return self.forward(message, tcp)
        if self.mode == "timeout":
            return b""
        kind = struct.unpack_from("!H", message, end - 4)[0]
        record = b""
        if self.mode == "wrong" and kind == 1:
            record = struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + self.address
        rcode = {"refuse": REFUSED, "nxdomain": NXDOMAIN, "wrong": 0}[self.mode]
        flags = 0x8080 | (struct.unpack_from("!H", message, 2)[0] & 0x0100) | rcode
        return message[:2] + struct.pack("!HHHHH", flags, 1, 1 if record else 0, 0, 0) + message[12:end] + record

    def forward(self, message: bytes, tcp: bool) -> bytes:
        """What the real server says."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, SO_MARK, self.mark)
            client.settimeout(UPSTREAM_WITHIN_S)
            try:
                client.connect(self.upstream)
                if not tcp:
                    client.send(message)
                    return client.recv(65536)
                client.sendall(struct.pack("!H", len(message)) + message)
                return framed(client)
            except OSError:
                return b""


def question(message: bytes) -> tuple[str, int]:
    """The name asked for, and where the question ends."""
    at = 12
    labels: list[str] = []
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode("ascii", "replace").lower())
        at += message[at] + 1
    return ".".join(labels), at + 5


def framed(stream: socket.socket) -> bytes:
    """One message of a TCP stream; b"" at its end."""
    data = b""
    while len(data) < 2 or len(data) < 2 + struct.unpack_from("!H", data)[0]:
        more = stream.recv(65536)
        if not more:
            return b""
        data += more
    return data[2:]


def serve_datagram(answerer: Answerer, server: socket.socket, message: bytes, client: tuple[str, int]) -> None:
    try:
        reply = answerer.answer(message, False)
    except (IndexError, struct.error):
        return  # no query: nobody waits for an answer
    if reply:
        server.sendto(reply, client)


def serve_stream(answerer: Answerer, stream: socket.socket) -> None:
    with stream:
        stream.settimeout(60)
        try:
            while True:
                message = framed(stream)
                if not message:
                    return
                reply = answerer.answer(message, True)
                if reply:
                    stream.sendall(struct.pack("!H", len(reply)) + reply)
        except (OSError, IndexError, struct.error):
            return


def main(port: int, answerer: Answerer, end_s: float) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", port))
    streams = socket.socket()
    streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    streams.bind(("127.0.0.1", port))
    streams.listen(64)
    end = time.monotonic() + end_s
    while time.monotonic() < end:
        ready = select.select([datagrams, streams], [], [], 1.0)[0]
        if datagrams in ready:
            message, client = datagrams.recvfrom(65536)
            threading.Thread(target=serve_datagram, args=(answerer, datagrams, message, client), daemon=True).start()
        if streams in ready:
            threading.Thread(target=serve_stream, args=(answerer, streams.accept()[0]), daemon=True).start()


if __name__ == "__main__":
    port, mode, address, upstream, upstream_port, mark, end_s = sys.argv[1:8]
    main(int(port), Answerer(mode, address, (upstream, int(upstream_port)), int(mark), sys.argv[8:]), float(end_s))
