"""Plain values: the base of classes with slots and a constructor from annotations, and whole numbers in text.

`dataclasses` would do the same and takes 14 ms to import, as long as a bare start of the interpreter.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from typing_extensions import dataclass_transform

    _V = TypeVar("_V", bound="Value")
else:

    def dataclass_transform(**_: object) -> Any:
        """Return a decorator that does nothing: only type checkers read it."""
        return lambda one: one


def digits(text: str | bytes, most: int = 18) -> int | None:
    """Return the number that `text` has in at most so many ASCII digits; None for any other text.

    int() would take signs, spaces, underscores and the digits of other scripts, too.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= most else None


@dataclass_transform()
class _Fields(type):
    """Makes the annotations of a class its slots, and what is assigned to them its defaults."""

    if TYPE_CHECKING:
        _fields: tuple[str, ...]
        _defaults: dict[str, Any]

    def __new__(meta, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _Fields:
        own = tuple(body.get("__annotations__", ()))
        defaults = {field: body.pop(field) for field in own if field in body}
        inherited = bases[0] if bases else None
        body["__slots__"] = own
        body["_fields"] = (*getattr(inherited, "_fields", ()), *own)
        body["_defaults"] = {**getattr(inherited, "_defaults", {}), **defaults}
        return super().__new__(meta, name, bases, body)


class Value(metaclass=_Fields):
    """A class of plain fields, given by position or by name; equal if all its fields are."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Raises TypeError for a field that is missing or unknown."""
        cls = type(self)
        if given:
            if len(given) > len(cls._fields):
                raise TypeError(f"{cls.__name__}: too many values")
            named = {**named, **dict(zip(cls._fields, given))}
        left = len(named)
        for field in cls._fields:
            if field in named:
                setattr(self, field, named[field])
                left -= 1
            elif field in cls._defaults:
                setattr(self, field, cls._defaults[field])
            else:
                raise TypeError(f"{cls.__name__}: {field} is missing")
        if left:
            raise TypeError(f"{cls.__name__}: unknown: {', '.join(sorted(set(named) - set(cls._fields)))}")

    def but(self: _V, **changes: Any) -> _V:
        """Return a copy with `changes`."""
        cls = type(self)
        return cls(**{**{field: getattr(self, field) for field in cls._fields}, **changes})

    def __eq__(self, other: object) -> bool:
        """Return True if both are of one class and all fields are equal."""
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in type(self)._fields)

    __hash__ = None  # type: ignore[assignment]  # fields can be set

    def __repr__(self) -> str:
        """Return what would make this value."""
        fields = ", ".join(f"{field}={getattr(self, field, None)!r}" for field in type(self)._fields)
        return f"{type(self).__name__}({fields})"
