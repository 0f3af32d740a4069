"""Bugs put into the program's own code on purpose: the explorer must find each one.

A bug is an expression or a statement of one function that is replaced, found by its text and not by its line, so
that it fails with LookupError when the code it was made for is gone.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any, NamedTuple
from unittest import mock

from cronlock.lease import leases, rules
from cronlock.run import acquisition, holding

from . import cases
from .cases import Case


class Bug(NamedTuple):
    """One bug: in `function` of `module`, `right` stands as `wrong`. `case` shows it with so many faults."""

    name: str
    module: ModuleType
    function: str
    right: str
    wrong: str
    case: Case
    faults: int


def _bug(name: str, where: str, right: str, wrong: str, case: Case, faults: int) -> Bug:
    module, function = where.split(":")
    modules = {"rules": rules, "leases": leases, "acquisition": acquisition, "holding": holding}
    return Bug(name, modules[module], function, right, wrong, case, faults)


BUGS: tuple[Bug, ...] = (
    _bug(
        "a run that was made to end by force goes on",
        "rules:is_run_of",
        "state.run is not None and state.run.owner == owner and (state.run.outcome != RELEASED)",
        "state.run is not None and state.run.owner == owner",
        cases.forced,
        0,
    ),
    _bug(
        "a lease is in nobody's way",
        "rules:refuse",
        "if seen.lease: return Conflict(HELD, remaining=seen.lease, run=state.run, fence=fence)",
        "pass",
        cases.waits,
        0,
    ),
    _bug("a hold is in nobody's way", "rules:refuse", "seen.hold", "0.0", cases.by_hand, 0),
    _bug("a hold cannot be ignored", "rules:refuse", "claim.ignore_hold", "False", cases.by_hand, 0),
    _bug(
        "who asks again is refused by its own lease", "rules:refuse", "mine and seen.lease", "False", cases.two_runs, 1
    ),
    _bug(
        "its own hold is in a run's way",
        "rules:refuse",
        "not (claim.ignore_hold or mine)",
        "not claim.ignore_hold",
        cases.alone,
        2,
    ),
    _bug(
        "a standby heeds the hold of the dead",
        "rules:refuse",
        "tick == _OPEN",
        "True",
        cases.dead_taken_over,
        1,
    ),
    _bug(
        "a standby for a tick that nobody began heeds no hold",
        "rules:refuse",
        "heeds_hold and tick == _OPEN",
        "False",
        cases.by_hand_not_started,
        0,
    ),
    _bug(
        "a standby takes any key",
        "rules:refuse",
        "tick == _DONE",
        "False",
        cases.run_and_standby,
        0,
    ),
    _bug(
        "a tick that is done is taken over",
        "rules:_tick",
        "_BEGUN if run.undone else _DONE",
        "_BEGUN",
        cases.run_and_standby,
        0,
    ),
    _bug(
        "a tick that is not done is not taken over",
        "rules:_tick",
        "_BEGUN if run.undone else _DONE",
        "_DONE",
        cases.long_run_and_standby,
        1,
    ),
    _bug(
        "who began nothing decides about a tick",
        "rules:_tick",
        "run.outcome != NOT_STARTED",
        "True",
        cases.late_word_and_standby,
        1,
    ),
    _bug(
        "a tick that was given back is nobody's",
        "rules:_tick",
        "_OPEN if given_back else _DONE",
        "_DONE",
        cases.given_up,
        1,
    ),
    _bug(
        "a tick counts as given back though another ran since",
        "rules:_tick",
        "run is None or (run.fence or 0) < awaited",
        "True",
        cases.given_up_and_run,
        1,
    ),
    _bug(
        "a server that forgot is not noticed",
        "rules:is_forgotten",
        "claim.sight is not None and state.fence < max(1, claim.sight.floor)",
        "False",
        cases.forgetful,
        1,
    ),
    _bug("a server that forgot is not waited for", "rules:doubt", "claim.doubt", "0.0", cases.forgetful, 1),
    _bug(
        "fences begin anew on a server that forgot",
        "rules:grant",
        "sight.floor + 1 if sight is not None else 0",
        "0",
        cases.forgetful,
        1,
    ),
    _bug("a fence is given twice", "rules:grant", "state.fence + 1", "max(1, state.fence)", cases.waits, 0),
    _bug(
        "the death of a run is not recorded",
        "rules:grant",
        "state = state.with_past(states.cut_off(state.run))",
        "pass",
        cases.long_run_and_standby,
        1,
    ),
    _bug(
        "a run that ended stays the present one", "rules:end", "state.but(run=None)", "state", cases.run_and_standby, 0
    ),
    _bug(
        "the late word of a run is not heard",
        "rules:end",
        "run is not None and run.owner == owner and (run.outcome == DIED)",
        "False",
        cases.late_word,
        1,
    ),
    _bug(
        "giving back restores who spoke in the meantime",
        "rules:give_back",
        "newest.outcome not in (DIED, RELEASED)",
        "False",
        cases.late_word_given_up,
        2,
    ),
    _bug(
        "giving back leaves a past run twice",
        "rules:give_back",
        "state.past[1:] + replaced.past[len(state.past) - 1:]",
        "state.past",
        cases.dead_given_up,
        2,
    ),
    _bug(
        "a forced release leaves no mark",
        "rules:force_release",
        "state.but(run=run.but(outcome=RELEASED))",
        "state",
        cases.forced_and_standby,
        0,
    ),
    _bug(
        "a forced release takes the key from anybody",
        "rules:force_release",
        "run.owner != owner",
        "False",
        cases.forced_late,
        1,
    ),
    _bug(
        "a paused key is granted",
        "rules:refuse",
        "state.paused is not None and (not claim.ignore_pause)",
        "False",
        cases.paused,
        0,
    ),
    _bug("a pause cannot be ignored", "rules:refuse", "not claim.ignore_pause", "True", cases.paused_by_hand, 0),
    _bug(
        "a standby takes over though the key is paused",
        "rules:refuse",
        "not claim.ignore_pause",
        "not (claim.ignore_pause or claim.standby_for)",
        cases.paused_and_standby,
        1,
    ),
    _bug(
        "a pause is over early",
        "rules:pause_left",
        "state.paused.until - now",
        "state.paused.until - now - 2.0",
        cases.paused_for_a_time,
        0,
    ),
    _bug(
        "a run by hand ends a pause",
        "rules:grant",
        "state.paused if claim.ignore_pause else None",
        "None",
        cases.paused_by_hand,
        0,
    ),
    _bug(
        "a key that is resumed stays paused",
        "rules:resume",
        "state.but(fence=max(state.fence + 1, seen.floor), paused=None)",
        "state",
        cases.paused,
        0,
    ),
    _bug(
        "a pause ends the lease",
        "leases:Leases._tell",
        "self._swap(key, cell, told, None, 0.0, deadline)",
        "self._swap(key, cell, told, 0.0, 0.0, deadline)",
        cases.paused_and_standby,
        0,
    ),
    _bug("a grant that was refused counts", "leases:Leases.acquire", "if done: ...", "if True: ...", cases.two_runs, 0),
    _bug(
        "a renewal does not look whose lease it is",
        "leases:Leases.renew",
        "held is not None and rules.is_run_of(held.state, held.owner)",
        "held is not None",
        cases.forced,
        0,
    ),
    _bug(
        "a late word ends another's lease", "leases:Leases.release", "0.0 if ours else None", "0.0", cases.late_word, 1
    ),
    _bug("giving up leaves the lease", "leases:Leases.abandon", "0.0", "None", cases.given_up_and_run, 1),
    _bug(
        "giving up lets a late request take the key",
        "leases:Leases.abandon",
        "not any((one.seen.data == cell.data for one in asked.attempts))",
        "True",
        cases.given_up_at_once,
        1,
    ),
    _bug(
        "giving up ends a hold that was ignored",
        "leases:Leases.abandon",
        "before",
        "NO_HOLD",
        cases.by_hand_given_up,
        1,
    ),
    _bug(
        "who asked twice does not know what it replaced",
        "leases:Leases.acquire",
        "asked.before(state) if rules.is_run_of(state, claim.owner) else (cell, state)",
        "(cell, state)",
        cases.given_up_later,
        2,
    ),
    _bug(
        "a lease counts from the answer",
        "acquisition:Acquisition._granted",
        "Holding(self.access, grant, self._first_sent)",
        "Holding(self.access, grant, self.access.clock.now())",
        cases.slow_reply,
        1,
    ),
    _bug(
        "a renewal counts from the answer",
        "holding:Holding.renew",
        "self._count_from(sent)",
        "self._count_from(clock.now())",
        cases.slow_renewal,
        1,
    ),
    _bug(
        "a hold counts from long before the run",
        "acquisition:Acquisition._send_in_time",
        "clock.now() - sent <= limit",
        "True",
        cases.stopped,
        1,
    ),
    _bug(
        "a lost reply is not followed up",
        "acquisition:Acquisition._send",
        "self._in_doubt = True",
        "pass",
        cases.given_up_at_once,
        1,
    ),
)


class _Replace(ast.NodeTransformer):
    def __init__(self, right: str, wrong: str) -> None:
        self._right, self._wrong = ast.parse(right).body[0], ast.parse(wrong).body[0]
        # The body of `if NAME: ...` stands for whatever is there.
        self._head_only = right.endswith(": ...")
        self._text = (
            ast.unparse(self._right.test)
            if isinstance(self._right, ast.If) and self._head_only
            else ast.unparse(self._right)
        )
        self.found = 0

    def visit(self, node: ast.AST) -> Any:
        node = self.generic_visit(node)
        if self._head_only:
            if isinstance(node, ast.If) and ast.unparse(node.test) == self._text:
                self.found += 1
                assert isinstance(self._wrong, ast.If)
                node.test = self._wrong.test
            return node
        if (
            isinstance(node, (ast.expr, ast.stmt))
            and not isinstance(node, ast.Expr)
            and not _is_target(node)
            and ast.unparse(node) == self._text
        ):
            self.found += 1
            wrong = self._wrong
            return wrong.value if isinstance(node, ast.expr) and isinstance(wrong, ast.Expr) else wrong
        return node


def _is_target(node: ast.AST) -> bool:
    return isinstance(getattr(node, "ctx", None), ast.Store)


def broken(bug: Bug) -> FunctionType:
    """Return the function of a bug with the bug in it. Raises LookupError if it is not as the bug expects."""
    container: Any = bug.module
    *outer, name = bug.function.split(".")
    for part in outer:
        container = getattr(container, part)
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(container, name))))
    replace = _Replace(bug.right, bug.wrong)
    # Behind the flag that makes annotations text, as in the module itself.
    tree = ast.fix_missing_locations(replace.visit(tree))
    if not replace.found:
        raise LookupError(f"{bug.name}: {bug.function} has no {bug.right}")
    made: dict[str, Any] = {}
    flags = __import__("__future__").annotations.compiler_flag
    exec(compile(tree, f"<{bug.name}>", "exec", flags=flags), vars(bug.module), made)  # the program's own text
    function: FunctionType = made[name]
    return function


@contextmanager
def put_in(bug: Bug) -> Iterator[None]:
    """Return a context in which the program has the bug."""
    container: Any = bug.module
    *outer, name = bug.function.split(".")
    for part in outer:
        container = getattr(container, part)
    with mock.patch.object(container, name, broken(bug)):
        yield
