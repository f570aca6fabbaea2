"""Micro-hosts as the supervisor holds them: namespaces, a virtual cable to the bridge, a disk, services.

Runs inside the sandbox only (see :mod:`chaos.environments.microhost.supervisor`); single-threaded, because it forks and
changes namespaces. A host's PID 1 is a process that does nothing but reap; killing it is what power loss is.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pyroute2.iproute.linux import IPRoute

from chaos.core.errors import EnvironmentFailed
from chaos.environments.base import DropRule, Process
from chaos.environments.microhost import kernel
from chaos.environments.microhost.disk import look as look_at_disk
from chaos.environments.microhost.disk import make as make_disk
from chaos.environments.microhost.protocol import HostState, ServiceSpec

NETWORK_PREFIX, BRIDGE = "10.66.0.", "br0"
NAMESPACES = ("uts", "ipc", "net", "pid", "mnt")
LOCAL_TABLE, LOCAL_TABLE_PRIORITY = 255, 1000
SOL_RAW, ICMP_FILTER, ICMP_ECHO_REPLY = 255, 1, 0  # linux/icmp.h
CMDLINE_BYTES = 2048  # of a process; more says nothing more, and all of them must fit one datagram
RELEASE_WITHIN_S = 5.0
SERVICE_NICE = 5
ECHOES_AT_ONCE = 16


@contextlib.contextmanager
def inside(namespace_fd: int, own_fd: int) -> Iterator[None]:
    """Be in another network namespace for a moment; sockets made there stay there."""
    kernel.setns(namespace_fd, "net")
    try:
        yield
    finally:
        kernel.setns(own_fd, "net")


class Host:
    """One micro-host. ``disk`` is a tmpfs of its own, so that a full disk is a real ENOSPC; it survives power loss as a disk
    does, with whatever the kernel had not yet been told to keep: there is no cache to lose on a tmpfs."""

    def __init__(self, number: int, name: str, disk: Path, disk_bytes: int, services: tuple[ServiceSpec, ...]) -> None:
        self.number, self.name, self.disk = number, name, disk
        self.address = f"{NETWORK_PREFIX}{number}"
        self.cable = f"veth{number}"
        self.services = {service.name: service for service in services}
        self.service_pids: dict[str, tuple[int, int]] = {}
        self.freezing = False
        self.stopped_by_us: set[tuple[int, int]] = set()
        self.init_pid = 0
        self.fds: dict[str, int] = {}
        self.route: IPRoute | None = None
        self.echo: socket.socket | None = None
        self.plugged = True
        self.clock_offset_s = 0
        make_disk(disk, disk_bytes)

    @property
    def powered(self) -> bool:
        return self.init_pid != 0

    def boot(self, bridge: IPRoute, own_net: int, others: list[Host]) -> None:
        """Namespaces, cable, address; the services come later."""
        self.init_pid = _start_init(self.name)
        self.fds = {n: os.open(f"/proc/{self.init_pid}/ns/{n}", os.O_RDONLY | os.O_CLOEXEC) for n in NAMESPACES}
        bridge.link(
            "add",
            ifname=self.cable,
            kind="veth",
            peer={"ifname": "eth0", "address": hardware_address(self.number), "net_ns_fd": f"/proc/{self.init_pid}/ns/net"},
        )
        bridge.link("set", ifname=self.cable, master=bridge.link_lookup(ifname=BRIDGE)[0], state="up" if self.plugged else "down")
        with inside(self.fds["net"], own_net):
            self.route = IPRoute()
            self.echo = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        # Echo replies only: what peers ask would otherwise pile up here until no answer fits any more.
        self.echo.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("I", 0xFFFFFFFF & ~(1 << ICMP_ECHO_REPLY)))
        self.echo.setblocking(False)
        self._address(self.route)
        for other in others:
            self.know(other)

    def start_services(self) -> None:
        for name in self.services:
            self.start_service(name)

    def _address(self, route: IPRoute) -> None:
        eth0 = route.link_lookup(ifname="eth0")[0]
        route.link("set", ifname="lo", state="up")
        route.link("set", index=eth0, state="up")
        route.addr("add", index=eth0, address=self.address, prefixlen=24)
        # The kernel looks into the local table first; our dropping rules must come before it.
        route.rule("add", table=LOCAL_TABLE, priority=LOCAL_TABLE_PRIORITY)
        route.rule("del", table=LOCAL_TABLE, priority=0)

    def know(self, other: Host) -> None:
        """A permanent neighbour entry: packets to a host that is gone vanish, as they do behind a router, and are not answered with
        "no route to host" by our own kernel; and after a repair nobody waits for address resolution to try again."""
        if self.route is not None:
            eth0 = self.route.link_lookup(ifname="eth0")[0]
            self.route.neigh("replace", dst=other.address, lladdr=hardware_address(other.number), ifindex=eth0, state="permanent")

    def plug(self, bridge: IPRoute, *, on: bool) -> None:
        """The far end of the cable: our interface loses its carrier and nothing else. Addresses, routes and permanent neighbours stay,
        and what is sent vanishes without an error, as with a cable that somebody pulled."""
        self.plugged = on
        if self.powered:
            bridge.link("set", ifname=self.cable, state="up" if on else "down")

    def power_off(self, bridge: IPRoute) -> None:
        """Unplug, then kill: a dying process must not be able to say goodbye to its peers."""
        if not self.powered:
            return
        if bridge.link_lookup(ifname=self.cable):
            bridge.link("del", ifname=self.cable)
        os.kill(self.init_pid, signal.SIGKILL)
        deadline = time.monotonic() + RELEASE_WITHIN_S
        services = [pid for pid, _ in self.service_pids.values()]  # they are our children: their go-betweens are gone
        # The kernel lets a PID 1 go only after everybody in its namespace has been collected.
        while not all(_reaped(pid) for pid in (*services, self.init_pid)):
            if time.monotonic() > deadline:
                raise EnvironmentFailed("processes outlive the power loss", where=self.name, observed=f"PID 1 {self.init_pid} still there")
            time.sleep(0.001)
        if self.route is not None:
            self.route.close()
        if self.echo is not None:
            self.echo.close()
        for fd in self.fds.values():
            os.close(fd)
        self.route = self.echo = None
        self.init_pid, self.fds = 0, {}
        self.service_pids.clear()
        self.stopped_by_us.clear()
        self.freezing = False

    def start_service(self, name: str) -> None:
        """Start one service unless it runs."""
        if self._service_runs(name):
            return
        service = self.services[name]
        log = os.open(service.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            pid = self.spawn(service.argv, service.env, str(self.disk), (null, log, log), None, privileged=False)
            # All hosts share this machine's cores. What is measured with must not starve for what is measured.
            os.setpriority(os.PRIO_PROCESS, pid, SERVICE_NICE)
        finally:
            os.close(log)
            os.close(null)
        self.service_pids[name] = (pid, start_time(pid))

    def _service_runs(self, name: str) -> bool:
        pid, started = self.service_pids.get(name, (0, 0))
        return pid != 0 and start_time(pid) == started and _letter(pid) != "Z"

    def spawn(
        self,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        cwd: str,
        stdio: tuple[int, int, int],
        status: int | None,
        *,
        privileged: bool,
    ) -> int:
        """Execute a program on the host; its pid as the sandbox sees it. With ``status`` a go-between waits and reports there."""
        if not self.powered:
            raise EnvironmentFailed("no power", where=self.name)
        if self.freezing:
            raise EnvironmentFailed("the host is frozen: nothing can start on it", where=self.name)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        go_between = os.fork()
        if go_between == 0:
            _go_between(self.fds, argv, env, cwd, stdio, status, writer, privileged=privileged, clock_offset_s=self.clock_offset_s)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            report = pipe.read()  # ends when the program has been executed, or has failed to be
        if status is None:
            os.waitpid(go_between, 0)
        if len(report) != 5 or report[:1] != b"P":
            pid, trouble = _failure(report)
            if status is None and pid:
                os.waitpid(pid, 0)  # nobody else would, and a host does not end before all its processes are collected
            raise EnvironmentFailed(f"could not start {argv[0]}", where=self.name, observed=trouble or "the fork failed")
        return int(struct.unpack("i", report[1:])[0])

    def processes(self) -> list[Process]:
        """Every process in the host's PID namespace but its PID 1."""
        if not self.powered:
            return []
        mine, found = os.readlink(f"/proc/self/fd/{self.fds['pid']}"), []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == self.init_pid:
                continue
            try:
                if os.readlink(f"/proc/{entry}/ns/pid") != mine:
                    continue
                found.append(_process(int(entry)))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it ended while we looked, or is a zombie whose namespaces are gone
        return found

    def freeze(self) -> None:
        """SIGSTOP until nobody runs: a process may fork while its siblings are being stopped."""
        if not self.powered:
            raise EnvironmentFailed("no power", where=self.name)
        self.freezing = True
        deadline = time.monotonic() + RELEASE_WITHIN_S
        while True:
            running = [p for p in self.processes() if p.state not in "TtZX"]
            if not running:
                return
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGSTOP)
                    self.stopped_by_us.add((process.pid, process.started))
            if time.monotonic() > deadline:
                raise EnvironmentFailed("processes do not stop", where=self.name, observed=str([p.name for p in running]))
            time.sleep(0.0005)

    def thaw(self) -> None:
        """SIGCONT for those that we stopped, and for no other."""
        for pid, started in self.stopped_by_us:
            if start_time(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self.stopped_by_us.clear()
        self.freezing = False

    def frozen(self) -> bool:
        """We froze it, and the kernel says that nobody runs."""
        return self.freezing and all(p.state in "TtZX" for p in self.processes())

    def ping(self, address: str, timeout_s: float, count: int = 1) -> int:
        """ICMP echoes: answered by the other kernel, so a frozen host still answers and one without power does not. How many were
        answered, the last at most ``timeout_s`` after all were sent. They leave a few at a time, for answers come at once and the
        socket's buffer has an end."""
        if self.echo is None:
            return 0
        token, waiting = struct.pack("!q", time.monotonic_ns()), set(range(count))
        sent = 0
        for sequence in range(count):
            with contextlib.suppress(OSError):  # unreachable, or dropped on its way out: told so by our own kernel
                self.echo.sendto(_echo_request(sequence, token), (address, 0))
                sent += 1
            if sequence % ECHOES_AT_ONCE == ECHOES_AT_ONCE - 1:
                _collect(self.echo, address, token, waiting, 0.0)
        _collect(self.echo, address, token, waiting, timeout_s if sent else 0.0)
        return count - len(waiting)

    def block(self, priority: int, source: str, port: int | None, *, at_source: bool, add: bool) -> None:
        """One dropping rule on incoming packets from ``source``; ``port``: only TCP, ours or (``at_source``) the sender's."""
        if self.route is None:
            return
        address, _, length = source.partition("/")
        wanted: dict[str, object] = {
            "priority": priority,
            "src": address,
            "src_len": int(length or 32),
            "iifname": "eth0",
            "action": "blackhole",
        }
        if port is not None:
            wanted |= {"ip_proto": socket.IPPROTO_TCP, "sport_range" if at_source else "dport_range": f"{port}:{port}"}
        self.route.rule("add" if add else "del", **wanted)

    def held_priorities(self) -> list[int]:
        """Priorities of the dropping rules that the kernel holds."""
        if self.route is None:
            return []
        return [p for r in self.route.get_rules(family=socket.AF_INET) if 0 < (p := r.get_attr("FRA_PRIORITY") or 0) < LOCAL_TABLE_PRIORITY]

    def look(self, bridge: IPRoute, blocks: dict[str, int]) -> HostState:
        cable = bridge.link_lookup(ifname=self.cable)
        up = bool(cable) and bridge.get_links(cable[0])[0].get_attr("IFLA_OPERSTATE") == "UP"
        return HostState(
            powered=self.powered,
            link_up=up,
            address=self.address,
            frozen=self.frozen(),
            services={name: self.service_pids[name][0] if self._service_runs(name) else 0 for name in self.services},
            blocks=blocks,
            disk=str(self.disk),
            rules=len(self.held_priorities()),
            read_only=look_at_disk(self.disk, self.init_pid),
            traced=tuple(sorted(p.name for p in self.processes() if _is_traced(p.pid))),
            clock_offset_s=self.clock_offset_s,
        )


def hardware_address(number: int) -> str:
    """The same at every boot, so that neighbours need not find out."""
    return f"02:66:00:00:00:{number:02x}"


class Placed(NamedTuple):
    """One dropping rule in one host's kernel."""

    where: Host
    priority: int
    source: str
    port: int | None
    at_source: bool

    def set(self, *, on: bool) -> None:
        """Add or remove it; a no-op where the kernel has it so already, or has no power."""
        if (self.priority in self.where.held_priorities()) is not on:
            self.where.block(self.priority, self.source, self.port, at_source=self.at_source, add=on)


class Blocks:
    """Dropping rules by host and tag. Everything is expressed as *incoming at the receiver*, because a routing rule on the
    sender's side would answer its own processes with an error where the network would be silent."""

    def __init__(self) -> None:
        self._placed: dict[tuple[str, str], list[Placed]] = {}

    def put(self, tag: str, host: Host, rules: tuple[DropRule, ...], everybody: list[Host]) -> None:
        """Make ``tag`` of ``host`` hold exactly ``rules``."""
        for placed in self._placed.pop((host.name, tag), []):
            placed.set(on=False)
        mine: list[Placed] = []
        for rule in rules:
            for where, source, at_source in _receivers(rule, host, everybody):
                self._placed[host.name, tag] = mine  # from the first rule on: what fails half-way can be taken back
                mine.append(Placed(where, self._free_priority(where), source, rule.port, at_source))
                mine[-1].set(on=True)

    def _free_priority(self, where: Host) -> int:
        taken = {placed.priority for many in self._placed.values() for placed in many if placed.where is where}
        free = next((number for number in range(1, LOCAL_TABLE_PRIORITY) if number not in taken), None)
        if free is None:
            raise EnvironmentFailed(f"a host holds at most {LOCAL_TABLE_PRIORITY - 1} dropping rules", where=where.name)
        return free

    def renew(self, host: Host) -> None:
        """After a reboot: the network still drops what it dropped before."""
        for placed in (placed for many in self._placed.values() for placed in many):
            if placed.where is host:
                placed.set(on=True)

    def held(self, host: Host) -> dict[str, int]:
        """Tag -> rules of ``host`` that kernels hold now; a receiver without power gets nothing either way, and counts."""
        return {
            tag: sum(not placed.where.powered or placed.priority in placed.where.held_priorities() for placed in many)
            for (name, tag), many in self._placed.items()
            if name == host.name
        }


def _receivers(rule: DropRule, host: Host, everybody: list[Host]) -> Iterator[tuple[Host, str, bool]]:
    others = [h for h in everybody if h is not host]
    if rule.inbound:
        for peer in rule.peers or [h.address for h in others]:
            yield host, peer, False
        return
    networks = [ipaddress.IPv4Network(peer, strict=False) for peer in rule.peers]
    for other in others:
        if not networks or any(ipaddress.IPv4Address(other.address) in network for network in networks):
            yield other, host.address, True


def start_time(pid: int) -> int:
    """The kernel's start time of ``pid`` in ticks; 0 where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _letter(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _is_traced(pid: int) -> bool:
    """Does a debugger hold it?"""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            return any(line.startswith(b"TracerPid:") and int(line.split()[1]) for line in status)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _process(pid: int) -> Process:
    with open(f"/proc/{pid}/stat", "rb") as stat:
        head, _, tail = stat.read().rpartition(b")")
    with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
        argv = tuple(a.decode(errors="replace") for a in cmdline.read(CMDLINE_BYTES).split(b"\0") if a)
    fields = tail.split()
    name = head.partition(b"(")[2].decode(errors="replace")
    return Process(pid, int(fields[1]), int(fields[19]), name, argv, fields[0].decode())


def _failure(report: bytes) -> tuple[int, str]:
    """The pid of a program that could not be executed (0: not even forked) and why: ``P`` and pid before or behind ``E`` and text."""
    if report[:1] == b"P":
        pid, text = report[1:5], report[6:]
    elif report[-5:-4] == b"P":
        pid, text = report[-4:], report[1:-5]
    else:
        pid, text = struct.pack("i", 0), report[1:]
    return int(struct.unpack("i", pid)[0]), text.decode(errors="replace")


def _echo_request(sequence: int, token: bytes) -> bytes:
    body = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, sequence) + token
    return body[:2] + struct.pack("!H", _checksum(body)) + body[4:]


def _collect(echo: socket.socket, address: str, token: bytes, waiting: set[int], timeout_s: float) -> None:
    """Take out of ``waiting`` the numbers of the echoes of this burst (``token``) that ``address`` has answered."""
    deadline = time.monotonic() + timeout_s
    while waiting and select.select([echo], [], [], max(0.0, deadline - time.monotonic()))[0]:
        packet, sender = echo.recvfrom(2048)
        header = (packet[0] & 0xF) * 4
        kind, _, _, _, sequence = struct.unpack_from("!BBHHH", packet, header)
        if sender[0] == address and kind == ICMP_ECHO_REPLY and packet[header + 8 :] == token:
            waiting.discard(sequence)


def _checksum(data: bytes) -> int:
    total = int(sum(struct.unpack(f"!{len(data) // 2}H", data)))
    total = (total >> 16) + (total & 0xFFFF)
    return 0xFFFF & ~(total + (total >> 16))


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return start_time(pid) == 0


def _start_init(name: str) -> int:
    """PID 1 of a new host, handed over to the supervisor's own PID 1."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    holder = os.fork()
    if holder == 0:
        try:
            kernel.unshare("net", "pid", "mnt", "uts", "ipc")
            init = os.fork()
            if init:
                os.write(writer, b"P" + struct.pack("i", init))
                os._exit(0)
            _be_init(name, writer)
        except BaseException as err:  # noqa: BLE001  (the last frame of a forked child: report, then _exit)
            os.write(writer, b"E" + repr(err).encode())
        os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(holder, 0)
    if len(answer) != 6 or b"E" in (answer[:1], answer[5:]):  # the holder's "P" and pid, the new PID 1's "U": in either order
        raise EnvironmentFailed("a micro-host did not boot", where=name, observed=answer.decode(errors="replace"))
    return int(struct.unpack("i", answer[2:] if answer[:1] == b"U" else answer[1:5])[0])


def _be_init(name: str, ready: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever is orphaned here is reaped by the kernel
    kernel.sethostname(name)
    kernel.mount("proc", "/proc", "proc")
    kernel.mount("gameday", "/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64m")
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    kernel.set_process_name(f"gd:{name}")
    os.write(ready, b"U")
    os.closerange(3, 4096)
    while True:
        signal.pause()


def _go_between(
    fds: Mapping[str, int],
    argv: tuple[str, ...],
    env: Mapping[str, str],
    cwd: str,
    stdio: tuple[int, int, int],
    status: int | None,
    report: int,
    *,
    privileged: bool,
    clock_offset_s: int,
) -> None:
    """Child of the supervisor: enters the host, starts the program, waits for it where somebody wants to know. Never returns."""
    try:
        if clock_offset_s:
            kernel.unshare_clock(clock_offset_s)  # while /proc is still one in which this process is itself
        for name in NAMESPACES:
            kernel.setns(fds[name], name)
        program = _execute(argv, env, cwd, stdio, privileged=privileged)
        os.write(report, b"P" + struct.pack("i", program.pid))
        if status is None:
            os._exit(0)
        os.set_inheritable(status, False)
        os.dup2(status, 3, inheritable=False)
        os.closerange(4, 4096)
        for fd in (0, 1, 2):
            os.close(fd)
        os.write(3, str(program.wait()).encode())
    except BaseException as err:  # noqa: BLE001  (the last frame of a forked child: report, then _exit)
        with contextlib.suppress(OSError):
            os.write(report, f"E{str(err) or repr(err)}".encode())
    os._exit(0)


def _execute(
    argv: tuple[str, ...], env: Mapping[str, str], cwd: str, stdio: tuple[int, int, int], *, privileged: bool
) -> subprocess.Popen[bytes]:
    """By vfork, as Popen does it: copying a process that has pyroute2 loaded takes longer than many a program runs."""
    if privileged:
        kernel.keep_capabilities_over_exec(kernel.CAP_NET_ADMIN, kernel.CAP_NET_RAW, kernel.CAP_SYS_PTRACE, kernel.CAP_SYS_ADMIN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:  # an ignored signal stays ignored over exec
        with contextlib.suppress(OSError):  # the C library keeps two for itself
            signal.signal(number, signal.SIG_DFL)
    stdin, stdout, stderr = stdio
    return subprocess.Popen(argv, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True, close_fds=False)
