"""Fixtures of the tests on S3; see `wire.aws_suite`."""

from __future__ import annotations

import pytest

from labs.servers.aws import EMULATORS

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
from .s3_nodes import S3Suite

kind = each_kind(S3Suite, EMULATORS)


@pytest.fixture(scope="session")
def suite() -> type[S3Suite]:
    """Say how the service is reached."""
    return S3Suite
