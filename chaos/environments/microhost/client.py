"""The pytest side: a sandbox of micro-hosts, each one a node with every capability.

Files and unix sockets of a host are reached from outside through ``/proc/<pid>/root`` (:meth:`Sandbox.outside`), which no partition
touches; traffic that a partition must touch starts on a micro-host.
"""

from __future__ import annotations

import contextlib
import io
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, DeadlineExceeded, EnvironmentFailed, EnvironmentGone, Unavailable
from chaos.core.model import Json, NodeRef
from chaos.environments import marks
from chaos.environments.base import Completed, DropRule, Node, Process, Volume
from chaos.environments.iptables import IptablesFilter
from chaos.environments.microhost import protocol as p
from chaos.environments.owner import start_of

START_WITHIN_S = 20.0
REPLY_WITHIN_S = 30.0
KEEP_OUTPUT_BYTES = 1 << 20
READ_ONLY_WITHIN_S = 0.3
OF_FAULTS = ".gameday-"  # what faults leave on a disk while they are in place
BOOTING = "booting"  # the tag of the silence while a host boots
REAL_TIME_PRIORITY = 1
ECHO_BURST, ECHOES_WITHIN_S = 200, 0.03
PING_WITHIN_S = 0.012  # the answer comes from the kernel, through a cable that exists only in memory


class Spawned:
    """A program on a micro-host. Implements :class:`~chaos.environments.base.ClientProcess`."""

    def __init__(self, host: MicroHost, pid: int, status: int, stdin: int | None) -> None:
        self._host, self._pid, self._status, self._stdin = host, pid, status, stdin
        self._code: int | None = None
        self._started = next((x.started for x in host.processes() if x.pid == pid), 0)

    @property
    def pid(self) -> int:
        """As the sandbox sees it."""
        return self._pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._read(0.0)

    def _read(self, timeout_s: float) -> int | None:
        if self._code is not None:
            return self._code
        with selectors.DefaultSelector() as ready:
            ready.register(self._status, selectors.EVENT_READ)
            if not ready.select(timeout_s):
                return None
        text = os.read(self._status, 32)
        self._code = int(text) if text else -int(signal.SIGKILL)  # no status: it went down with its host
        os.close(self._status)
        self.close_stdin()
        return self._code

    def close_stdin(self) -> None:
        """Let its standard input end (with ``keep_stdin``); idempotent."""
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def take_precedence(self) -> None:
        """Real-time priority, where this process may give it (root): on a micro-host nobody may take it. Elsewhere a no-op."""
        pid = self._host.sandbox.outer_pid(self._pid)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(REAL_TIME_PRIORITY))

    def _signal(self, number: int) -> None:
        if self.poll() is None and self._started:
            self._host.sandbox.ask(p.Signal(self._host.name, self._pid, self._started, number))

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> int:
        """Raises DeadlineExceeded."""
        code = self._read(timeout_s)
        if code is None:
            raise DeadlineExceeded(f"process {self._pid} still runs after {timeout_s:g} s", where=self._host.name)
        return code


