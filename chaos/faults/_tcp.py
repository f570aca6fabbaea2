"""TCP as a node's peers see it: does an attempt to connect get an answer, and what becomes of a connection that stands.

No fault of its own. Runs short Python programs on the nodes, so these need ``python3``; they send no data, so that no service ever gets
a byte that it does not understand. A helper says in its process name what it has seen, so that nothing is written anywhere.
"""

from __future__ import annotations

from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.environments.base import Exec, Node, require
from chaos.faults import _helper

KNOCK_WITHIN_S = 0.3
HELPER_LIFE_S = 120  # whatever becomes of us, it ends by itself
_KNOCK = """
import socket, sys
s = socket.socket(); s.settimeout(float(sys.argv[3]))
try: print(s.connect_ex((sys.argv[1], int(sys.argv[2]))))
except TimeoutError: print("silent")
"""
_SAY = """
import socket, sys, time
def say(word):
    with open("/proc/self/comm", "w") as name: name.write(word)
"""
# Keepalive probes are what makes an idle connection notice: they have no data, and a kernel answers them without asking the service.
_HOLD = f"""{_SAY}
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL): s.setsockopt(socket.IPPROTO_TCP, option, 1)
s.settimeout({HELPER_LIFE_S})
say("gd-connected")
try:
    while s.recv(4096): pass
    say("gd-closed")
except ConnectionResetError: say("gd-reset")
except OSError: say("gd-silent")
time.sleep({HELPER_LIFE_S})
"""
_LISTEN = f"""{_SAY}
s = socket.socket(); s.bind(("0.0.0.0", 0)); s.listen(64); say(f"gd-{{s.getsockname()[1]}}"); time.sleep({HELPER_LIFE_S})
"""
_SAYS = """
n=0
while :; do
  for p in $({find}); do
    w=$(cat /proc/$p/comm 2>/dev/null)
    case $w in gd-{word}*) echo ${{w#gd-}}; exit 0;; esac
  done
  n=$((n + 1)); [ $n -lt {rounds} ] || exit 0; sleep {every}
done
"""
_LOOK_EVERY_S = 0.02
_REFUSED = 111


def check(node: Node, *, for_what: str) -> None:
    """Raises Unavailable where the programs of this module cannot run on ``node``."""
    done = require(node, Exec, for_what=for_what).run(("sh", "-c", "command -v python3"))
    if done.code != 0:
        raise Unavailable(
            f"{for_what} is proven by a program on this node that needs python3, which it lacks",
            where=str(node.ref),
            next_step="install python3 on the node",
            capability="exec",
        )


def knock(node: Node, address: str, port: int, *, for_what: str) -> str:
    """What ``node`` gets for an attempt to connect: ``open``, ``refused``, ``silent`` (nothing at all), or another error's number."""
    argv = ("python3", "-I", "-S", "-c", _KNOCK, address, str(port), str(KNOCK_WITHIN_S))
    done = require(node, Exec, for_what=for_what).run(argv)
    if done.code != 0:
        raise EnvironmentFailed("the attempt to connect could not be made", where=str(node.ref), observed=done.err.strip()[-300:])
    said = done.out.strip()
    return {"0": "open", str(_REFUSED): "refused", "11": "silent"}.get(said, said)


def hold(node: Node, tag: str, address: str, port: int, *, for_what: str) -> None:
    """Have a program on ``node`` connect, and go on holding the connection until the tag is stopped."""
    _helper.start(node, tag, ("python3", "-I", "-S", "-c", _HOLD, address, str(port)), for_what=for_what, privileged=False)


def listen(node: Node, tag: str, *, for_what: str) -> None:
    """Have a program on ``node`` listen on a free port, which it says as ``gd-<port>``."""
    _helper.start(node, tag, ("python3", "-I", "-S", "-c", _LISTEN), for_what=for_what, privileged=False)


def says(node: Node, tag: str, *, for_what: str, word: str = "", within_s: float = 0.0) -> str:
    """What the program of ``tag`` on ``node`` says now: ``connected``, ``reset``, ``closed``, ``silent``, a port; "" for nothing (yet).
    With ``within_s``: the first thing that begins with ``word``, as soon as it is said. One command either way."""
    rounds = max(1, int(within_s / _LOOK_EVERY_S))
    script = _SAYS.format(rounds=rounds, find=_helper.find_script(tag), word=word, every=_LOOK_EVERY_S)
    done = require(node, Exec, for_what=for_what).run(("sh", "-c", script), timeout_s=within_s * 3 + 30, privileged=True)
    return done.out.strip()
