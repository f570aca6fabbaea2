"""The courier and the repository: what comes back is what was stored, or nothing comes back."""

from __future__ import annotations

import http.client
import os
from pathlib import Path

import pytest
from backup_places import RunCourier

from fixtures.backups.courier import ABSENT, DAMAGED, MAC_BYTES
from fixtures.backups.repository import Repository

SIZES = (0, 1, MAC_BYTES - 1, MAC_BYTES, 300_000)


def flip(path: Path, at: int) -> None:
    """Invert one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("key", ["one", ""], ids=["sealed", "plain"])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_stored_comes_back(courier: RunCourier, size: int, key: str) -> None:
    """Any size comes back byte for byte, sealed or not."""
    content = os.urandom(size)
    assert courier("store", "base/a", key=key, stdin=content).returncode == 0
    loaded = courier("load", "base/a", key=key)
    assert (loaded.returncode, loaded.stdout) == (0, content)


def test_the_repository_never_sees_plain_text(courier: RunCourier, repository: Repository) -> None:
    """What lies in the repository is openssl's cipher text, and twice the same plain text is never the same there."""
    for name in ("base/a", "base/b"):
        courier("store", name, stdin=b"a secret " * 1000)
    first, second = ((repository.root / name).read_bytes() for name in ("base/a", "base/b"))
    assert first.startswith(b"Salted__") and b"a secret" not in first and first != second


@pytest.mark.parametrize("at", [0, 8, 20, 5000, -MAC_BYTES, -1])
def test_one_changed_byte_is_found_and_nothing_is_given_out(courier: RunCourier, repository: Repository, at: int) -> None:
    """Wherever a byte changes, mark, salt, cipher text or code, the object is refused as damaged and not one byte of it is written."""
    courier("store", "base/a", stdin=bytes(10_000))
    flip(repository.root / "base" / "a", at)
    loaded = courier("load", "base/a")
    assert (loaded.returncode, loaded.stdout) == (DAMAGED, b"")
    assert "it is not what was stored" in loaded.stderr.decode()
    assert "not what was stored" in courier("prove", "base/a").stdout.decode()


def test_a_cut_off_object_is_found(courier: RunCourier, repository: Repository) -> None:
    """An object of which the end is missing is refused as damaged."""
    courier("store", "base/a", stdin=bytes(10_000))
    path = repository.root / "base" / "a"
    path.write_bytes(path.read_bytes()[:5000])
    assert courier("load", "base/a").returncode == DAMAGED


def test_another_key_and_another_name_are_refused(courier: RunCourier, repository: Repository) -> None:
    """An object opens with its own key, and under its own name only: two segments cannot be exchanged."""
    courier("store", "wal/a", stdin=b"first")
    courier("store", "wal/b", stdin=b"other")
    assert courier("load", "wal/a", key="two").returncode == DAMAGED
    (repository.root / "wal" / "a").replace(repository.root / "wal" / "b")
    assert courier("load", "wal/b").returncode == DAMAGED


def test_what_is_absent_is_told_from_what_is_damaged(courier: RunCourier, tmp_path: Path) -> None:
    """PostgreSQL takes exit code 1 for the end of the archive; nothing is left where the segment should have come to."""
    fetched = courier("fetch", "wal/a", str(tmp_path / "there"))
    assert fetched.returncode == ABSENT and not (tmp_path / "there").exists()


def test_an_archived_segment_is_never_replaced(courier: RunCourier, repository: Repository, tmp_path: Path) -> None:
    """The same segment again is fine, another content under its name is not, and what lies there stays."""
    segment = tmp_path / "segment"
    segment.write_bytes(b"one" * 1000)
    assert courier("push", str(segment), "wal/a").returncode == 0
    assert courier("push", str(segment), "wal/a").returncode == 0
    before = (repository.root / "wal" / "a").read_bytes()
    segment.write_bytes(b"two" * 1000)
    assert courier("push", str(segment), "wal/a").returncode == ABSENT
    assert (repository.root / "wal" / "a").read_bytes() == before


def test_a_broken_off_upload_leaves_nothing(repository: Repository) -> None:
    """An object is there whole or not at all."""
    host, port = repository.server_address[:2]
    connection = http.client.HTTPConnection(str(host), port, timeout=5)
    connection.putrequest("PUT", "/base/a")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"only this")
    assert connection.sock is not None
    connection.sock.shutdown(1)
    assert connection.getresponse().status == 400
    connection.close()
    assert repository.listing() == [] and list((repository.root / "base").iterdir()) == []


@pytest.mark.parametrize("name", ["../a", "a/../../b", "a//b", "a/b/c", ".hidden", "a/.b", ""])
def test_no_name_leads_out_of_the_repository(repository: Repository, name: str) -> None:
    """A name that is none is refused, and nothing is written."""
    host, port = repository.server_address[:2]
    connection = http.client.HTTPConnection(str(host), port, timeout=5)
    connection.request("PUT", f"/{name}", b"x")
    assert connection.getresponse().status == 400
    connection.close()
    assert list(repository.root.iterdir()) == []
