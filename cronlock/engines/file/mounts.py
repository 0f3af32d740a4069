"""Which directory a URL names, and whether it is on a network: locks there do not end with a machine's death."""

from __future__ import annotations

from ...errors import ConfigError
from ...system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..url import URL

# fmt: off
_NETWORK_FILE_SYSTEMS = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
    "fuse.ceph", "fuse.ceph-fuse", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.mfs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse",
))
# fmt: on


def refuse_network(directory: str, mountinfo: str) -> None:
    """Raise ConfigError when `directory` is on a network file system, going by the table of mounts."""
    try:
        with open(mountinfo, "rb", buffering=0) as file:
            table = file.readall().decode("utf-8", "surrogateescape")
    except OSError:
        return  # Not Linux.
    mounts = []
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) > 4:  # Others are not of the form that proc(5) describes.
            mounts.append((_unescape_mount(fields[4]), after.split(" ")[0]))
    if _NETWORK_FILE_SYSTEMS.isdisjoint(kind for _, kind in mounts):
        return
    # As written first: following links on a server that does not answer would never return.
    _refuse_network_mount(directory, directory, mounts)
    _refuse_network_mount(directory, os.path.realpath(directory), mounts)


def _refuse_network_mount(directory: str, path: str, mounts: list[tuple[str, str]]) -> None:
    # Of two on the same mount point the later one counts, which covers the other.
    over = [(len(point), number, point, kind) for number, (point, kind) in enumerate(mounts) if _is_under(path, point)]
    _, _, point, kind = max(over, default=(0, 0, "", ""))
    if kind in _NETWORK_FILE_SYSTEMS:
        raise ConfigError(
            f"file://{directory} is on a network file system ({kind} on {point}), whose locks are no leases; "
            f"name a local directory, or a backend on the network"
        )


def _is_under(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _unescape_mount(text: str) -> str:
    for code, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(code, character)
    return text


def directory_of(url: URL) -> str:
    """Return the directory that a ``file:`` URL names; raise ConfigError if it names more, or none."""
    if url.hosts or url.user or url.password:
        raise ConfigError("file://: a host is not supported; write three slashes, such as file:///var/lib/cronlock")
    url.take_params(())
    if not url.path.strip("/"):
        raise ConfigError("file://: no directory; write one such as file:///var/lib/cronlock")
    if "\0" in url.path:
        raise ConfigError("file://: the path has a NUL; name a directory")
    # One slash at the beginning: two are not the same to normpath.
    path = "/" + url.path.strip("/")
    return os.path.normpath(path) if "//" in path or "/." in path else path
