"""What this machine can do for micro-hosts, and the exact fix where it cannot. Changes nothing: each trial runs in a child that exits."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.environments.base import ProbeLine

_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_CLONE = Path("/proc/sys/kernel/unprivileged_userns_clone")
_MAXIMUM = Path("/proc/sys/user/max_user_namespaces")


def probe() -> list[ProbeLine]:
    """The lines of ``gameday doctor`` for ``embedded``: the first that is not ok says what is in the way."""
    system = _system()
    if not system.ok:
        return [system]
    lines = [system, _user_namespaces()]
    if not lines[-1].ok:
        return lines
    lines.append(_sandbox())
    lines.append(_iptables())
    return lines


def _system() -> ProbeLine:
    seen = f"{platform.system()} {platform.release()}"
    if sys.platform == "linux":
        return ProbeLine("Linux", True, seen)
    fix = "use the docker environment (--drill-env docker); on macOS or Windows a Linux VM (colima, WSL 2) runs both"
    return ProbeLine("Linux", False, seen, fix)


def _user_namespaces() -> ProbeLine:
    from chaos.environments.microhost import kernel

    what = "user namespaces for this user"
    trouble = _in_child(lambda: kernel.unshare("user", "mnt", "net", "pid", "ipc", "uts"))
    if not trouble:
        return ProbeLine(what, True, f"uid {os.geteuid()} may unshare")
    return ProbeLine(what, False, trouble, namespace_fix())


def namespace_fix() -> str:
    """The command that lets this user make namespaces, by what the machine says of itself."""
    if _read(_MAXIMUM) == "0":
        return "sudo sysctl -w user.max_user_namespaces=15000"
    if _read(_CLONE) == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if _read(_APPARMOR) == "1":
        return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0   (Ubuntu 23.10 and later restrict them by AppArmor)"
    if in_container():
        return "start the container with --security-opt seccomp=unconfined --security-opt systempaths=unconfined (or --privileged)"
    return "ask for a kernel with CONFIG_USER_NS=y, or use --drill-env docker"


def in_container() -> bool:
    """Docker's, Podman's or Kubernetes' mark."""
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    return any(word in _read(Path("/proc/1/cgroup")) for word in ("docker", "kubepods", "libpod"))


def _sandbox() -> ProbeLine:
    """Two micro-hosts that reach each other: mounts, bridge, cables, capabilities, everything."""
    from chaos.environments.microhost.client import Sandbox

    what = "two micro-hosts reach each other"
    try:
        sandbox = Sandbox("doctor", None)
    except (Unavailable, EnvironmentFailed) as err:
        return ProbeLine(what, False, f"{err.where}: {err.observed}", _sandbox_fix(err.where))
    try:
        one, two = sandbox.add("one", disk_bytes=1 << 20), sandbox.add("two", disk_bytes=1 << 20)
        if one.passes(two):
            return ProbeLine(what, True, f"bridge, veth, tmpfs and ICMP work (mounted over {sandbox.inner_root})")
        return ProbeLine(what, False, "no echo", "sudo modprobe bridge veth; sudo sysctl -w net.bridge.bridge-nf-call-iptables=0")
    except EnvironmentFailed as err:
        return ProbeLine(what, False, str(err), _sandbox_fix(str(err)))
    finally:
        sandbox.close()


def _sandbox_fix(step: str) -> str:
    if "/proc" in step and in_container():
        return "start the container with --security-opt systempaths=unconfined (its masked /proc forbids a new one)"
    if "bridge" in step or "link" in step.lower():
        return "sudo modprobe bridge veth"
    return namespace_fix()


def _iptables() -> ProbeLine:
    found = shutil.which("iptables", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return ProbeLine("packet filter", True, f"{found}" if found else "iptables is not installed: routing rules by netlink are used instead")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _in_child(trial: Callable[[], None]) -> str:
    """Run ``trial`` in a forked child; "" or what it raised."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            trial()
        except BaseException as err:  # noqa: BLE001  (the last frame of a forked child: report, then _exit)
            os.write(writer, str(err).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    os.waitpid(pid, 0)
    return text
