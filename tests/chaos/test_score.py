"""The small changes of the mutation score: which there are, and that what is said of them still fits the sources."""

from __future__ import annotations

import pytest

from chaos.mutants import equivalent, score
from chaos.mutants.operators import mutants


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("a < b", ["a >= b"]),
        ("a is not None", ["a is None"]),
        ("not a", [" a"]),
        ("(a or b) and c not in d", ["(a and b) and c not in d", "(a or b) or c not in d", "(a or b) and c in d"]),
        ("max(0.0, a - 1)", ["min(0.0, a - 1)", "max(1.0, a - 1)", "max(0.0, a + 1)", "max(0.0, a - 2)"]),
        ("f(a, flag=True)", ["f(a, flag=False)"]),
        ("'ö' + a * 3", ["'ö' + a / 3", "'ö' + a * 6"]),
        ("f'{a + 1}'", []),
        ("assert a > 1", []),
        ("def f(a: int = 5) -> 'int | None': ...", ["def f(a: int = 10) -> 'int | None': ..."]),
    ],
)
def test_one_change_at_a_time(line: str, changed: list[str]) -> None:
    """Comparisons, sums, connectives and numbers change; messages, assertions and annotations do not."""
    assert [mutant.source for mutant in mutants(line)] == changed


@pytest.mark.parametrize("file", score.TESTS)
def test_what_is_equivalent_is_a_change_of_today(file: str) -> None:
    """An entry whose line is gone says nothing any more; and each file's tests are there."""
    changes = list(mutants(score.source_of(file)))
    for before, part in equivalent.entries(file):
        assert any(one.before == before and part in one.after for one in changes), (before, part)
    for name in score.TESTS[file]:
        assert (score.ROOT / f"tests/{name}.py").exists()
