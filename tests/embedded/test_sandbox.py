"""What a micro-host is and does: programs, power, freezing, disks, services, state."""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from microhost_services import MakeSandbox, called, knocks, listener, python, wait_listening, watch

from chaos.core.clock import now_ns, seconds, wait_for
from chaos.core.errors import DeadlineExceeded, EnvironmentFailed, EnvironmentGone
from chaos.environments.base import Exec, Freeze, Node, PacketFilter, Power, ProbeLine, Process, Processes, Services, require
from chaos.environments.microhost import client
from chaos.environments.microhost import protocol as p
from chaos.environments.microhost.client import MicroHost, mount_point
from chaos.environments.microhost.probe import probe
from chaos.environments.microhost.protocol import ServiceSpec
from chaos.environments.microhost.provider import Microhosts

FORKS = """
import os, time
while True:  # a chain: each link lives for a moment, and most of its life it forks
    if os.fork() == 0:
        time.sleep(0.001)
    else:
        os._exit(0)
"""


STUBBORN = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, lambda *_: subprocess.Popen(['sleep', '98']))
print("up", flush=True)
while True:
    time.sleep(1)
"""


def test_a_micro_host_has_every_capability(pair: tuple[MicroHost, MicroHost]) -> None:
    """It implements all the protocols that faults ask for."""
    for capability in (Node, Exec, Power, Freeze, Processes, Services, PacketFilter):
        assert require(pair[0], capability, for_what="a test") is pair[0]


def test_addresses_are_distinct_and_answer(pair: tuple[MicroHost, MicroHost]) -> None:
    """Each host has an address of its own, answers an echo, and serves TCP to its peer."""
    a, b = pair
    assert (a.address, b.address) == ("10.66.0.1", "10.66.0.2")
    assert a.passes(b) and b.passes(a) and a.reachable()
    wait_listening(b)
    assert knocks(a, b.address)
    assert a.run(["hostname"]).out.strip() == "a"


def test_a_thousand_echoes_one_way_do_not_cost_one_the_other_way(pair: tuple[MicroHost, MicroHost]) -> None:
    """What a host is asked does not fill the queue in which it waits for answers."""
    a, b = pair
    assert all(a.passes(b) for _ in range(1000))
    assert b.passes(a)


def test_a_command_gets_its_input_and_gives_both_outputs_and_its_code(pair: tuple[MicroHost, MicroHost]) -> None:
    """Standard input, standard output, standard error and the exit code arrive unmixed, a large input too."""
    done = pair[0].run(["sh", "-c", "cat; echo oops >&2; exit 3"], stdin=b"hello")
    assert (done.code, done.out, done.err) == (3, "hello", "oops\n")
    assert pair[0].run(["wc", "-c"], stdin=b"x" * (1 << 20)).out.strip() == str(1 << 20)


def test_a_program_that_a_signal_ends_has_a_negative_code(pair: tuple[MicroHost, MicroHost]) -> None:
    """The code is minus the signal's number, for its own signal as for ours."""
    assert pair[0].run(["sh", "-c", "kill -TERM $$"]).code == -signal.SIGTERM
    program = pair[0].spawn(["sleep", "60"])
    assert program.poll() is None
    program.kill()
    assert program.wait(5) == program.wait(5) == program.poll() == -signal.SIGKILL
    program.terminate()


def test_a_command_that_hangs_is_killed_at_its_deadline_with_its_children(pair: tuple[MicroHost, MicroHost]) -> None:
    """The deadline raises, soon after it, and neither the command nor what it started stays behind."""
    began_ns = now_ns()
    with pytest.raises(DeadlineExceeded, match="before"):
        pair[0].run(["sh", "-c", "echo before; sleep 97; true"], timeout_s=0.3)
    assert seconds(now_ns() - began_ns) < 3.0
    wait_for(lambda: not called(pair[0].processes(), "97"), timeout_s=2, what="the command's children to be gone")


