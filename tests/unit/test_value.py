"""Plain value classes: given by position or name, copied with changes, compared by their fields."""

from __future__ import annotations

import pytest

from cronlock.value import Value


class Point(Value):
    """Two fields, one with a default."""

    x: int
    y: int = 5


class Named(Point):
    """One more."""

    name: str = "p"


def test_fields_are_given_by_position_or_name() -> None:
    """Those of the base come first."""
    assert Point(1) == Point(x=1, y=5) == Point(1, 5)
    named = Named(1, 2, "q")
    assert (named.x, named.y, named.name) == (1, 2, "q")
    assert Named(1).name == "p"
    assert repr(named) == "Named(x=1, y=2, name='q')"


def test_copies_with_changes() -> None:
    """The original stays."""
    named = Named(1, name="q")
    changed = named.but(y=9)
    assert (type(changed), changed) == (Named, Named(1, 9, "q"))
    assert named.y == 5


def test_what_is_equal() -> None:
    """Values of one class with equal fields; none can be a key, since fields can be set."""
    point = Point(1)
    assert point != Point(2)
    assert point != Named(1)
    point.x = 2
    assert point == Point(2)
    with pytest.raises(TypeError):
        hash(point)


def test_classes_have_slots() -> None:
    """No other attribute can be set."""
    with pytest.raises(AttributeError):
        Named(1).z = 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "named", "said"),
    [((), {}, "x is missing"), ((), {"y": 1}, "x is missing"), ((1,), {"z": 1}, "z"), ((1, 2, 3), {}, "too many")],
)
def test_wrong_fields(given: tuple[int, ...], named: dict[str, int], said: str) -> None:
    """Wrong fields are named in the error."""
    with pytest.raises(TypeError, match=f"Point: .*{said}"):
        Point(*given, **named)
