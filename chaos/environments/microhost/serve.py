"""What the sandbox's PID 1 does with a request. Knows hosts and the bridge; nothing of sockets to pytest."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import assert_never

from pyroute2.iproute.linux import IPRoute

from chaos.core.errors import EnvironmentFailed
from chaos.environments.microhost import protocol as p
from chaos.environments.microhost.disk import set_read_only
from chaos.environments.microhost.hosts import BRIDGE, Blocks, Host, start_time

MAX_HOSTS = 200


class Server:
    """All hosts of one sandbox."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hosts: dict[str, Host] = {}
        self._blocks = Blocks()
        self._own_net = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._bridge = IPRoute()
        self._bridge.link("add", ifname=BRIDGE, kind="bridge")
        for name in ("lo", BRIDGE):
            self._bridge.link("set", ifname=name, state="up")

    def reap(self) -> None:
        """Collect go-betweens that finished. A host whose PID 1 ended by itself has lost its power."""
        inits = {h.init_pid: h for h in self._hosts.values()}
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_pid in inits:
                inits.pop(found.si_pid).power_off(self._bridge)
            else:
                os.waitpid(found.si_pid, os.WNOHANG)

    def _host(self, name: str) -> Host:
        host = self._hosts.get(name)
        if host is None:
            raise EnvironmentFailed("no such micro-host", where=name, expected=f"one of {sorted(self._hosts)}")
        return host

    def handle(self, request: p.Request, fds: list[int]) -> p.Reply:
        """Do it and say so. Raises GamedayError or whatever the kernel raised; the caller turns that into a reply."""
        match request:
            case p.AddHost():
                self._add(request)
            case p.PowerOff():
                self._host(request.host).power_off(self._bridge)
            case p.PowerOn():
                self._power_on(self._host(request.host))
            case p.Spawn():
                return self._spawn(request, fds)
            case p.ListProcesses():
                return p.Reply(processes=tuple(self._host(request.host).processes()))
            case p.Signal():
                return p.Reply(done=self._signal(request))
            case p.Freeze():
                host = self._host(request.host)
                host.freeze() if request.on else host.thaw()
                return p.Reply(done=host.frozen() is request.on)
            case p.StartService():
                self._host(request.host).start_service(request.service)
            case p.Look():
                return p.Reply(host=self._look(self._host(request.host)))
            case p.Ping():
                target = self._host(request.target).address
                answered = self._host(request.source).ping(target, request.timeout_s, request.count)
                return p.Reply(done=answered > 0, answered=answered)
            case p.Block():
                self._blocks.put(request.tag, self._host(request.host), request.rules, list(self._hosts.values()))
            case p.SetReadOnly():
                return p.Reply(done=self._set_read_only(request))
            case p.OffsetClock():
                self._host(request.host).clock_offset_s = request.offset_s
            case p.Plug():
                self._host(request.host).plug(self._bridge, on=request.on)
            case _:
                assert_never(request)
        return p.Reply()

    def _add(self, request: p.AddHost) -> None:
        if request.name in self._hosts:
            raise EnvironmentFailed("this micro-host exists already", where=request.name)
        if len(self._hosts) >= MAX_HOSTS:
            raise EnvironmentFailed(f"a sandbox holds at most {MAX_HOSTS} micro-hosts", where=request.name)
        host = Host(len(self._hosts) + 1, request.name, self._root / request.name, request.disk_bytes, request.services)
        for other in self._hosts.values():
            other.know(host)
        try:
            self._boot(host)
        except BaseException:
            host.power_off(self._bridge)
            raise
        self._hosts[request.name] = host

    def _boot(self, host: Host) -> None:
        """The network first, as it was before; whatever runs on the host comes last."""
        host.boot(self._bridge, self._own_net, [h for h in self._hosts.values() if h is not host])
        self._blocks.renew(host)
        host.start_services()

    def _power_on(self, host: Host) -> None:
        if not host.powered:
            self._boot(host)

    def _look(self, host: Host) -> p.HostState:
        return host.look(self._bridge, self._blocks.held(host))

    def _spawn(self, request: p.Spawn, fds: list[int]) -> p.Reply:
        if len(fds) != p.MAX_FDS:
            raise EnvironmentFailed(f"spawn needs {p.MAX_FDS} descriptors", where=request.host, observed=str(len(fds)))
        stdin, stdout, stderr, status = fds
        host = self._host(request.host)
        pid = host.spawn(request.argv, request.env, request.cwd, (stdin, stdout, stderr), status, privileged=request.privileged)
        return p.Reply(pid=pid)

    def _set_read_only(self, request: p.SetReadOnly) -> bool:
        host = self._host(request.host)
        try:
            set_read_only(host.disk, host.init_pid, on=request.on, by_path=request.by_path)
        except OSError as err:
            if err.errno != errno.EBUSY:
                raise
            return False
        return True

    def _signal(self, request: p.Signal) -> bool:
        self._host(request.host)
        if start_time(request.pid) != request.started:
            return False
        try:
            os.kill(request.pid, signal.Signals(request.number))
        except ProcessLookupError:
            return False
        return True
