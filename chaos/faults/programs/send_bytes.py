"""Offers datagrams to the discard port of a neighbour for a while, and tells what really left the network device.

``send_bytes.py HOST DEVICE BYTES_PER_S BURST SECONDS``: first as much as the device lets go at once (BURST), then for SECONDS the offer is
twice BYTES_PER_S. What left is read from the device's own counter, so the traffic of others counts too.
"""

from __future__ import annotations

import json
import socket
import sys
import time

SIZE = 1200


def left(device: str) -> int:
    """From /proc: what /sys shows belongs to whoever mounted it."""
    with open("/proc/net/dev") as counters:
        for line in counters:
            name, _, numbers = line.partition(":")
            if name.strip() == device:
                return int(numbers.split()[8])
    raise SystemExit(f"no network device {device}")


def offer(client: socket.socket, host: str, total: float, rate: float) -> int:
    """Send ``total`` bytes at ``rate`` bytes a second, or as fast as it goes (0)."""
    begin = time.monotonic()
    sent = 0
    while sent < total:
        if rate and sent > rate * (time.monotonic() - begin):
            time.sleep(0.001)
            continue
        try:
            client.sendto(b"g" * SIZE, (host, 9))
        except OSError:
            time.sleep(0.001)  # the queue is full, which is what we are here to see
            if not rate or time.monotonic() - begin > 2 * total / rate:
                break
        sent += SIZE
    return sent


def main(host: str, device: str, rate: float, burst: float, seconds: float) -> dict[str, object]:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    offer(client, host, burst, 0)
    begin, before = time.monotonic(), left(device)
    offered = offer(client, host, 2 * rate * seconds, 2 * rate)
    taken_s = time.monotonic() - begin
    return {"offered": offered, "left": left(device) - before, "seconds": taken_s}


if __name__ == "__main__":
    host, device, rate, burst, seconds = sys.argv[1:6]
    print(json.dumps(main(host, device, float(rate), float(burst), float(seconds))))
