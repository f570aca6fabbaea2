"""Queueing disciplines by ``tc``, under a handle of our own: what is there, and how ours is taken away. No fault of its own."""

from __future__ import annotations

from chaos.environments.base import Node
from chaos.faults._onnode import script
from chaos.faults._traffic import number_of


def handle_of(tag: str) -> str:
    """The handle of ``tag``'s own qdisc: what has it is ours, what has not is not."""
    return f"{number_of(tag, 0x4000, 0x8000):x}:"


def root_of(node: Node, device: str, *, for_what: str) -> str:
    """The line of ``tc qdisc show`` about the root of ``device``."""
    lines = script(node, f"tc qdisc show dev {device}", for_what=for_what).splitlines()
    return next((line.strip() for line in lines if " root " in f"{line} "), "")


def foreign_root(node: Node, device: str, *, for_what: str) -> str:
    """The same where somebody has put it there; "" for the kernel's own, which has the handle 0."""
    root = root_of(node, device, for_what=for_what)
    return "" if root.split()[2:3] in ([], ["0:"]) else root


def delete_script(device: str, kind: str, tag: str) -> str:
    """Removes the root qdisc of ``device`` where it is of ``kind`` and ours; the kernel puts its own there again."""
    ours = f"^qdisc {kind} {handle_of(tag)} root "
    return f"! tc qdisc show dev {device} 2>/dev/null | grep -q '{ours}' || tc qdisc del dev {device} root"
