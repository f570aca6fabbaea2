"""The page of faults, made from the code: ``python -m chaos.faults.describe > docs/faults.md`` (``make docs``). Describes what is
registered, in its own words; it says nothing that the classes do not say."""

from __future__ import annotations

import inspect
import sys

from chaos.faults.base import Fault
from chaos.faults.registry import registered

FAMILIES = {
    "process": ("kill", "stop", "pause", "restart", "crash-loop", "power-loss"),
    "network": (
        "partition",
        "packet-loss",
        "latency",
        "bandwidth",
        "connection-reset",
        "half-open",
        "slow-close",
        "link-down",
        "dns-failure",
        "port-exhaustion",
    ),
    "disk": ("disk-fill", "inode-exhaustion", "read-only-filesystem", "slow-disk", "disk-errors"),
    "resources": ("cpu-stress", "cpu-limit", "memory-pressure", "fd-exhaustion"),
    "time": (
        "clock-skew",
        "monotonic-skew",
    ),
    "data": ("corrupt-file", "replication-stop"),
}
HEAD = """# Faults

Made from the code by `make docs`; do not edit. Each fault is frozen data; `drill.inject(fault)` journals its undo, injects it,
proves that it landed, heals it at the end of the block and proves that too. [writing-faults.md](writing-faults.md) says how to
add one.

**Nets** say who puts it back: *fixture*, the drill itself, on every exit; *healer*, a process of its own, when the runner
vanishes; *dead-man*, a switch on or beside the node of a standing environment, when nobody renews it any more. A standing
environment refuses a fault that has the first only. A capability that a node lacks skips the drill with the reason and the fix.

Composed: `Together(a, b)` all at once, `Sequence(a, b, hold="5s")` one after the other, `Repeat(a, every="10s", times=3)` again
and again; nodes by `drill.choose("one")`, `"minority"`, `"majority"`, `"primary"`, `"replicas"`, `"all"`, following the drill's
seed.
"""


def page() -> str:
    """All registered faults, by family; those of other packages last."""
    kinds = registered()
    known = {name for names in FAMILIES.values() for name in names}
    families = {**FAMILIES, "other": tuple(name for name in kinds if name not in known)}
    parts = [HEAD, _table(kinds, families)]
    for family, names in families.items():
        present = [name for name in names if name in kinds]
        if present:
            parts.append(f"## {family.capitalize()}\n")
            parts += [section(kinds[name]) for name in present]
    return "\n".join(parts).rstrip() + "\n"


def _table(kinds: dict[str, type[Fault]], families: dict[str, tuple[str, ...]]) -> str:
    rows = ["| fault | kind | nets |", "|---|---|---|"]
    for names in families.values():
        for name in names:
            if name in kinds:
                kind = kinds[name]
                rows.append(f"| [`{kind.__name__}`](#{kind.__name__.lower()}) | `{name}` | {', '.join(kind.nets)} |")
    return "\n".join(rows) + "\n"


def section(kind: type[Fault]) -> str:
    """One fault: signature, other constructors, docstring, bounds."""
    lines = [f"### {kind.__name__}\n", f"```python\n{_signature(kind)}\n```\n", f"{inspect.getdoc(kind) or ''}".replace("``", "`") + "\n"]
    module = (inspect.getdoc(inspect.getmodule(kind)) or "").replace("``", "`").partition("\n\n")[2]
    if module:
        lines.append(f"{module}\n")
    if more := _constructors(kind):
        lines.append("Also: " + "; ".join(more) + ".\n")
    lines.append(f"Proven to have landed within {kind.landed_within_s:g} s, to be healed within {kind.healed_within_s:g} s.\n")
    return "\n".join(lines)


def _signature(kind: type[Fault]) -> str:
    arguments = []
    for parameter in inspect.signature(kind).parameters.values():
        default = "" if parameter.default is parameter.empty else f"={_plain(parameter.default)}"
        arguments.append(f"{parameter.name}{default}")
    return f"{kind.__name__}({', '.join(arguments)})"


def _plain(value: object) -> str:
    return repr(getattr(value, "value", value)).replace("'", '"')


def _constructors(kind: type[Fault]) -> list[str]:
    """Class methods that make one, with the first line of what they say."""
    found = []
    for name, member in vars(kind).items():
        if isinstance(member, classmethod) and not name.startswith("_") and name not in ("heal", "healed"):
            said = (inspect.getdoc(member.__func__) or "").partition("\n")[0].replace("``", "`").rstrip(".;")
            names = [p for p in inspect.signature(member.__func__).parameters if p != "cls"]
            found.append(f"`{kind.__name__}.{name}({', '.join(names)})`" + (f": {said}" if said else ""))
    return found


if __name__ == "__main__":
    sys.stdout.write(page())
