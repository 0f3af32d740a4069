"""Checks that the doctors of AWS's services share: credentials, the service, a run's table or bucket, keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding
from ...doctor.probe import PROGRAM
from ...errors import BackendUnavailable, ConfigError
from .aws import Denied
from .doctor import REACHABLE, judge_made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...lease.store import Store
    from .aws import Service

MAKE_IT = "make it: cronlock doctor --create, or the manual's templates"


def create(what: str, make: Callable[[], bool], action: str) -> Finding:
    """Make `what`, such as "table jobs", unless it exists; `make` returns whether it made it.

    `action` is what an IAM policy must allow for that. Raises BackendUnavailable, and ConfigError.
    """
    try:
        return judge_made(what, made=make())
    except Denied as error:
        remedy = f"run this once with credentials that may {action}, or use the manual's templates"
        return Finding("create", BAD, str(error), remedy)


def reach(
    service: Service, what: str, look: Callable[[], object], *, make: str = MAKE_IT, hint: str = ""
) -> Iterator[Finding]:
    """Find credentials, connect, and check that `what` exists: `look` asks for it.

    `make` is the remedy if it does not exist, `hint` follows AWS's refusal. Raises BackendUnavailable.
    """
    try:
        source, endpoint = f"{service.source}, region {service.region}", service.endpoint
    except (BackendUnavailable, ConfigError) as error:
        yield Finding("credentials", BAD, str(error), "give the machine a role, or see the AWS tools' documentation")
        return
    yield Finding("credentials", OK, source)
    try:
        look()
    except ConfigError as error:
        # The service answered, even if it has no such thing.
        yield Finding(REACHABLE, OK, endpoint)
        yield Finding(what, BAD, str(error), make)
    except Denied as error:
        yield Finding("permissions", BAD, f"{error}{hint}")
    else:
        yield Finding(REACHABLE, OK, endpoint)


def count_keys(store: Store, action: str) -> Finding:
    """Count the keys, which takes `action` of IAM."""
    try:
        names = list(store.keys())
    except Denied:
        return Finding("keys", NOTE, f"`cronlock status` cannot list them: these credentials may not {action}")
    except BackendUnavailable as error:
        return Finding("keys", WARNING, f"cannot list them: {error}")
    number = sum(not name.startswith(f"{PROGRAM} ") for name in names)
    return Finding("keys", OK, f"{number} with a record", values={"keys": number})
