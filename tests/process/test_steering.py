"""Steering the fleet from outside: `cronlock pause`, `resume` and what `check` and `status` say of it."""

from __future__ import annotations

import json

from .looking import call, shown
from .places import VARIOUS, Place, on
from .places import place_fixture as place_fixture
from .places import servers_fixture as servers_fixture
from .test_commands import hold, let_go


@VARIOUS
def test_pause_and_resume(place: Place) -> None:
    """A run under way goes on, no other starts, whoever looks is told who paused it and why; then it runs again."""
    node = place.node
    holder = hold(node, "--min-hold", 0)
    status, out, err = call(node, "pause", "job", "--for", "1h", "--reason", "a\x1b[31m migration")
    assert (status, err) == (0, "")
    first, second = out.splitlines()
    assert first.startswith("job: paused by ")
    assert "\x1b" not in out
    assert second == f"  the run of pid {holder.pid} on {shown(node, 'job')['job']['run']['host']} goes on;" + (
        " `cronlock stop` ends it"
    )
    let_go(node, holder)
    found = shown(node, "job")["job"]
    assert (found["state"], found["pause"]["reason"]) == ("paused", "a\x1b[31m migration")
    assert 3500 < found["pause"]["until"] - found["pause"]["at"] < 3700
    skip = node.run("--min-hold", 0, "-v", "--skip-status", 9, "--", "echo", "ran")
    assert (skip.status, skip.out) == (9, "")
    assert "skipped: paused by" in skip.err
    assert node.run("--min-hold", 0, "--ignore-pause", "--", "echo", "ran").out == "ran\n"
    for asked, expected in ((), 0), (("--max-age", "0"), 1), (("--max-age", "0", "--paused", "critical"), 2):
        status, out, _ = call(node, "check", "job", *(asked or ("--max-age", "1h")))
        assert status == expected
        assert "paused by" in out
    assert call(node, "check", "job", "--max-age", "0", "--paused", "ok")[0] == 0
    assert "\ncronlock_paused{" in call(node, "status", "job", "--prometheus")[1]
    assert call(node, "resume", "job")[:2][0] == 0
    assert call(node, "resume", "job")[:2] == (1, "job: was not paused\n")
    assert node.run("--min-hold", 0, "--", "echo", "ran").out == "ran\n"


@on("redis")
def test_pause_of_many(place: Place) -> None:
    """Patterns and --all name keys that were used; a bad word is one line."""
    node = place.node
    for key in ("reports.daily", "reports.weekly", "billing"):
        assert node.run("--", "true", key=key).status == 0
    assert [line.split(":")[0] for line in call(node, "pause", "reports.*", "new")[1].splitlines()] == [
        "reports.daily",
        "reports.weekly",
        "new",
    ]
    assert call(node, "resume", "--all")[1].count(": resumed, which") == 3
    assert call(node, "resume", "--all")[0] == 1
    for words in (["pause"], ["pause", "--all", "x"], ["pause", "none*"], ["pause", "x", "--for", "0"], ["resume"]):
        status, out, err = call(node, *words)
        assert (status, out, len(err.splitlines())) == (64, "", 1)


@on("memcached", "sqs")
def test_what_cannot_be_paused(place: Place) -> None:
    """Where nothing is kept, or not for ever, that is said."""
    status, out, err = call(place.node, "pause", "job")
    assert (status, out, len(err.splitlines())) == (64, "", 1)


@on("file")
def test_a_pause_that_is_over(place: Place) -> None:
    """It ends by itself, and the outcome log says why a run was skipped before."""
    node = place.node
    assert call(node, "pause", "job", "--for", "3")[0] == 0
    line = json.loads(node.run("--log-format", "json", "--", "true").messages[0])
    assert (line["why"], line["outcome"]) == ("paused", "skipped")
    assert node.run("--wait", 60, "--", "echo", "ran").out == "ran\n"
