"""Which file systems of a container count as its own, and that disk faults touch no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.core.errors import Unavailable
from chaos.environments.docker import Docker, DockerNode, NodeSpec
from chaos.faults.corrupt_file import CorruptFile
from chaos.faults.disk_fill import DiskFill
from chaos.faults.inode_exhaustion import InodeExhaustion
from chaos.faults.read_only_filesystem import ReadOnlyFilesystem
from chaos.faults.slow_disk import SlowDisk

pytestmark = pytest.mark.docker_engine
SIZE = 8 << 20


@pytest.fixture(scope="module")
def nodes(docker_environment: Docker, machine_image: str) -> Iterator[tuple[DockerNode, DockerNode]]:
    """One whose disk has a size of its own, one whose volume lies on the engine's disk."""
    lan = docker_environment.lan("disks")
    sized = NodeSpec(name="sized", image=machine_image, data={"/data": "games"}, disk_bytes=SIZE)
    lan.keep([sized])
    one, two = lan.start_all([sized, NodeSpec(name="shared", image=machine_image, data={"/data": "games"})])
    yield one, two
    lan.close()


def test_a_volume_with_a_size_is_the_nodes_own(nodes: tuple[DockerNode, DockerNode]) -> None:
    """It alone is listed, with its size, although a keeper has it mounted too."""
    (volume,) = nodes[0].volumes()
    assert volume.path == "/data" and volume.size_bytes == SIZE and 0 < volume.free_bytes <= SIZE


def test_the_engines_disk_is_never_touched(nodes: tuple[DockerNode, DockerNode]) -> None:
    """A volume there, the container's root, and files that the engine has mounted are refused, with the fix."""
    sized, shared = nodes
    assert shared.volumes() == []
    used = [(shared, path) for path in ("", "/data", "/", "/etc/hosts")] + [
        (sized, path) for path in ("/", "/tmp", "/etc/hostname", "/dev/shm")
    ]
    for node, path in used:
        for kind in (DiskFill, InodeExhaustion):
            with pytest.raises(Unavailable, match="no volume of the node's own") as refused:
                kind(node.ref, path=path).plan("test", lambda _, node=node: node)
            assert "disk_bytes" in refused.value.next_step and refused.value.capability == "volumes"
    with pytest.raises(Unavailable, match="no volume of the node's own"):
        CorruptFile(shared.ref, path="/etc/hostname").plan("test", lambda _: shared)


def test_what_a_container_cannot_do_comes_with_its_fix(nodes: tuple[DockerNode, DockerNode]) -> None:
    """No right to remount, and no strace in the image: each says so before anything is touched."""
    sized, _ = nodes
    before = sized.state()
    with pytest.raises(Unavailable, match="cannot remount") as refused:
        ReadOnlyFilesystem(sized.ref).plan("test", lambda _: sized)
    assert "EROFS" in refused.value.next_step
    sized.run(("sh", "-c", "setsid sleep 60 >/dev/null 2>&1 &"))
    if sized.run(("sh", "-c", "command -v strace")).code != 0:
        with pytest.raises(Unavailable, match="strace") as lacking:
            SlowDisk(sized.ref, process="sleep").plan("test", lambda _: sized)
        assert "apt-get install strace" in lacking.value.next_step
    assert sized.state() == before
