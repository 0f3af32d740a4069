"""S3: the contract on two emulators that keep conditions, and what is its own: ETags, buckets, stores that are none.

moto and MiniStack both compare and write in one step (moto one request at a time, see `labs.servers.aws`), answer 412
where a condition does not hold and 404 where there is no object to match, and take what comes in twice as two.
Opt-in on AWS: CRONLOCK_TEST_S3=s3://BUCKET/PREFIX?region=R, a bucket that is there.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from cronlock.engines.s3.objects import NO_TAG, PROOF
from cronlock.engines.s3.store import S3Store, key_of, object_name
from cronlock.errors import BackendUnavailable, ConfigError, Forbidden, ForeignValue
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HISTORY, Grant
from cronlock.testing import LONG, StoreContract, fresh_key, granted, make_claim, make_ending
from cronlock.testing.cells import read
from cronlock.testing.cells import try_swap as swap
from cronlock.testing.hooks import NASTY_KEYS
from labs.servers.aws_gate import Gate

from ..faults import Costs, Doubles, StoreFaults, Strangers, URLs
from ..wire.aws_suite import DatedStoreSuite
from .s3_nodes import S3Hooks, a_store, bucket, content, overwrite


class TestS3(StoreContract):
    """One bucket."""

    @pytest.fixture
    def hooks(self, swift_hooks: S3Hooks) -> S3Hooks:
        """Need not wait, unless it is AWS's."""
        return swift_hooks


class TestStore(DatedStoreSuite):
    """The same as DynamoDB's."""


class TestStrangers(Strangers, URLs):
    """Foreign objects, and a bucket that is missing or wrong."""

    foreign: ClassVar[list[tuple[bytes, str]]] = [
        (b"", "not a record of cronlock"),
        (b"hello", "not a record of cronlock"),
        (b"cronlock-s3=2\tx\t0\t0\t0\ncronlock=2\n", "not a record of cronlock"),
        (b"cronlock-s3=1\tx\t0\t0\ncronlock=2\n", "not a record of cronlock"),
        (b"cronlock-s3=1\tx\t-1\t0\t0\ncronlock=2\n", "not a record of cronlock"),
        (b"cronlock-s3=1\tx\t0\t0\t0", "not a record of cronlock"),
        (b"\xff\xfe\n", "not a record of cronlock"),
    ]
    bad_url: ClassVar[list[tuple[str, str]]] = [
        ("s3://", "name one bucket"),
        ("s3://ab", "3 to 63"),
        ("s3://Bucket", "3 to 63"),
        ("s3://-bucket", "3 to 63"),
        ("s3://bucket:80", "name one bucket"),
        ("s3://bucket,other", "name one bucket"),
        ("s3://user:secret@bucket", "user and password are not supported"),
        ("s3://bucket--use1-az4--x-s3", "a directory bucket"),
        ("s3://mfzwi23gnjvgw.mrap", "two regions can grant one key"),
        ("s3://bucket/a//b", "the prefix behind the bucket"),
        ("s3://bucket/../a", "the prefix behind the bucket"),
        ("s3://bucket/a%20b", "the prefix behind the bucket"),
        (f"s3://bucket/{'a' * 201}", "the prefix behind the bucket"),
        ("s3://bucket?create=1", "create=yes"),
        ("s3://bucket?prefix=a", "unknown parameter"),
        ("s3://bucket?region=EU%20West", "is no region"),
        ("s3://bucket?endpoint=localhost:8000", "http://HOST:PORT"),
    ]


class TestFaults(StoreFaults, Doubles, Costs):
    """An emulator by a wire."""

    @pytest.fixture
    def hooks(self, emulated_hooks: S3Hooks) -> S3Hooks:
        """Not on AWS."""
        return emulated_hooks


def test_names_of_objects() -> None:
    """Each key has a name of its own, which is no longer than S3 bears, is not hidden, and leads back to the key."""
    names = [object_name(key) for key in NASTY_KEYS]
    assert len(set(names)) == len(NASTY_KEYS)
    assert [key_of(name) for name in names] == NASTY_KEYS
    assert all(len(name.encode()) <= 800 and "/" not in name and not name.startswith(".") for name in names)
    assert [key_of(name) for name in ("a%2fb", "%41", "a/b", ".cronlock", "")] == [""] * 5


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_refusal_is_followed_by_a_read(guarded: S3Store, gate: Gate, key: str, code: str) -> None:
    """A condition that does not hold, or another request then: nothing was done; what is there is shown."""
    _, seen = swap(guarded, key, read(guarded, key), b"there", lease=LONG)
    before = len(gate.actions)
    gate.refuse(code, status=412 if code == "PreconditionFailed" else 409)
    done, cell = swap(guarded, key, seen, b"too late")
    assert (done, cell.data, cell.version, cell.lease > 0) == (False, b"there", seen.version, True)
    assert gate.actions[before:] == ["PutObject", "GetObject"]
    assert swap(guarded, key, cell, b"in time")[0]


