"""Commands on many keys, on every backend that can list them."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path

import jsonschema

from .backends import RECORDING, SHOWN, Backend, on
from .looking import SCHEMA, call, shown
from .support import wait_until


@SHOWN
def test_status_of_all_keys(backend: Backend) -> None:
    """Without keys it lists all used keys, as JSON and as a table."""
    node = backend.node
    assert call(node, "status")[1] == "no key has been used yet\n"
    for key in ("billing", "a/b c%", "-rf"):
        assert node.run("--", "true", key=key).status == 0
    assert set(shown(node)) == {"billing", "a/b c%", "-rf"}
    status, out, err = call(node, "status")
    assert (status, err, len(out.splitlines())) == (0, "", 4)
    assert re.search(r"^billing +held +\d+s left +\S+ +\d+s ago: ok, ", out, re.M)
    assert "\x1b" not in out
    assert set(shown(node, "--", "b*", "-rf")) == {"billing", "-rf"}
    assert call(node, "status", "nope*") == (64, "", "cronlock: 'nope*': no key matches; see cronlock status\n")
    assert call(node, "status", "--state", "lapsed,running")[1] == "no key is lapsed or running\n"
    assert len(shown(node, "--state", "held")) == 3
    for options, runs in ((["--since", "1h"], 3), (["--since", "0"], 0), (["-n", "2", "b*", "a*"], 2)):
        document = json.loads(call(node, "history", "--json", *options)[1])
        jsonschema.validate(document, SCHEMA)
        assert len(document["runs"]) == runs
    node.environ["PYTHONIOENCODING"] = "latin-1"
    assert call(node, "status", "\u65e5")[:2] == (
        0,
        "KEY  STATE  TIME  HOST  LAST RUN\n?   free   -     -     none recorded\n",
    )
    assert call(node, "history", "*")[1].splitlines()[0].split() == ["STARTED", "TOOK", "KEY", "HOST", "ENDED"]


@on("memcached", "sqs")
def test_status_where_keys_cannot_be_listed(backend: Backend) -> None:
    """memcached and SQS cannot list keys: one line asks to name them."""
    for words in ((), ("jo*",)):
        status, out, err = call(backend.node, "status", *words)
        assert (status, out) == (64, "")
        assert "status: this backend cannot list keys; name them: cronlock status KEY..." in err


@on("file")
def test_the_watch_goes_on_without_the_backend(backend: Backend) -> None:
    """An error stands below the first line, above the last records, until the next answer."""
    node = backend.node
    assert node.run("--min-hold", 600, "--", "true").status == 0
    leases, away = Path(node.backend.partition("://")[2]), node.directory / "away"
    watch = node.spawn([sys.executable, "-m", "cronlock", "status", "--watch"])
    watch.wait_for("1 key: 1 held\n\nKEY")
    leases.rename(away)
    leases.touch()
    watch.wait_for("1 key: 1 held\ncronlock: ")
    assert re.search(r"1 held\ncronlock: .*\nKEY .*\njob +held ", watch.out)
    leases.unlink()
    away.rename(leases)
    seen = len(watch.out)
    wait_until(lambda: "1 key: 1 held\n\nKEY" in watch.out[seen:], "the next answer")
    watch.signal(signal.SIGINT)
    assert watch.wait() == -signal.SIGINT


#: Move the run of a key two hours into the past, by the server's clock.
_AGE = """
import sys, time
from cronlock.engines.registry import open_backend
from cronlock.lease import state
url, key = sys.argv[1:]
store = open_backend(url, 20.0).store
cell = store.read(key, time.monotonic() + 20)
known = state.decode(cell.data)
run = known.history()[0]
run = run.but(started_at=run.started_at - 7200, ended_at=run.ended_at - 7200)
aged = state.State(fence=known.fence).with_past(run)
assert store.swap(key, cell, state.encode(aged), lease=None, hold=0.0, deadline=time.monotonic() + 20)[0]
"""


@RECORDING
def test_forget_removes_unused_keys(backend: Backend) -> None:
    """Unused keys are removed here and on the server; held and fresh keys are kept, with a message."""
    node = backend.node
    for key, hold in (("old", 0), ("older", 0), ("fresh", 0), ("held", 600)):
        assert node.run("--min-hold", hold, "--", "true", key=key).status == 0
    for key in ("old", "older"):
        assert node.spawn([sys.executable, "-c", _AGE, node.backend, key]).wait() == 0
    seen = len([*node.state.glob("watermarks/*")])
    status, out, err = call(node, "forget", "old")
    assert (status, "cannot ask for confirmation" in err, out.splitlines()[1].split()[0]) == (64, True, "old")
    status, out, err = call(node, "forget", "--force", "old", "fresh", "held")
    assert (status, out.splitlines()[1].split()[0], len(out.splitlines())) == (1, "old", 3)
    assert re.fullmatch(r"fresh: kept: used .* ago\nheld: kept: held for another .*\n", err)
    assert len([*node.state.glob("watermarks/*")]) == seen - (node.backend[:4] != "file")
    if node.backend.startswith("memcached"):
        assert call(node, "history", "old")[1] == "no run of old on record\n"
    else:
        assert set(shown(node)) == {"older", "fresh", "held"}
        assert call(node, "forget", "olde") == (64, "", "cronlock: 'olde': no such key; did you mean 'older'?\n")
        assert call(node, "forget", "--older-than", "1d")[1] == "no key has been unused for 1d00h\n"
        assert call(node, "forget", "--force", "--older-than", "90m", "o*")[0] == 0
        assert set(shown(node)) == {"fresh", "held"}
    assert node.run("--min-hold", 0, "--", "echo", "again", key="old").out == "again\n"
    assert json.loads(call(node, "history", "--json", "old")[1])["runs"][0]["status"] == 0