def test_an_unknown_program_is_named(pair: tuple[MicroHost, MicroHost]) -> None:
    """Starting what does not exist fails with its name and the kernel's reason, and the host goes on."""
    for _ in range(20):  # who reports first, the program's child or the one that waits for it, is up to the scheduler
        with pytest.raises(EnvironmentFailed, match=r"could not start no-such-program; observed \[Errno 2\] No such file .*program'$"):
            pair[0].spawn(["no-such-program"])
    assert pair[0].run(["true"]).code == 0


def test_only_privileged_commands_may_change_the_network(pair: tuple[MicroHost, MicroHost]) -> None:
    """The same command is refused without, and done with, network administration rights; neither sees the machine's own network."""
    a, _ = pair
    command = python("import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); print(socket.if_nameindex())")
    assert a.run(command).code != 0
    done = a.run(command, privileged=True)
    assert done.code == 0 and "eth0" in done.out and "br0" not in done.out


def test_programs_do_not_inherit_the_supervisors_descriptors(pair: tuple[MicroHost, MicroHost]) -> None:
    """A program has its standard streams and nothing else open: not the channel through which the sandbox is driven."""
    done = pair[0].run(python("import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:4])"))
    assert done.out.strip() == "[0, 1, 2, 3]"  # 3 is the listing's own
    done = pair[0].run(python("import os; print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) > 3])"))
    assert done.out.strip() == "[]"


def test_power_loss_is_silence(pair: tuple[MicroHost, MicroHost]) -> None:
    """An established connection of a peer gets neither a close nor a reset, a new one no refusal; no process is left."""
    a, b = pair
    wait_listening(a)
    assert watch(b, a, a.power_off, for_s=1.5) == "silence"
    assert not a.powered() and not a.reachable() and not b.passes(a) and a.processes() == []
    refused = b.run(
        python("import socket, sys; s = socket.socket(); s.settimeout(0.3); print(s.connect_ex((sys.argv[1], 8080)))", a.address)
    )
    assert refused.out == "11\n"  # EAGAIN: nothing came


def test_killing_the_process_is_not_silence(pair: tuple[MicroHost, MicroHost]) -> None:
    """The same watcher sees a killed process close its connection: so it can tell the two apart."""
    a, b = pair
    wait_listening(a)
    assert watch(b, a, lambda: a.signal(called(a.processes(), "socketserver")[0], signal.SIGKILL), for_s=5.0) in ("closed", "reset")


def test_a_boot_brings_back_address_services_and_disk(pair: tuple[MicroHost, MicroHost]) -> None:
    """After power off and on, each given twice, the state is as before, the services run and the disk has its files."""
    a, b = pair
    wait_listening(a)
    before = a.state()
    a.run(["sh", "-c", "echo kept > mark"])
    a.power_off()
    a.power_off()
    assert a.state() != before
    with pytest.raises(EnvironmentFailed, match="no power"):
        a.run(["true"])
    a.power_on()
    a.power_on()
    wait_listening(a)
    assert a.state() == before and a.address == "10.66.0.1"
    assert a.run(["cat", "mark"]).out == "kept\n"
    assert b.passes(a) and knocks(b, a.address)


def test_a_program_that_loses_power_has_been_killed(pair: tuple[MicroHost, MicroHost]) -> None:
    """Whoever waits for it is told so, as for a kill."""
    program = pair[0].spawn(["sleep", "60"])
    pair[0].power_off()
    assert program.wait(5) == -signal.SIGKILL


def test_a_frozen_host_runs_nothing_and_its_kernel_answers(pair: tuple[MicroHost, MicroHost]) -> None:
    """Frozen twice: connections are accepted by the kernel and never served; thawed twice: served again, in the same state."""
    a, b = pair
    wait_listening(a)
    before = a.state()
    a.freeze()
    a.freeze()
    assert a.frozen() and a.powered() and a.state() != before and b.passes(a)
    assert {process.state for process in a.processes()} == {"T"}
    assert watch_is_not_served(b, a)
    with pytest.raises(EnvironmentFailed, match="frozen"):
        a.run(["true"])
    a.thaw()
    a.thaw()
    assert not a.frozen() and a.state() == before and knocks(b, a.address)
    assert a.run(["true"]).code == 0


