"""The keys below ``held/``: each is attached to a lease of etcd's, which deletes it at its end.

This module chooses the id of each lease, so a request for one may be repeated. A lease of an earlier attempt is never
relied on, since its time counts from then. An unused lease lapses by itself.
"""

from __future__ import annotations

import time

from ...errors import BackendUnavailable, ForeignValue
from ...system import os
from ...value import Value
from .api import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .api import Cluster
    from .messages import KeyValue

_MAGIC = "cronlock=2"
#: An unused lease that would last longer (seconds) is revoked.
_LINGERING = 3600.0


class Held(Value):
    """A key below ``held/``."""

    key: bytes
    #: The id of the server's lease.
    lease: int
    #: The requested length in seconds.
    length: float
    #: The end by the clock of the machine that requested it, for people; the server's lease decides.
    until_at: float
    #: The revision at which it was written last.
    modified: int = 0

    @property
    def remaining(self) -> float:
        """Seconds until it is over, as far as two machines' clocks can tell; at least 1."""
        return min(max(1.0, self.until_at - time.time()), max(1.0, self.length))

    @property
    def text(self) -> bytes:
        """The key's value."""
        return f"{_MAGIC}\nlength={self.length:.3f}\nuntil_at={self.until_at:.3f}\n".encode()


def read(found: KeyValue) -> Held:
    """Return the lease or hold in a key; raise ForeignValue if it is not cronlock's."""
    first, *lines = found.value.decode("utf-8", "replace").split("\n")
    fields = dict(line.partition("=")[::2] for line in lines)
    try:
        length, until_at = float(fields["length"]), float(fields["until_at"])
    except (KeyError, ValueError):
        raise ForeignValue("not a lease or a hold of cronlock") from None
    # Without a lease of etcd's it would never end.
    if first != _MAGIC or not found.lease or not 0 <= length < 1e15 or not abs(until_at) < 1e15:
        raise ForeignValue("not a lease or a hold of cronlock")
    return Held(found.key, found.lease, length, until_at, found.modified)


def grant(cluster: Cluster, key: bytes, seconds: float, slack: float, deadline: float) -> Held:
    """Grant a lease of etcd's of `seconds` and `slack`; return the key to attach to it."""
    lease, whole = int.from_bytes(os.urandom(8), "big") >> 1 or 1, -int(-(seconds + slack) // 1)
    try:
        answer = cluster.ask("/v3/lease/grant", {"ID": str(lease), "TTL": str(whole)}, deadline)
    except Refusal as error:
        if not error.lease_exists:
            raise
        # An earlier attempt made it.
    else:
        if answer.number("ID") != lease or answer.number("TTL") < whole:
            raise BackendUnavailable(f"{cluster.name}: granted another lease than was asked for")
    return Held(key, lease, seconds, time.time() + seconds)


def left(cluster: Cluster, held: Held, deadline: float) -> float:
    """Return an upper bound of what is left by the server's clock; above 0: only a missing key means it is over."""
    whole = cluster.ask("/v3/lease/timetolive", {"ID": str(held.lease)}, deadline).number("TTL")
    return max(0.1, min(whole + 1.0, held.length))


def forget(cluster: Cluster, useless: list[Held], deadline: float) -> None:
    """Revoke leases that no key is attached to any more, if they would last for long."""
    for one in useless:
        if one.length > _LINGERING:
            try:
                cluster.ask("/v3/lease/revoke", {"ID": str(one.lease)}, deadline)
            except BackendUnavailable:
                return  # Then it lapses.
