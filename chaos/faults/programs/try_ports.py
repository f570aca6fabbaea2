"""How many ephemeral TCP ports are left here, counted up to LIMIT, and what connecting says when they are taken.

``try_ports.py LIMIT``. Takes ports one after the other until none is left or LIMIT are held, then connects to this node's own discard
port (a refusal means that there was a port to connect from), and lets go of all. Holds them for some milliseconds.
"""

from __future__ import annotations

import errno
import json
import socket
import sys


def main(limit: int) -> dict[str, object]:
    held: list[socket.socket] = []
    try:
        while len(held) < limit:
            one = socket.socket()
            held.append(one)
            one.bind(("127.0.0.1", 0))
    except OSError as error:
        held.pop().close()
        if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
            raise
    with socket.socket() as client:
        client.settimeout(2)
        code = client.connect_ex(("127.0.0.1", 9))
    for one in held:
        one.close()
    return {"free": len(held), "connect": errno.errorcode.get(code, str(code)) if code else ""}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
