"""The fields of a binary message, read one behind the other."""

from __future__ import annotations


class Fields:
    """A message, read from its start. Raises ValueError for a field that is cut off, or none."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __len__(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        start, self._at = self._at, self._at + length
        if length < 0 or self._at > len(self._data):
            raise ValueError("cut off")
        return self._data[start : self._at]

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self))
