"""Fixtures of the tests on DynamoDB; see `wire.aws_suite`."""

from __future__ import annotations

import pytest

from labs.servers.aws import DYNAMODB_EMULATORS

from ..wire.aws_suite import credentials as credentials
from ..wire.aws_suite import each_kind
from ..wire.aws_suite import emulated_hooks as emulated_hooks
from ..wire.aws_suite import emulator as emulator
from ..wire.aws_suite import gate as gate
from ..wire.aws_suite import guarded as guarded
from ..wire.aws_suite import hooks as hooks
from ..wire.aws_suite import store as store
from ..wire.aws_suite import swift_hooks as swift_hooks
from ..wire.aws_suite import url as url
from .dynamodb_nodes import DynamoDBSuite

kind = each_kind(DynamoDBSuite, DYNAMODB_EMULATORS)


@pytest.fixture(scope="session")
def suite() -> type[DynamoDBSuite]:
    """Say how the service is reached."""
    return DynamoDBSuite
