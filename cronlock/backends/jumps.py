"""Whether the clock of a server that judges leases goes as ours does."""

from __future__ import annotations

# The server's clock and ours may differ by so much between two answers, besides the time on the way.
_JUMP = 1.0


class Jumps:
    """Compares how far two clocks went between one answer to an owner and the next."""

    __slots__ = ("_name", "_seen")

    def __init__(self, name: str) -> None:
        """`name` is what messages call the server."""
        self._name = name
        # Owner, before sending, after receiving (both our clock) and the server's time.
        self._seen: tuple[str, float, float, float] | None = None

    def see(self, owner: str, sent: float, received: float, server: float) -> str | None:
        """Note the server's time, in seconds, of an answer that was asked for at `sent` and came at `received`.

        Returns a notice when it went otherwise than our own since the last answer to this owner.
        """
        seen = self._seen
        self._seen = (owner, sent, received, server)
        if seen is None or seen[0] != owner:
            return None
        _, sent_before, received_before, server_before = seen
        advance = server - server_before
        jump = max(0.0, advance - (received - sent_before)) or min(0.0, advance - (sent - received_before))
        if abs(jump) <= _JUMP:
            return None
        return (
            f"{self._name}: the server's clock jumped by {jump:+.1f} s during this run"
            " (or another server took over); leases are judged by it: let it be slewed, not set"
        )
