"""The checks of ``cronlock doctor`` on S3, and the bucket that it makes."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding
from ...errors import BackendUnavailable
from ..wire import aws_doctor
from ..wire.aws import Denied
from ..wire.doctor import judge_server_clock
from .objects import Careless, Objects, prefix_of
from .store import S3Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case

#: Permissions of a run, and of the doctor and the other commands besides.
RUN_ACTIONS = ("GetObject", "PutObject", "ListBucket")
DOCTOR_ACTIONS = ("DeleteObject", "GetBucketVersioning", "GetLifecycleConfiguration")
#: How many nodes try to overwrite one object at the same time.
_RACERS = 8


def create(case: Case) -> Iterator[Finding]:
    """Make the bucket unless it is there. Raises BackendUnavailable, and ConfigError."""
    objects = case.store(S3Store).objects
    make = partial(objects.create, time.monotonic() + case.timeout)
    yield aws_doctor.create(f"bucket {objects.bucket}", make, "s3:CreateBucket")


def reach(case: Case) -> Iterator[Finding]:
    """Find credentials, connect, and see that the bucket is there. Raises BackendUnavailable."""
    objects = case.store(S3Store).objects
    case.share_key()
    look = partial(objects.get, case.key, case.deadline())
    hint = "; without s3:ListBucket AWS refuses a missing object, too"
    yield from aws_doctor.reach(objects, "bucket", look, hint=hint)


def examine(case: Case) -> Iterator[Finding]:
    """Look whether conditions are kept, at the bucket's settings, what these credentials may do, and at the clock."""
    store = case.store(S3Store)
    yield _conditions(case, store.objects)
    yield from _versions(case, store.objects)
    yield aws_doctor.count_keys(store, "s3:ListBucket")
    yield judge_server_clock(store.service.times, store.service.clock.wall(), case.hold)


def _conditions(case: Case, objects: Objects) -> Finding:
    """Try on an object of our own, also with several requests at the same moment, which is where imitations fail."""
    from concurrent.futures import ThreadPoolExecutor

    name = f".cronlock-{os.urandom(8).hex()}"
    nodes = [Objects(case.url, objects.bucket, prefix_of(case.url), case.timeout) for _ in range(_RACERS)]
    try:
        tag = objects.prove(name, case.deadline())
        with ThreadPoolExecutor(_RACERS) as pool:
            asked = [pool.submit(one.put, name, os.urandom(8).hex().encode(), tag, case.deadline()) for one in nodes]
            won = sum(one.result() is not None for one in asked)
        if won > 1:
            text = f"of {_RACERS} conditional writes at the same moment {won} succeeded instead of one"
            return Finding("conditions", BAD, text, "use AWS's S3, or a store that compares and writes in one step")
    except Careless as error:
        return Finding("conditions", BAD, str(error))
    finally:
        for one in nodes:
            one.close()
        try:
            objects.delete(name, None, case.deadline())
        except Denied:
            pass
    return Finding("conditions", OK, "conditional writes are kept")


def _versions(case: Case, objects: Objects) -> Iterator[Finding]:
    try:
        answer = objects.ask_about_bucket("GetBucketVersioning", "versioning", case.deadline())
        if objects.field(objects.xml(answer.response), "Status") != "Enabled":
            return
        known = ("NoSuchLifecycleConfiguration",)
        answer = objects.ask_about_bucket("GetLifecycleConfiguration", "lifecycle", case.deadline(), known)
    except BackendUnavailable:
        return  # Of little weight, and often not allowed.
    if answer.code or b"NoncurrentDays" not in answer.response.body:
        remedy = "add the lifecycle rule of cronlock-backends(7), or switch versioning off"
        yield Finding("versions", WARNING, "each write leaves a version that nothing removes", remedy)
    else:
        yield Finding("versions", NOTE, "each write leaves a version, until the lifecycle rule removes it")
