"""Takes a container's network link down and up from within, and measures it: the scripts, and what their answers mean.

Not a disconnection from the engine's network: that takes the resolver away too, and connects again under another interface name. Setting
a link down makes the kernel forget its routes; those of the main table are written down first, in the container's own ``/dev/shm``, which
ends with its network stack. Runs nothing itself. Needs iproute2, ping and a POSIX shell in the container.
"""

from __future__ import annotations

import re

from chaos.core.model import Json

ECHO_INTERVAL_S, ECHO_WITHIN_S = 0.002, 0.3
_KEPT = "/dev/shm/gameday-links"
_RECEIVED = re.compile(r"(\d+) packets transmitted, (\d+) (?:packets )?received")
# Routes of the kernel's own come back with the addresses, which a link keeps while it is down.
DOWN = f"""
f={_KEPT}
if [ ! -e $f ]; then
  for p in /sys/class/net/*; do
    i=${{p##*/}}; [ $i != lo ] && [ -n "$(ip -o link show dev $i up)" ] || continue
    echo "link $i"; ip -4 route show dev $i | grep -v 'proto kernel' | sed "s/ linkdown//; s/^/route $i /"
  done > $f.new && mv $f.new $f || exit 1
fi
while read -r k i rest; do [ $k != link ] || ip link set dev $i down || exit 1; done < $f
"""
UP = f"""
f={_KEPT}; rm -f $f.new; [ -e $f ] || exit 0
while read -r k i rest; do [ $k != link ] || ip link set dev $i up || exit 1; done < $f
while read -r k i rest; do [ $k != route ] || ip -4 route replace $rest dev $i || exit 1; done < $f
rm -f $f
"""
LOOK = "ip -o -4 addr show up scope global; echo ==; ip -4 route show"
LINKED = "ip -o link show up | grep -v '^[0-9]*: lo:' | grep -q ."


def parse(printed: str) -> dict[str, Json]:
    """Of what ``LOOK`` printed: ``links`` (interfaces that are up, with addresses) and ``routes`` (those of the main table)."""
    links, _, routes = printed.partition("==\n")
    return {
        "links": [" ".join(line.split()[1:4]) for line in links.splitlines()],
        "routes": [" ".join(line.split()) for line in routes.splitlines()],
    }


def echo_burst(address: str, count: int) -> tuple[str, ...]:
    """The command that sends ``count`` echoes to ``address``."""
    return ("ping", "-n", "-q", "-c", str(count), "-i", str(ECHO_INTERVAL_S), "-W", str(ECHO_WITHIN_S), address)


def answered(printed: str) -> int | None:
    """How many were answered; None: that is not what ping prints."""
    found = _RECEIVED.search(printed)
    return int(found[2]) if found else None