def test_request_that_comes_in_twice(guarded: S3Store, gate: Gate, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is refused by what the first one wrote: the swap was done all the same."""
    forward = gate.answer

    def twice(method: str, *rest: Any) -> tuple[int, dict[str, str], bytes]:
        if method == "PUT":
            forward(method, *rest)
        return forward(method, *rest)

    monkeypatch.setattr(gate, "answer", twice)
    seen = read(guarded, key)
    for data in (b"first", b"second"):
        done, seen = swap(guarded, key, seen, data, lease=LONG)
        assert (done, seen.data) == (True, data)
        there = read(guarded, key)
        assert (there.data, there.version) == (data, seen.version)


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        ("SlowDown", 503, "throttled"),
        ("InternalError", 500, "PutObject failed: InternalError"),
        ("AccessDenied", 403, "no permission for s3:PutObject"),
        ("PermanentRedirect", 301, "the bucket is elsewhere"),
    ],
)
def test_failures_are_distinguished(
    guarded: S3Store, gate: Gate, monkeypatch: pytest.MonkeyPatch, key: str, code: str, status: int, text: str
) -> None:
    """None of them is a refusal: whether the swap was done stays open, and a person hears what it was."""
    monkeypatch.setattr("cronlock.engines.wire.stream._FIRST_PAUSE", 1e6)  # No time to ask again.
    _, seen = swap(guarded, key, read(guarded, key), b"there")
    gate.refuse(code, "why", status=status)
    with pytest.raises((BackendUnavailable, ConfigError), match=text):
        swap(guarded, key, seen, b"mine")
    assert content(f"s3://cronlock?endpoint={gate.endpoint}", key) is not None
    assert read(guarded, key).data == b"there"


# Stores that are no S3


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        (("if-match", "if-none-match"), "ignores If-None-Match in"),
        (("if-none-match",), "ignores If-None-Match in"),
        (("if-match",), "ignores If-Match in"),
        ((), "does not know"),
    ],
)
def test_store_that_keeps_no_conditions(gate: Gate, lost: tuple[str, ...], says: str) -> None:
    """It is refused by the first run, which runs nothing, and by every later one: no object of a key is ever made."""
    gate.careless, gate.lost = ("PUT", "DELETE"), lost
    url = f"s3://cronlock/careless-{fresh_key()}?endpoint={gate.endpoint}"
    if not lost:
        gate.answers_to["PutObject"] = [(501, b"<Error><Code>NotImplemented</Code></Error>")] * 2
    for _ in range(2):
        one = a_store(url)
        with pytest.raises(
            ConfigError, match=rf"{says} conditional writes, so two nodes could be granted one key: use AWS's S3"
        ):
            Leases(one).acquire(make_claim("a-key"))
        assert list(one.keys()) == []
        one.close()


def test_store_that_ignores_conditions_of_deletes(guarded: S3Store, gate: Gate, key: str) -> None:
    """Nothing is removed there: a run that began just now would lose its lease, and another could begin beside it."""
    _, seen = swap(guarded, key, read(guarded, key), b"there")
    for conditional in (False, True):
        gate.careless = () if conditional else ("DELETE",)
        if conditional:
            assert guarded.remove(key, seen, guarded.objects.deadline())
        else:
            with pytest.raises(Forbidden, match="ignores If-Match in deletes"):
                guarded.remove(key, seen, guarded.objects.deadline())
        assert (read(guarded, key).data is None) == conditional


def test_conditions_are_tried_once(gate: Gate) -> None:
    """The first key of a prefix has them tried; every later one looks at what that left."""
    url = f"s3://cronlock/new-{fresh_key()}?endpoint={gate.endpoint}"
    counts = []
    for key in ("one", "two"):
        gate.actions.clear()
        one = a_store(url)
        granted(Leases(one).acquire(make_claim(key)))
        counts.append((gate.actions.count("GetObject"), gate.actions.count("PutObject")))
        assert PROOF not in set(one.keys())
        one.close()
    assert counts == [(2, 5), (2, 1)]


def test_two_nodes_try_conditions_at_once(gate: Gate) -> None:
    """An object that another node just made is not taken for an ignored condition."""
    url = f"s3://cronlock/both-{fresh_key()}?endpoint={gate.endpoint}"
    with bucket(url) as one, bucket(url) as other:
        one.put(PROOF, b"being tried", None, one.deadline())
        other.trust(other.deadline())
        one.trust(one.deadline())
        found = one.get(PROOF, one.deadline())
        assert found is not None
        assert b"was seen to keep" in found[0]


@pytest.mark.parametrize(
    "body", [b"", b"null", b"<", b"\xff\xfe", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", b"<a>", b"<Error/>" * 9]
)
@pytest.mark.parametrize("status", [200, 302, 400, 404, 500])
def test_nonsense_is_no_grant(guarded: S3Store, gate: Gate, key: str, status: int, body: bytes) -> None:
    """Whatever a server answers that is not S3, nothing is taken for granted, and no traceback comes of it."""
    gate.answers += [(status, body)] * 3
    with pytest.raises((BackendUnavailable, ForeignValue)):
        Leases(guarded).acquire(make_claim(key))
    gate.answers.clear()
    assert isinstance(Leases(guarded).acquire(make_claim(key)), Grant)


def test_list_that_has_no_end(guarded: S3Store, gate: Gate) -> None:
    """A server that gives the same page for ever is found out."""
    page = b"<L><Contents><Key>cronlock/a</Key></Contents><NextContinuationToken>t</NextContinuationToken></L>"
    gate.answers += [(200, page)] * 3
    with pytest.raises(BackendUnavailable, match="has no end"):
        list(guarded.keys())


def test_list_of_many_pages(guarded: S3Store, gate: Gate) -> None:
    """Keys come from all pages; what is hidden, or no key's, is passed over."""
    pages = [
        b"<L xmlns='u:v'><Contents><Key>cronlock/a%2Fb</Key></Contents><Key>other/x</Key><Key/>"
        b"<NextContinuationToken>t/+=</NextContinuationToken></L>",
        b"<L><Contents><Key>cronlock/\xc3\xa4 &amp;</Key></Contents><Key>cronlock/.cronlock</Key></L>",
    ]
    gate.answers += [(200, page) for page in pages]
    assert list(guarded.keys()) == ["a/b", "\u00e4 &"]


# Buckets


@pytest.mark.parametrize(
    ("name", "params", "host", "path"),
    [
        ("bucket", "region=eu-west-1", "bucket.s3.eu-west-1.amazonaws.com", "/cronlock/k"),
        ("bucket", "region=cn-north-1", "bucket.s3.cn-north-1.amazonaws.com.cn", "/cronlock/k"),
        ("a.bucket", "region=eu-west-1", "s3.eu-west-1.amazonaws.com", "/a.bucket/cronlock/k"),
        ("team-abc-s3alias", "region=eu-west-1", "team-abc-s3alias.s3.eu-west-1.amazonaws.com", "/cronlock/k"),
        ("bucket", "endpoint=http://minio:9000", "minio:9000", "/bucket/cronlock/k"),
        ("bucket", "endpoint=https://s3.example.net/base", "s3.example.net", "/base/bucket/cronlock/k"),
    ],
)
def test_where_a_bucket_is(name: str, params: str, host: str, path: str) -> None:
    """AWS has a host for each bucket whose name fits a certificate; elsewhere it is a part of the path."""
    objects = a_store(f"s3://{name}?{params}").objects
    connection = objects.endpoint and objects._connected()
    assert connection
    assert connection.authority == host
    assert objects.path(objects.path_of("k")) == path


def test_size_of_a_record(store: S3Store, url: str, key: str) -> None:
    """With a full history an object is a few kilobytes, so that a request is what is paid for."""
    node = Leases(store)
    for number in range(HISTORY + 3):
        owner = f"ip-10-0-142-201.eu-central-1.compute.internal:4711:{number:016x}"
        claim = make_claim(key, owner=owner, host=owner.partition(":")[0], program="make-invoices", ignore_hold=True)
        assert node.release(granted(node.acquire(claim)), make_ending(), keep_hold=True)
    assert len(content(url, key) or b"") < 4096


def test_etag_that_no_object_has(store: S3Store, url: str, key: str) -> None:
    """The requests that test conditions are refused by a store that keeps them."""
    overwrite(url, key, b"there")
    assert store.objects.put(object_name(key), b"mine", NO_TAG, store.objects.deadline()) is None
    assert content(url, key) == b"there"
