"""Messages of etcd's gateway, in JSON: numbers of 64 bits are strings, zeros are left out, bytes are base64."""

from __future__ import annotations

import binascii

from ...value import Value
from ..wire.stream import protocol_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The product, in messages.
PRODUCT = "etcd"


class KeyValue(Value):
    """One key as it was at some revision."""

    key: bytes
    value: bytes
    #: The revision at which it was written last.
    modified: int
    #: The id of the lease that it is attached to, 0 for none.
    lease: int


class Answer:
    """A part of an answer, by name; a missing field is 0 or empty."""

    __slots__ = ("_data", "_name", "repeated")

    def __init__(self, name: str, data: Any) -> None:
        """Raises BackendUnavailable unless `data` is an object of JSON."""
        #: True if an earlier attempt, on another server, may have taken effect.
        self.repeated = False
        self._name = name
        if not isinstance(data, dict):
            raise protocol_error(self._name, PRODUCT)
        self._data = data

    def number(self, name: str) -> int:
        """Return a number, which may be written as a text."""
        value = self._data.get(name, 0)
        if isinstance(value, str) and len(value) < 21 and value.removeprefix("-").isdecimal():
            value = int(value)
        if not isinstance(value, int) or not -(1 << 63) <= value < 1 << 64:
            raise protocol_error(self._name, PRODUCT)
        return value

    def text(self, name: str) -> str:
        """Return a text."""
        value = self._data.get(name, "")
        if not isinstance(value, str):
            raise protocol_error(self._name, PRODUCT)
        return value

    def truth(self, name: str) -> bool:
        """Return a truth value."""
        return self._data.get(name) is True

    def part(self, name: str) -> Answer:
        """Return an object within this one."""
        return Answer(self._name, self._data.get(name) or {})

    def parts(self, name: str) -> list[Answer]:
        """Return a list of objects within this one."""
        value = self._data.get(name) or []
        if not isinstance(value, list):
            raise protocol_error(self._name, PRODUCT)
        return [Answer(self._name, one) for one in value]

    def found(self) -> list[KeyValue]:
        """Return the keys that a range found."""
        return [self._key_value(one) for one in self.parts("kvs")]

    def found_by(self, number: int) -> list[KeyValue]:
        """Return the keys that the ranges of a transaction found, which had `number` parts."""
        parts = self.parts("responses")
        if len(parts) != number:
            raise protocol_error(self._name, PRODUCT)
        return [one for part in parts for one in part.part("response_range").found()]

    @property
    def revision(self) -> int:
        """The revision that the key space was at."""
        revision = self.part("header").number("revision")
        if revision <= 0:
            raise protocol_error(self._name, PRODUCT)
        return revision

    def _key_value(self, one: Answer) -> KeyValue:
        try:
            key, value = (binascii.a2b_base64(one.text(name)) for name in ("key", "value"))
        except ValueError:
            raise protocol_error(self._name, PRODUCT) from None
        if not key:
            raise protocol_error(self._name, PRODUCT)
        return KeyValue(key, value, one.number("mod_revision"), one.number("lease"))


def text_of(data: bytes) -> str:
    """Return `data` in base64."""
    return binascii.b2a_base64(data, newline=False).decode()


def behind(prefix: bytes) -> bytes:
    """Return the `range_end` of all keys that begin with `prefix`."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def put(key: bytes, value: bytes, lease: int = 0) -> dict[str, Any]:
    """Return the part that writes a key, to go with `lease`."""
    request = {"key": text_of(key), "value": text_of(value)}
    return {"request_put": {**request, "lease": str(lease)} if lease else request}


def get(key: bytes, *, below: bool = False) -> dict[str, Any]:
    """Return the part that reads a key, or all that begin with it."""
    return {"request_range": _range(key, below=below)}


def delete(key: bytes, *, below: bool = False) -> dict[str, Any]:
    """Return the part that deletes a key, or all that begin with it."""
    return {"request_delete_range": _range(key, below=below)}


def unchanged(key: bytes, modified: int) -> dict[str, Any]:
    """Return the condition that a key was last written at that revision; 0 for one that does not exist."""
    return {"key": text_of(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(modified)}


def unchanged_or_absent(key: bytes, modified: int) -> dict[str, Any]:
    """Return the condition that a key was last written at that revision, or does not exist; 0 for the latter alone."""
    return {"key": text_of(key), "target": "MOD", "result": "LESS", "mod_revision": str(modified + 1)}


def has_value(key: bytes, value: bytes) -> dict[str, Any]:
    """Return the condition that a key has that value: a server that lost state repeats revisions."""
    return {"key": text_of(key), "target": "VALUE", "result": "EQUAL", "value": text_of(value)}


def _range(key: bytes, *, below: bool) -> dict[str, str]:
    return {"key": text_of(key), "range_end": text_of(behind(key))} if below else {"key": text_of(key)}