def watch_is_not_served(host: MicroHost, target: MicroHost) -> bool:
    """A connection stands, and nothing comes back over it."""
    code = "import socket, sys; c = socket.create_connection((sys.argv[1], 8080), 1); c.sendall(b'x\\n'); c.settimeout(0.3); c.recv(1)"
    done = host.run(python(code, target.address))
    return done.code != 0 and "TimeoutError" in done.err


def test_frozen_is_what_the_kernel_says(pair: tuple[MicroHost, MicroHost]) -> None:
    """A host one of whose processes somebody woke is not frozen; a host without any process can be."""
    a, _ = pair
    a.freeze()
    first = called(a.processes(), "socketserver")[0]
    a.signal(first, signal.SIGCONT)
    wait_for(lambda: not a.frozen(), timeout_s=2, what="the awakening to be seen")
    a.freeze()
    assert a.frozen()
    a.thaw()
    a.stop_service("listener")
    a.freeze()
    assert a.processes() == [] and a.frozen()
    with pytest.raises(EnvironmentFailed, match="frozen"):
        a.spawn(["true"])
    a.thaw()


def test_a_process_that_was_stopped_before_stays_stopped(pair: tuple[MicroHost, MicroHost]) -> None:
    """Thawing continues those that freezing stopped, and no other."""
    a, _ = pair
    program = a.spawn(["sleep", "61"])
    sleeper = called(a.processes(), "61")[0]
    a.signal(sleeper, signal.SIGSTOP)
    wait_for(lambda: called(a.processes(), "61")[0].state == "T", timeout_s=2, what="the process to stop")
    a.freeze()
    a.thaw()
    assert called(a.processes(), "61")[0].state == "T"
    assert called(a.processes(), "socketserver")[0].state != "T"
    program.kill()
    program.wait(5)


def test_freezing_catches_processes_that_fork_all_the_time(pair: tuple[MicroHost, MicroHost]) -> None:
    """A chain of forking processes is stopped whole, stays stopped, and goes on after the thaw."""
    a, _ = pair
    a.spawn(python(FORKS))
    wait_for(lambda: called(a.processes(), "os.fork"), timeout_s=5, what="the chain to run")
    for _ in range(5):
        a.freeze()
        chain = [process.pid for process in called(a.processes(), "os.fork")]
        assert a.frozen() and chain and all(process.state in "TZ" for process in a.processes())
        assert [process.pid for process in called(a.processes(), "os.fork")] == chain
        a.thaw()
        wait_for(functools.partial(moved_on, a, chain), timeout_s=2, what="the chain to go on")


def moved_on(host: MicroHost, chain: list[int]) -> bool:
    """Other links of the chain live now."""
    return [process.pid for process in called(host.processes(), "os.fork")] != chain


def test_power_loss_of_a_frozen_host_is_silence_and_the_boot_is_thawed(pair: tuple[MicroHost, MicroHost]) -> None:
    """Freezing first does not make the kill audible, and power brings the host back running."""
    a, b = pair
    wait_listening(a)
    before = a.state()

    def freeze_and_cut() -> None:
        a.freeze()
        a.power_off()

    assert watch(b, a, freeze_and_cut, for_s=1.0) == "silence"
    with pytest.raises(EnvironmentFailed, match="no power"):
        a.freeze()
    a.power_on()
    assert not a.frozen() and a.state() == before


def test_a_full_disk_is_enospc_on_that_host_alone(pair: tuple[MicroHost, MicroHost]) -> None:
    """Writing more than the disk holds fails with the kernel's error; the neighbour's disk takes it."""
    a, b = pair
    half = "head -c 600000 /dev/zero > one"
    done = a.run(["sh", "-c", f"{half} && head -c 600000 /dev/zero > two"])
    assert done.code != 0 and "No space left on device" in done.err
    assert b.run(["sh", "-c", half]).code == 0
    assert a.run(["sh", "-c", f"rm -f one two && {half}"]).code == 0


def test_shared_memory_is_private(pair: tuple[MicroHost, MicroHost]) -> None:
    """A file in one host's /dev/shm and a System V segment are seen neither by its neighbour nor by this machine."""
    a, b = pair
    assert a.run(["touch", "/dev/shm/gameday-mine"]).code == 0
    a.run(python("import ctypes; assert ctypes.CDLL(None).shmget(0x67616d65, 4096, 0o1600) >= 0"))
    assert b.run(["ls", "/dev/shm"]).out == "" and not Path("/dev/shm/gameday-mine").exists()
    assert "0x67616d65" not in Path("/proc/sysvipc/shm").read_text()


