"""S3: one object for each key, read by GET, swapped by a PUT that is conditional on the object's ETag.

The content begins with a line of the store's own that has a random part, so no two contents, and no two ETags, are the
same. An object holds the key's fence, so it is deleted only if it has long been unused.
S3 reads the last write (since 2020) and keeps conditions (since 2024). Other products' stores are tested for that
before the first object is made.

`wire.dated` explains by which clock ends are written and judged.
"""

from __future__ import annotations

from ...errors import Forbidden, ForeignValue
from ..wire import aws
from ..wire.dated import LONGEST, DatedCell, DatedStore, time_of
from .objects import Objects, check_bucket, prefix_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.store import Cell
    from ..url import URL

_MAGIC = "cronlock-s3=1"


def open_store(url: URL, timeout: float) -> S3Store:
    """Return the store of a ``s3://BUCKET/PREFIX`` URL; raise ConfigError for a bad one."""
    url.take_params((*aws.PARAMS, "create"))
    url.forbid_credentials("credentials come from the environment, a profile or a role")
    bucket = url.need_name(f"name one bucket: {url.scheme}://BUCKET/PREFIX")
    check_bucket(str(url), bucket)
    return S3Store(Objects(url, bucket, prefix_of(url), timeout), str(url), create=url.flag("create"))


class S3Store(DatedStore):
    """Cells below one prefix of one bucket."""

    def __init__(self, objects: Objects, shown: str, *, create: bool = False) -> None:
        """`shown` begins every error; see `open_store` for the rest."""
        super().__init__(objects, shown, create=create)
        # A bucket's lifecycle rule may remove objects that were not written for longer; see the manual.
        self.traits = self.traits.but(longest_hold=LONGEST)
        self.objects = objects

    def fetch(self, key: str, deadline: float) -> DatedCell:
        """Return the object's cell."""
        return self._decoded(key, self.objects.get(object_name(key), deadline))

    def make(self, deadline: float) -> bool:
        """Make the bucket."""
        return self.objects.create(deadline)

    def put(self, key: str, seen: DatedCell, cell: DatedCell, deadline: float) -> tuple[bool, DatedCell]:
        """Put `cell` in the place of what `seen` shows, by a conditional PUT; see `Objects.put`."""
        if seen.version is None:
            self.objects.trust(deadline)
        data = encode(cell)
        tag = self.objects.put(object_name(key), data, seen.version, deadline)
        if tag is None:
            found = self.objects.get(object_name(key), deadline)
            if found is None or found[0] != data:
                return False, self._decoded(key, found)
            tag = found[1]  # The request came in twice.
        cell.version = tag
        return True, cell

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the object if it is still as `seen`, and the store keeps If-Match in deletes."""
        if self.read(key, deadline).version != seen.version:
            return False
        if seen.version is None:
            return True
        try:
            if not self.objects.deletes_with_care(deadline):
                raise Forbidden(f"{self._shown}: this store ignores If-Match in deletes, so no record can be removed")
            return self.objects.delete(object_name(key), seen.version, deadline)
        except aws.Denied:
            raise Forbidden(f"{self._shown}: no s3:DeleteObject") from None

    def location(self, key: str) -> str:
        """Return what messages call the cell."""
        return f"{self._shown}: object {self.objects.prefix + object_name(key)!a}"

    def keys(self) -> Iterator[str]:
        """List the keys that have an object."""
        return (key for key in map(key_of, self.objects.names()) if key)

    def _decoded(self, key: str, found: tuple[bytes, str] | None) -> DatedCell:
        try:
            return decode(*found) if found else DatedCell()
        except ForeignValue as error:
            raise ForeignValue.at(self.location(key), error) from None


def object_name(key: str) -> str:
    """Return the name of a key's object below the prefix: at most 800 bytes, without a slash, never hidden."""
    name = key.replace("%", "%25").replace("/", "%2F")
    return "%2E" + name[1:] if name.startswith(".") else name


def key_of(name: str) -> str:
    """Undo `object_name`; return nothing for the name of no key."""
    key = name.replace("%2E", ".", 1) if name.startswith("%2E") else name
    key = key.replace("%2F", "/").replace("%25", "%")
    return key if object_name(key) == name else ""


def encode(cell: DatedCell) -> bytes:
    """Return the content of a cell's object: layout, version, ends of lease and hold, ttl; then the record."""
    ends = (f"{end:.3f}" for end in (cell.lapses_at, cell.hold_until, cell.ttl))
    return "\t".join((_MAGIC, str(cell.version), *ends)).encode("ascii") + b"\n" + (cell.data or b"")


def decode(content: bytes, tag: str) -> DatedCell:
    """Undo `encode`, for an object whose ETag is `tag`; raise ForeignValue for anything else."""
    line, end, data = content.partition(b"\n")
    try:
        magic, _, *ends = line.decode("ascii").split("\t")
        lapses_at, hold_until, ttl = map(time_of, ends)
        if magic != _MAGIC or not end:
            raise ValueError("it begins in another way")
    except ValueError:
        raise ForeignValue("not a record of cronlock") from None
    return DatedCell(data=data, version=tag, lapses_at=lapses_at, hold_until=hold_until, ttl=ttl)