class Sandbox:
    """One supervisor and its micro-hosts. Not thread-safe by accident but by a lock: requests are short.

    ``directory`` receives the supervisor's log; None: no file is written anywhere. ``kept_drops`` are the iptables rules by host and
    tag, which a booting host's kernel has forgotten.
    """

    def __init__(self, system: str, directory: Path | None) -> None:
        self.system = system
        self.inner_root = mount_point(directory)
        self._lock, self._asked = threading.Lock(), 0
        self._gone = False
        self._has_iptables: bool | None = None
        self.hosts: dict[str, MicroHost] = {}
        self.kept_drops: dict[str, dict[str, tuple[DropRule, ...]]] = {}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = ours
        self._log = _open_log(directory)
        log = self._log.fileno()
        with theirs:
            self._stub = subprocess.Popen(
                [sys.executable, "-m", "chaos.environments.microhost", str(theirs.fileno()), str(self.inner_root)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ours.settimeout(START_WITHIN_S)
        try:
            self.root_pid = self._greet()
        except BaseException:
            self.close()
            raise
        self.locator = {"root_pid": str(self.root_pid), "started": start_of(self.root_pid)}
        ours.settimeout(REPLY_WITHIN_S)

    def _greet(self) -> int:
        try:
            data = self._channel.recv(p.MAX_MESSAGE)
        except TimeoutError:
            data = b""
        if not data:
            size = os.fstat(self._log.fileno()).st_size
            said = os.pread(self._log.fileno(), 800, max(0, size - 800)).decode(errors="replace")
            raise EnvironmentFailed("the supervisor did not start", where=self.system, observed=said or "nothing logged")
        hello = msgspec.json.decode(data, type=p.Hello)
        if hello.error:
            raise Unavailable(
                "micro-hosts do not work here", where=hello.step, observed=hello.error, next_step="run: gameday doctor (it names the fix)"
            )
        return hello.root_pid

    def ask(self, request: p.Request, fds: tuple[int, ...] = ()) -> p.Reply:
        """Raises EnvironmentFailed with the supervisor's own words, or where it is gone."""
        try:
            with self._lock:
                self._asked = number = self._asked + 1
                p.send_request(self._channel, p.Asked(number, request), fds)
                reply = p.receive_reply(self._channel)
                while reply is not None and reply.number != number:  # of a question whose asker did not wait
                    reply = p.receive_reply(self._channel)
        except TimeoutError as err:
            raise EnvironmentFailed("the supervisor does not answer", where=self.system, observed=repr(err)) from err
        except OSError as err:
            self._gone = True
            raise EnvironmentGone("the supervisor is gone", where=self.system, observed=repr(err)) from err
        if reply is None:
            self._gone = True
            raise EnvironmentGone("the supervisor is gone", where=self.system, observed=f"exit code {self._stub.poll()}")
        if reply.error:
            raise EnvironmentFailed(reply.error, where=f"{self.system}: {type(request).__name__}")
        return reply

    def add(self, name: str, *, disk_bytes: int = 256 << 20, services: Sequence[p.ServiceSpec] = ()) -> MicroHost:
        """Boot a new micro-host."""
        self.ask(p.AddHost(name, disk_bytes, tuple(services)))
        host = self.hosts[name] = MicroHost(self, name)
        return host

    def has_iptables(self, host: MicroHost) -> bool:
        """Is iptables installed, and does this kernel let it work in a micro-host? Asked once per sandbox."""
        if self._has_iptables is None:
            works = iptables_path() is not None and host.run(["iptables-save", "-t", "filter"], privileged=True).code == 0
            self._has_iptables = works
        return self._has_iptables

    def inside(self, host: str) -> Path:
        """A host's disk, as programs in the sandbox name it."""
        return self.inner_root / host

    def outside(self, host: str) -> Path:
        """The same directory as this process names it. Raises EnvironmentGone where there is none any more."""
        if self._gone or self._stub.poll() is not None:
            raise EnvironmentGone("the supervisor is gone", where=self.system, observed=f"exit code {self._stub.poll()}")
        return Path(f"/proc/{self.root_pid}/root{self.inner_root}") / host

    def outer_pid(self, pid: int) -> int:
        """What this process calls the one that the sandbox calls ``pid``; 0 where it is gone."""
        ours = Path(f"/proc/{self.root_pid}/ns/user").readlink()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{entry}/status").read_text()
                    numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
                    if numbers[1:2] == [str(pid)] and Path(f"/proc/{entry}/ns/user").readlink() == ours:
                        return int(entry)
        return 0

    def close(self) -> None:
        """End everything, and wait until it has ended."""
        self._channel.close()
        try:
            self._stub.wait(REPLY_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._stub.kill()
            self._stub.wait(REPLY_WITHIN_S)
        self._log.close()


def _open_log(directory: Path | None) -> io.FileIO:
    if directory is None:
        return io.FileIO(os.memfd_create("supervisor.log", os.MFD_CLOEXEC), "r+")
    directory.mkdir(parents=True, exist_ok=True)
    return io.FileIO(directory / "supervisor.log", "a+")


def mount_point(directory: Path | None) -> Path:
    """Where the sandbox mounts its own files: an existing directory that hides nothing which programs in it need."""
    used: list[str | Path] = [sys.prefix, sys.base_prefix, Path.cwd(), __file__, *filter(None, sys.path)]
    needed = [Path(path).resolve() for path in ([directory] if directory is not None else []) + used]
    for candidate in map(Path, ("/run", "/mnt", "/media", "/srv", "/opt")):
        if candidate.is_dir() and not candidate.is_symlink() and not any(n.is_relative_to(candidate) for n in needed):
            return candidate
    raise Unavailable("no directory to mount the sandbox on", expected="/run or /mnt", next_step="move the project out of /run and /mnt")


class MicroHost:
    """A node with power, freeze, processes, services, packet filter, link and exec. See :mod:`chaos.environments.base`."""

    def __init__(self, sandbox: Sandbox, name: str) -> None:
        self.sandbox, self._name = sandbox, name
        self._address = self.look().address
        self._iptables = IptablesFilter(self._administer, where=str(self.ref)) if sandbox.has_iptables(self) else None

    def _administer(self, argv: Sequence[str], stdin: bytes) -> Completed:
        return self.run(argv, stdin=stdin, privileged=True)

    @property
    def ref(self) -> NodeRef:
        return NodeRef("embedded", self.sandbox.system, self._name, self.sandbox.locator)

    @property
    def name(self) -> str:
        return self._name

    @property
    def address(self) -> str:
        return self._address

    @property
    def disk(self) -> Path:
        """Its disk, as seen from outside."""
        return self.sandbox.outside(self._name)

    def look(self) -> p.HostState:
        host = self.sandbox.ask(p.Look(self._name)).host
        if host is None:
            raise EnvironmentFailed("the supervisor did not describe the host", where=self._name)
        return host

    def state(self) -> dict[str, Json]:
        seen = self.look()
        filters: dict[str, Json] = dict(self.drops()) if seen.powered and not seen.frozen else {}
        marked: dict[str, Json] = {}
        if seen.powered and not seen.frozen:
            marked = marks.parse(self.run(("sh", "-c", marks.SCRIPT), privileged=True).out)
        left: list[Json] = [*sorted(name for name in os.listdir(self.disk) if name.startswith(OF_FAULTS))]
        return {
            "powered": seen.powered,
            "link_up": seen.link_up,
            "address": seen.address,
            "frozen": seen.frozen,
            "services": {name: pid != 0 for name, pid in seen.services.items()},
            "drops": filters,
            "disk": {"read_only": seen.read_only, "of faults": left},
            "traced": list(seen.traced),
            "clock_offset_s": seen.clock_offset_s,
            **marked,
        }

    # Exec
    def spawn(
        self,
        argv: Sequence[str],
        *,
        stdio: tuple[int, int, int] | None = None,
        env: Mapping[str, str] | None = None,
        privileged: bool = False,
        keep_stdin: bool = False,
    ) -> Spawned:
        """Start a program here. ``stdio`` are three descriptors (default: the null device); ``keep_stdin`` gives it a pipe that stays
        open as long as this process lives, so that it can tell when we are gone."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        mine = [null]
        status_reader, status_writer = os.pipe2(os.O_CLOEXEC)
        mine.append(status_writer)
        stdin_writer = None
        stdin, stdout, stderr = stdio or (null, null, null)
        if keep_stdin:
            stdin, stdin_writer = os.pipe2(os.O_CLOEXEC)
            mine.append(stdin)
        home = str(self.sandbox.inside(self._name))
        environ = {"PATH": _search_path(), "HOME": home, "TMPDIR": home, "LC_ALL": "C.UTF-8"}
        environ |= {"XTABLES_LOCKFILE": str(self.sandbox.inner_root / f"{self._name}.xtables.lock"), **(env or {})}
        request = p.Spawn(self._name, tuple(argv), environ, home, privileged)
        try:
            pid = self.sandbox.ask(request, (stdin, stdout, stderr, status_writer)).pid
        except BaseException:
            os.close(status_reader)
            if stdin_writer is not None:
                os.close(stdin_writer)
            raise
        finally:
            for fd in mine:
                os.close(fd)
        return Spawned(self, pid, status_reader, stdin_writer)

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", privileged: bool = False) -> Completed:
        with _Capture(stdin) as files:
            program = self.spawn(argv, stdio=files.fds, privileged=privileged)
            try:
                code = program.wait(timeout_s)
            except DeadlineExceeded as err:
                for process in descendants(self.processes(), program.pid):
                    self.signal(process, signal.SIGKILL)
                program.wait(REPLY_WITHIN_S)
                raise DeadlineExceeded(
                    f"{argv[0]} ran longer than {timeout_s:g} s", where=str(self.ref), observed=files.text(1)[-300:]
                ) from err
            return Completed(code, files.text(1), files.text(2))

    # Power
    def power_off(self) -> None:
        self.sandbox.ask(p.PowerOff(self._name))

    def power_on(self) -> None:
        """What was dropped before is dropped again before any service can send: iptables rules go with the kernel that held them, so
        until they are back the network is silent."""
        kept = self.sandbox.kept_drops.get(self._name, {})
        if self._iptables is None or not kept or self.powered():
            self.sandbox.ask(p.PowerOn(self._name))
            return
        self.sandbox.ask(p.Block(self._name, BOOTING, (DropRule(inbound=True), DropRule(inbound=False))))
        try:
            self.sandbox.ask(p.PowerOn(self._name))
            for tag, rules in kept.items():
                self._iptables.drop(tag, rules)
        finally:
            self.sandbox.ask(p.Block(self._name, BOOTING, ()))

    def powered(self) -> bool:
        return self.look().powered

    def reachable(self) -> bool:
        return any(peer.passes(self) for name, peer in self.sandbox.hosts.items() if name != self._name)

    # Freeze
    def freeze(self) -> None:
        self.sandbox.ask(p.Freeze(self._name, True))

    def thaw(self) -> None:
        self.sandbox.ask(p.Freeze(self._name, False))

    def frozen(self) -> bool:
        return self.look().frozen

    # Processes
    def processes(self) -> list[Process]:
        return list(self.sandbox.ask(p.ListProcesses(self._name)).processes)

    def signal(self, process: Process, signal_number: int) -> bool:
        return self.sandbox.ask(p.Signal(self._name, process.pid, process.started, signal_number)).done

    # Services
    def services(self) -> Mapping[str, bool]:
        return {name: pid != 0 for name, pid in self.look().services.items()}

    def start_service(self, name: str) -> None:
        self.sandbox.ask(p.StartService(self._name, name))

    def stop_service(self, name: str, *, timeout_s: float = 30.0) -> None:
        """SIGTERM to the service's first process; SIGKILL to it at the deadline, and to whatever is left of its descendants then."""
        first = self.look().services.get(name, 0)
        family = descendants(self.processes(), first)
        if not first or not family:
            return
        self.signal(family[0], signal.SIGTERM)
        try:
            wait_for(lambda: not self.services()[name], timeout_s=timeout_s, what=f"{name} to stop", interval_s=0.01)
        except DeadlineExceeded:
            family = [*family, *descendants(self.processes(), first)]
        for process in family:
            self.signal(process, signal.SIGKILL)
        wait_for(lambda: not self.services()[name], timeout_s=REPLY_WITHIN_S, what=f"{name} to be killed", interval_s=0.01)

    # Volumes
    def volumes(self) -> list[Volume]:
        """Its one disk."""
        seen = os.statvfs(self.disk)
        path = str(self.sandbox.inside(self._name))
        return [Volume(path, seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize)]

    def set_read_only(self, path: str, on: bool) -> None:
        """Who writes for a moment only is waited for."""
        self._known_volume(path)
        if not on:
            self.sandbox.ask(p.SetReadOnly(self._name, on=False))
            return
        with contextlib.suppress(DeadlineExceeded):
            wait_for(
                lambda: self.sandbox.ask(p.SetReadOnly(self._name, on=True)).done,
                timeout_s=READ_ONLY_WITHIN_S,
                what="nobody to write",
                interval_s=0.005,
            )
            return
        self.sandbox.ask(p.SetReadOnly(self._name, on=True, by_path=True))

    def read_only(self, path: str) -> str:
        self._known_volume(path)
        return self.look().read_only

    # StartupClock
    def offset_clock(self, offset_s: int) -> None:
        self.sandbox.ask(p.OffsetClock(self._name, offset_s))

    def clock_offset_s(self) -> int:
        return self.look().clock_offset_s

    def _known_volume(self, path: str) -> None:
        own = str(self.sandbox.inside(self._name))
        if path != own:
            raise BadInput(f"{path} is no disk of this node", where=str(self.ref), expected=own)

    # Sysctls
    def sysctl(self, name: str) -> str:
        return self._setting(name, ("cat", f"/proc/sys/net/{name}"), b"").strip()

    def set_sysctl(self, name: str, value: str) -> None:
        self._setting(name, ("tee", f"/proc/sys/net/{name}"), f"{value}\n".encode())

    def _setting(self, name: str, argv: Sequence[str], stdin: bytes) -> str:
        done = self._administer(argv, stdin)
        if done.code != 0:
            raise EnvironmentFailed(f"the kernel setting net/{name} was refused", where=str(self.ref), observed=done.err.strip())
        return done.out

    # PacketFilter
    def drop(self, tag: str, rules: Sequence[DropRule]) -> None:
        self.check_drop(rules)
        if not rules:
            self.undrop(tag)
        elif self._iptables is not None:
            self._iptables.drop(tag, rules)
            self.sandbox.kept_drops.setdefault(self._name, {})[tag] = tuple(rules)
        else:
            self.sandbox.ask(p.Block(self._name, tag, tuple(rules)))

    def undrop(self, tag: str) -> None:
        if self._iptables is not None:
            if self.powered():  # without power no kernel holds anything
                self._iptables.undrop(tag)
            self.sandbox.kept_drops.get(self._name, {}).pop(tag, None)
        else:
            self.sandbox.ask(p.Block(self._name, tag, ()))

    def drops(self) -> Mapping[str, int]:
        seen = self.look()
        if not seen.powered:
            return {}
        if self._iptables is not None:
            return self._iptables.drops()
        return {tag: count for tag, count in seen.blocks.items() if count}

    def passes(self, peer: Node) -> bool:
        return self.sandbox.ask(p.Ping(self._name, peer.name, PING_WITHIN_S)).done

    def check_drop(self, rules: Sequence[DropRule]) -> None:
        """Routing rules are silent, and catch all packets or none."""
        if not any(rule.reject or rule.share != 1 for rule in rules):
            return
        if self._iptables is None:
            raise Unavailable(
                "a random share of packets, and resets, need iptables, which this machine lacks",
                where=str(self.ref),
                next_step="sudo apt-get install iptables",
                capability="packetfilter",
            )
        self._iptables.check_drop(rules)

    def dropped(self, tag: str) -> int | None:
        return self._iptables.dropped(tag) if self._iptables is not None and self.powered() else None

    # Echoes
    def echoes(self, peer: Node, count: int) -> int:
        """In bursts: the supervisor does nothing else meanwhile."""
        bursts = [ECHO_BURST] * (count // ECHO_BURST) + [count % ECHO_BURST]
        return sum(self.sandbox.ask(p.Ping(self._name, peer.name, ECHOES_WITHIN_S, n)).answered for n in bursts if n)

    # Link
    def link_down(self) -> None:
        """The cable is pulled on the bridge's side, also for a host without power: it boots without a network then."""
        self.sandbox.ask(p.Plug(self._name, on=False))

    def link_up(self) -> None:
        self.sandbox.ask(p.Plug(self._name, on=True))

    def linked(self) -> bool:
        return self.look().link_up


def descendants(processes: Sequence[Process], first_pid: int) -> list[Process]:
    """The process ``first_pid`` and everything that descends from it, parents first."""
    family = [x for x in processes if x.pid == first_pid]
    for member in family:
        family.extend(x for x in processes if x.parent == member.pid)
    return family


class _Capture:
    """stdin, stdout and stderr of one program as anonymous files: nothing blocks, nothing touches a disk."""

    def __init__(self, stdin: bytes) -> None:
        new = os.memfd_create
        self.fds = (new("stdin", os.MFD_CLOEXEC), new("stdout", os.MFD_CLOEXEC), new("stderr", os.MFD_CLOEXEC))
        os.write(self.fds[0], stdin)
        os.lseek(self.fds[0], 0, os.SEEK_SET)

    def text(self, index: int) -> str:
        size = os.fstat(self.fds[index]).st_size
        return os.pread(self.fds[index], KEEP_OUTPUT_BYTES, max(0, size - KEEP_OUTPUT_BYTES)).decode(errors="replace")

    def __enter__(self) -> _Capture:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.fds:
            os.close(fd)


def _search_path() -> str:
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


def iptables_path() -> str | None:
    """iptables on this machine, where it is installed."""
    return shutil.which("iptables", path=_search_path())