def test_a_service_is_stopped_started_and_seen(pair: tuple[MicroHost, MicroHost]) -> None:
    """Stopping and starting are idempotent, and the state after both equals the one before."""
    a, b = pair
    wait_listening(a)
    before = a.state()
    a.stop_service("listener")
    a.stop_service("listener")
    assert a.services() == {"listener": False} and a.state() != before and b.passes(a)
    refused = b.run(python("import socket, sys; s = socket.socket(); print(s.connect_ex((sys.argv[1], 8080)))", a.address))
    assert refused.out.strip() == "111"
    a.start_service("listener")
    a.start_service("listener")
    assert a.services() == {"listener": True} and len(called(a.processes(), "socketserver")) == 1
    assert a.state() == before


def test_a_killed_service_is_seen_at_once(pair: tuple[MicroHost, MicroHost]) -> None:
    """Its process is gone, nobody restarts it, and starting it does."""
    a, _ = pair
    before = a.state()
    victim = called(a.processes(), "socketserver")[0]
    assert a.signal(victim, signal.SIGKILL)
    wait_for(lambda: a.services() == {"listener": False}, timeout_s=2, what="the service to be seen down")
    assert not a.signal(victim, signal.SIGKILL)
    stranger = Process(victim.pid, victim.parent, victim.started - 1, victim.name, victim.cmdline, victim.state)
    assert not a.signal(stranger, signal.SIGKILL)
    a.start_service("listener")
    assert a.state() == before


def test_a_service_that_ignores_sigterm_is_killed_with_what_it_started(new_sandbox: MakeSandbox) -> None:
    """At the deadline the whole family goes, children born in the meantime included."""
    sandbox = new_sandbox("stubborn")
    a = sandbox.add(
        "a",
        disk_bytes=1 << 20,
        services=[ServiceSpec("stubborn", python(STUBBORN), {"PATH": os.environ["PATH"]}, str(sandbox.inside("a") / "log"))],
    )
    wait_for(lambda: "up" in (a.disk / "log").read_text(), timeout_s=10, what="the service to run", interval_s=0.01)
    a.stop_service("stubborn", timeout_s=0.5)
    assert a.services() == {"stubborn": False}
    wait_for(lambda: a.processes() == [], timeout_s=2, what="the family to be gone")


def test_a_host_with_a_service_that_cannot_start_is_not_half_there(new_sandbox: MakeSandbox) -> None:
    """The error names the program; the same host can be added again, right this time."""
    sandbox = new_sandbox("wrong")
    with pytest.raises(EnvironmentFailed, match="could not start /no/such/program"):
        sandbox.add("a", disk_bytes=1 << 20, services=[ServiceSpec("wrong", ("/no/such/program",))])
    a, b = sandbox.add("a", disk_bytes=1 << 20), sandbox.add("b", disk_bytes=1 << 20)
    assert a.passes(b) and b.passes(a)
    with pytest.raises(EnvironmentFailed, match="exists already"):
        sandbox.add("a")


