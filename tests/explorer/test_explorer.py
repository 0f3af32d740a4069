"""The rules of a lease keep their promises whatever happens, and a rule that is broken on purpose is found."""

from __future__ import annotations

import pytest

from explorer import cases, search
from explorer.bugs import BUGS
from explorer.planting import Bug, put_in
from explorer.search import Case

#: More than any of these needs today.
_MOST_FOR_A_BUG = 20_000


@pytest.mark.parametrize(
    ("case", "faults"), [pytest.param(case, few, id=case.__name__) for case, few, _ in cases.SMALL]
)
def test_promises_are_kept(case: Case, faults: int) -> None:
    """Through all interleavings of a small case with few faults no promise is broken."""
    with search.prepared():
        try:
            assert search.exhaust(case, faults) > 0
        except search.Found as found:
            pytest.fail("\n".join(found.story))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.__name__) for case in cases.LARGE])
def test_promises_are_kept_in_larger_cases(case: Case) -> None:
    """Nor through random ones of larger cases."""
    with search.prepared():
        try:
            assert len(search.sample(case, 4, 300, seed=1)) > 100
        except search.Found as found:
            pytest.fail("\n".join(found.story))


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_bugs_are_found(bug: Bug) -> None:
    """Each rule that is left out, or turned round, breaks a promise in some interleaving, which is told as a story."""
    with search.prepared(), put_in(bug):
        found = search.shortest(bug.case, bug.faults, _MOST_FOR_A_BUG)
    assert found is not None
    assert found.story[-1].startswith("VIOLATION: ")
