"""S3 and clocks that are wrong."""

from __future__ import annotations

from typing import ClassVar

from cronlock.engines.s3.store import decode, encode
from labs.servers.aws import AwsServer

from ..wire.aws_suite import Suite
from ..wire.clocks import Clocks
from .s3_nodes import S3Suite, content, overwrite


class TestClocks(Clocks):
    """A bucket."""

    suite: ClassVar[type[Suite]] = S3Suite
    look: ClassVar[str] = "GetObject"
    too_late: ClassVar[tuple[str, str]] = ("RequestTimeTooSkewed", "The difference is too large.")

    def ends(self, server: AwsServer, key: str) -> tuple[float, float]:
        """Look into the object."""
        cell = decode(content(self.suite.url(server.endpoint), key) or b"", "tag")
        return cell.lapses_at, cell.hold_until

    def set_hold(self, server: AwsServer, key: str, end: float) -> None:
        """Rewrite the object."""
        cell = decode(content(self.suite.url(server.endpoint), key) or b"", "another")
        cell.hold_until = end
        overwrite(self.suite.url(server.endpoint), key, encode(cell))
