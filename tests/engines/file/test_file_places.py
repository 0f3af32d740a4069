"""Where leases are: files and directories of their own, of others, and on network file systems."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cronlock.engines.file.store import FileStore
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendError, ConfigError, ForeignValue
from cronlock.lease.leases import Leases
from cronlock.testing import LONG, granted, make_claim, make_ending

from .support import file_of, needs_root, node_on

# Files and directories


def test_directory_and_file_are_private(directory: Path) -> None:
    """New files and directories are private, parents too; existing ones keep their mode."""
    deep = node_on(directory / "a" / "b")
    granted(deep.acquire(make_claim("x")))
    modes = [path.stat().st_mode & 0o777 for path in (directory, directory / "a", directory / "a" / "b")]
    assert modes == [0o700] * 3
    assert file_of(directory / "a" / "b").stat().st_mode & 0o777 == 0o600
    directory.chmod(0o755)
    granted(node_on(directory).acquire(make_claim("x")))
    assert directory.stat().st_mode & 0o777 == 0o755


def test_reading_creates_nothing(node: Leases, directory: Path) -> None:
    """Reading, listing and releasing by force make no directory."""
    assert node.read("x") is None
    assert list(node.keys()) == []
    assert not node.force_release("x", "somebody")
    assert not directory.exists()


def test_file_is_never_replaced(node: Leases, directory: Path) -> None:
    """The key's file stays the same through runs, ends and forced releases."""
    numbers = set()
    for _ in range(3):
        grant = granted(node.acquire(make_claim("x", hold=LONG)))
        numbers.add(file_of(directory).stat().st_ino)
        node.release(grant, make_ending(), keep_hold=True)
        node.force_release("x", grant.claim.owner)
        numbers.add(file_of(directory).stat().st_ino)
    assert len(numbers) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda place, victim: place.symlink_to(victim),
        lambda place, victim: os.link(victim, place),
        lambda place, _: os.mkfifo(place),
        lambda place, _: place.mkdir(),
    ],
    ids=["symbolic link", "hard link", "pipe", "directory"],
)
def test_other_kinds_of_file_are_refused(
    node: Leases, directory: Path, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    """A link, pipe or directory in the file's place is refused: not followed, not waited for, its target untouched."""
    directory.mkdir()
    (tmp_path / "victim").write_text("")
    make(directory / "x.lock", tmp_path / "victim")
    for ask in (lambda: node.acquire(make_claim("x")), lambda: node.read("x")):
        with pytest.raises(ForeignValue, match="not a plain file"):
            ask()
    assert list(node.keys()) == []
    assert (tmp_path / "victim").read_text() == ""


def test_linked_directory_is_refused(tmp_path: Path) -> None:
    """A directory that is a symbolic link is refused with what to do."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(BackendError, match="symbolic link; name the directory that it leads to"):
        node_on(tmp_path / "link").acquire(make_claim("x"))


def test_directory_for_everybody_is_refused(node: Leases, directory: Path) -> None:
    """A directory in which everyone may rename files is refused; with the sticky bit it is fine."""
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(BackendError, match="chmod o-w"):
        node.acquire(make_claim("x"))
    directory.chmod(0o1777)
    granted(node.acquire(make_claim("x")))


@needs_root
def test_file_of_another_user_is_refused(node: Leases, directory: Path) -> None:
    """A file that another user put there beforehand is refused."""
    directory.mkdir()
    directory.chmod(0o1777)
    (directory / "x.lock").touch()
    os.chown(directory / "x.lock", 65534, 65534)
    for ask in (lambda: node.acquire(make_claim("x")), lambda: node.read("x")):
        with pytest.raises(ForeignValue, match="another user"):
            ask()
    assert list(node.keys()) == []
    os.chown(directory, 65534, 65534)
    # Root looks into a user's directory, and runs nothing by it.
    assert node.read("x") is None
    with pytest.raises(BackendError, match="belongs to another user"):
        node.acquire(make_claim("x"))


# URLs


def test_url_names_the_directory(tmp_path: Path) -> None:
    """The URL's path is the directory, with %XX undone."""
    backend = open_backend(f"file://{tmp_path}/with%20space//x/../locks/", 5.0)
    assert backend.traits.local
    granted(backend.acquire(make_claim("x")))
    assert (tmp_path / "with space" / "locks" / "x.lock").exists()


_MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:30 / /mnt rw - tmpfs none rw
30 23 0:40 / /mnt/shared rw,relatime shared:9 master:1 - nfs4 filer:/export rw,vers=4.2
31 30 0:41 / /mnt/shared/local rw - xfs /dev/vdb rw
32 23 0:42 / /mnt/with\040space rw - fuse.sshfs host:/x rw
33 23 0:43 / /mnt/twice rw - ext4 /dev/vdc rw
34 33 0:44 / /mnt/twice rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/mnt/shared", "nfs4"),
        ("/mnt/shared/deep/down", "nfs4"),
        ("/mnt/with space/x", "fuse.sshfs"),
        ("/mnt/twice", "cifs"),
        ("/mnt/shared/local/x", None),
        ("/mnt/shared2", None),
        ("/var/lib/cronlock", None),
    ],
)
def test_network_file_systems_are_refused(tmp_path: Path, place: str, kind: str | None) -> None:
    """A directory on a network file system is refused, by the table of mounts."""
    table = tmp_path / "mountinfo"
    table.write_text(_MOUNTS)
    if kind is None:
        FileStore(place, 1.0, mountinfo=str(table))
        return
    with pytest.raises(ConfigError, match=f"network file system \\({kind} on /mnt"):
        FileStore(place, 1.0, mountinfo=str(table))


def test_link_to_a_network_file_system_is_refused(tmp_path: Path) -> None:
    """A link on the way to the directory hides nothing."""
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 254:0 / / rw - ext4 /dev/vda rw\n23 22 0:9 / {tmp_path}/net rw - nfs filer:/x rw\n")
    (tmp_path / "net").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "net")
    with pytest.raises(ConfigError, match="nfs on"):
        FileStore(str(tmp_path / "link" / "cronlock"), 1.0, mountinfo=str(table))


def test_no_table_of_mounts(tmp_path: Path) -> None:
    """Where there is no such table nothing is refused."""
    FileStore(str(tmp_path), 1.0, mountinfo=str(tmp_path / "none"))
