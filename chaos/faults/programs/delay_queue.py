"""Holds every packet of one NFQUEUE back for a while, then lets it pass, in the order in which they came.

``delay_queue.py QUEUE DELAY_MS JITTER_MS END_S``. On SIGTERM, and after END_S seconds, it lets go of what it holds and ends. It opens
the queue so that the kernel passes packets on where it does not keep up.
"""

from __future__ import annotations

import collections
import random
import select
import signal
import socket
import struct
import sys
import time

NETLINK_NETFILTER, SOL_NETLINK, NO_ENOBUFS = 12, 270, 5
QUEUE = 3 << 8
PACKET, VERDICT, CONFIG = QUEUE | 0, QUEUE | 1, QUEUE | 2
ACCEPT = 1
MOST_HELD = 8192
LOOK_AROUND_S = 1.0


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


class Queue:
    """One packet queue of the kernel's, held by this process."""

    def __init__(self, number: int) -> None:
        self.header = struct.pack("!BBH", 0, 0, number)
        self.link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.link.bind((0, 0))
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.configure(attribute(1, struct.pack("!BxH", 1, 2)))  # bind
        self.configure(attribute(2, struct.pack("!IB", 0, 1)))  # copy no more than what is known of each packet
        self.configure(attribute(3, struct.pack("!I", MOST_HELD)))
        self.configure(attribute(5, struct.pack("!I", 1)) + attribute(4, struct.pack("!I", 1)))  # fail open
        self.link.setsockopt(SOL_NETLINK, NO_ENOBUFS, 1)
        self.link.setblocking(False)

    def configure(self, attributes: bytes) -> None:
        body = self.header + attributes
        self.link.send(struct.pack("IHHII", 16 + len(body), CONFIG, 1 | 4, 0, 0) + body)
        error = struct.unpack_from("i", self.link.recv(4096), 16)[0]
        if error:
            raise OSError(-error, "the packet queue was refused")

    def accept(self, packet: int) -> None:
        body = self.header + attribute(2, struct.pack("!II", ACCEPT, packet))
        self.link.send(struct.pack("IHHII", 16 + len(body), VERDICT, 1, 0, 0) + body)

    def arrived(self) -> list[int]:
        """Numbers of the packets that have come."""
        try:
            data = self.link.recv(1 << 16)
        except BlockingIOError:
            return []
        packets: list[int] = []
        at = 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("IH", data, at)
            inner = at + 20
            while kind == PACKET and inner < at + length:
                size, attribute_kind = struct.unpack_from("HH", data, inner)
                if attribute_kind & 0x7FFF == 1:
                    packets.append(struct.unpack_from("!I", data, inner + 4)[0])
                    break
                inner += (size + 3) & ~3
            at += (length + 3) & ~3
        return packets


def main(number: int, delay_ms: float, jitter_ms: float, end_s: float) -> None:
    queue, last = Queue(number), 0.0
    held: collections.deque[tuple[float, int]] = collections.deque()
    told, teller = socket.socketpair()
    teller.setblocking(False)
    signal.set_wakeup_fd(teller.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)  # told by the descriptor
    end = time.monotonic() + end_s
    while time.monotonic() < end:
        now = time.monotonic()
        while held and held[0][0] <= now:
            queue.accept(held.popleft()[1])
        left_s = min(max(held[0][0] - now, 0), LOOK_AROUND_S) if held else LOOK_AROUND_S
        ready = select.select([queue.link, told], [], [], left_s)[0]
        if told in ready:
            break
        if not ready:
            continue
        now = time.monotonic()
        for packet in queue.arrived():
            last = max(last, now + (delay_ms + random.uniform(-jitter_ms, jitter_ms)) / 1e3)  # none overtakes another
            held.append((last, packet))
    for _, packet in held:
        queue.accept(packet)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
