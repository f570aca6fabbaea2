"""Micro-hosts for whoever runs pytest: root, an ordinary user, and nobody."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

# Stands for a run: an environment that is checked and opened, a host with a service, a partition, a power loss, a full disk.
SCRIPT = """
import json, os, sys, tempfile
from pathlib import Path
from chaos.environments.base import DropRule
from chaos.environments.microhost.protocol import ServiceSpec
from chaos.environments.microhost.provider import Microhosts
environment = Microhosts()
environment.check()
with tempfile.TemporaryDirectory() as directory:
    environment.open(run_id="users", state_dir=Path(directory) / "state")
    sandbox = environment.sandbox("users")
    a = sandbox.add("a", disk_bytes=1 << 20, services=[ServiceSpec("sleeper", ("/bin/sleep", "1000"))])
    b = sandbox.add("b", disk_bytes=1 << 20)
    before = a.state()
    seen = {"uid": os.geteuid(), "inner": a.run(["id", "-u"]).out.strip(), "passes": a.passes(b)}
    a.drop("cut", [DropRule(True), DropRule(False)])
    seen["partitioned"] = not b.passes(a)
    a.undrop("cut")
    a.freeze()
    seen["frozen"] = a.frozen()
    a.thaw()
    a.power_off()
    seen["silent"] = not a.reachable()
    a.power_on()
    seen["as before"] = a.state() == before and a.passes(b)
    seen["full"] = "No space left" in a.run(["sh", "-c", "head -c 2000000 /dev/zero > big"]).err
    (a.disk / "seen-from-outside").touch()
    seen["disk"] = a.run(["ls"]).out.split()
    environment.close()
    seen["left"] = sorted(os.listdir(Path(directory) / "state"))
print(json.dumps(seen))
"""
USERS = {"root": 0, "an ordinary user": 1500, "nobody": 65534}


def interpreter(uid: int) -> str:
    """A Python of this version that ``uid`` may execute, or "" where there is none."""
    candidates = [sys.executable, shutil.which(f"python{sys.version_info.major}.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")]
    for candidate in filter(None, candidates):
        if _as(uid, [str(candidate), "-c", "import encodings"]).returncode == 0:
            return str(candidate)
    return ""


def _as(uid: int, argv: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    """Run as ``uid`` with nothing of this user's: no groups, no capabilities, no home."""
    if uid != os.geteuid():
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]
        argv = [*become, "env", *argv]  # setpriv itself executes with its old capabilities, env without any
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", **environ}
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=env, cwd="/")
    except PermissionError as err:
        return subprocess.CompletedProcess(argv, 126, "", str(err))


def _skip(reason: str) -> NoReturn:
    """Or fail, where TESTS_REQUIRE names ``user``."""
    if "user" in os.environ.get("TESTS_REQUIRE", "").split(","):
        pytest.fail(f"required by TESTS_REQUIRE, but {reason}", pytrace=False)
    pytest.skip(reason)


def _readable_copy(directory: Path) -> Path:
    """What the script imports, for everybody to read: this checkout and its environment may be closed to others."""
    for name in ("chaos", "msgspec", "pyroute2"):
        found = importlib.util.find_spec(name)
        assert found is not None and found.origin is not None
        shutil.copytree(Path(found.origin).parent, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    directory.chmod(0o755)
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return directory


@pytest.mark.parametrize("user", list(USERS))
def test_micro_hosts_work_for(user: str) -> None:
    """The same hosts with the same abilities, whoever asks; inside, the user is never root."""
    uid = USERS[user]
    if os.geteuid() not in (0, uid) and user != "an ordinary user":
        _skip(f"only root can become {user}: run the tests as root")
    if os.geteuid() not in (0, uid):
        uid = os.geteuid()  # we are one ourselves
    if uid != os.geteuid() and shutil.which("setpriv") is None:
        _skip("setpriv is not installed: apt-get install util-linux")
    python = interpreter(uid)
    if not python:
        _skip(f"{user} may not execute {sys.executable}, and there is no Python of this version in /usr/bin")
    with tempfile.TemporaryDirectory(prefix="gameday-users-") as directory:
        done = _as(uid, [python, "-c", SCRIPT], PYTHONPATH=str(_readable_copy(Path(directory))))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("uid") == uid and int(seen.pop("inner")) == (uid or 1000)
    assert seen == {
        "passes": True,
        "partitioned": True,
        "frozen": True,
        "silent": True,
        "as before": True,
        "full": True,
        "disk": ["big", "seen-from-outside"],
        "left": [],
    }