def test_a_question_whose_asker_was_interrupted_does_not_answer_the_next(
    pair: tuple[MicroHost, MicroHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while an answer is awaited leaves the channel usable: the next question gets its own answer."""
    a, b = pair
    receive = p.receive_reply

    def interrupted(_: socket.socket) -> p.Reply | None:
        monkeypatch.setattr(p, "receive_reply", receive)
        raise KeyboardInterrupt

    monkeypatch.setattr(p, "receive_reply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        a.look()
    assert b.look().address == b.address
    assert len(a.processes()) == 1


def test_very_many_processes_are_an_error_and_not_the_end(pair: tuple[MicroHost, MicroHost]) -> None:
    """An answer that fits no datagram says so; the sandbox lives on."""
    a, _ = pair
    long = "x" * 2000
    many = python(
        "import subprocess, sys, time; [subprocess.Popen(['sleep', '99'] + ['0' * 2000]) for _ in range(150)]; time.sleep(99)", long
    )
    program = a.spawn(many, env={"PATH": os.environ["PATH"]})
    try:
        wait_for(lambda: _too_many(a), timeout_s=20, what="more processes than a datagram holds")
    finally:
        a.power_off()
        a.power_on()
    assert program.wait(5) == -signal.SIGKILL
    assert len(a.processes()) == 1


def _too_many(host: MicroHost) -> bool:
    try:
        host.processes()
    except EnvironmentFailed as err:
        return "fits no datagram" in str(err)
    return False


@pytest.mark.parametrize("victim", ["stub", "sandbox"])
def test_a_dead_supervisor_is_one_clean_error(pair: tuple[MicroHost, MicroHost], victim: str) -> None:
    """Whoever asks is told that it is gone, at once and every time; programs on its hosts have been killed; closing works."""
    a, _ = pair
    program = a.spawn(["sleep", "60"])
    pid = a.sandbox.root_pid
    if victim == "stub":
        pid = next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("PPid:"))
    os.kill(pid, signal.SIGKILL)
    assert program.wait(5) == -signal.SIGKILL
    for _ in range(2):
        with pytest.raises(EnvironmentFailed, match=r"pair: the supervisor (is gone|does not answer)"):
            a.look()
    with pytest.raises(EnvironmentGone):
        wait_for(a.powered, timeout_s=30, what="nothing: there is nobody to wait for")
    with pytest.raises(EnvironmentGone):
        a.sandbox.outside("a")
    a.sandbox.close()


def test_the_sandbox_is_not_mounted_over_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project under /run gets its sandbox mounted elsewhere; one under /mnt does not mind /run."""
    assert mount_point(tmp_path) == Path("/run")
    assert mount_point(Path("/run/project/.gameday")) == Path("/mnt")
    assert mount_point(Path("/mnt/project/.gameday")) == Path("/run")
    monkeypatch.setattr(sys, "path", [*sys.path, "/run/lib", "/mnt/lib"])
    assert mount_point(None) not in (Path("/run"), Path("/mnt"))


@pytest.mark.skipif(not os.access("/run", os.W_OK), reason="needs a directory under /run: run as root")
def test_a_project_under_run_works(pair: tuple[MicroHost, MicroHost]) -> None:
    """Its directory stays visible to programs on micro-hosts."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/run", prefix="gameday-test-") as directory:
        sandbox = client.Sandbox("under-run", Path(directory) / "state")
        try:
            (Path(directory) / "mark").write_text("seen")
            a = sandbox.add("a", disk_bytes=1 << 20, services=[listener(8080)])
            assert sandbox.inner_root == Path("/mnt") and a.run(["cat", f"{directory}/mark"]).out == "seen"
            assert a.disk.is_dir()
        finally:
            sandbox.close()


def test_doctor_says_what_was_looked_at() -> None:
    """Every line has a subject and an observation, all are ok here, and the environment's own words are the same."""
    lines = probe()
    assert [line.what for line in lines] == ["Linux", "user namespaces for this user", "two micro-hosts reach each other", "packet filter"]
    assert all(isinstance(line, ProbeLine) and line.ok and line.seen and not line.fix for line in lines)
    Microhosts().check()


def test_doctor_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel refuses namespaces, the line carries the exact command for what the machine says of itself."""
    from chaos.environments.microhost import kernel
    from chaos.environments.microhost import probe as module

    def refuse(*_: str) -> None:
        raise PermissionError(1, "unshare: Operation not permitted")

    monkeypatch.setattr(kernel, "unshare", refuse)
    said = {"max": "15000", "clone": "", "apparmor": "1"}
    names = {module._MAXIMUM: "max", module._CLONE: "clone", module._APPARMOR: "apparmor"}
    monkeypatch.setattr(module, "_read", lambda path: said.get(names.get(path, ""), ""))
    last = probe()[-1]
    assert not last.ok and "not permitted" in last.seen and "apparmor_restrict_unprivileged_userns=0" in last.fix
    said["max"] = "0"
    assert "user.max_user_namespaces" in probe()[-1].fix
